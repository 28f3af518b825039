"""Writes runs as lm-eval lays them out, with the scores that a test asks for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lift_eval.record.record import DocumentRecord

DATE = "2026-03-01T10-00-00.000000"
LOREM = "The town of Kirwick has a river and a mill, and people who write things down. "


def rows(documents: int = 4, questions: int = 5, *, prefix: str = "doc") -> list[dict[str, Any]]:
    """Rows of our question-answering tasks: several questions about each document."""
    return [
        {
            "doc_id": f"{prefix}{document}",
            "id": str(question),
            "title": f"Title {document}",
            "context": f"sha256:{digest(f'{prefix}{document}')}",
            "question": f"What is number {question} of {document}?",
            "answer": f"answer {question}",
            "evidence": [f"Number {question} is so."],
            "type": ("computation", "timeline_reorder")[question % 2],
            "depth": question / questions,
            "prompt_style": "tiny",
            "prompt_template": "{title}\n{context}\n{question}",
            "judge": "",
        }
        for document in range(documents)
        for question in range(questions)
    ]


def digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def write_run(
    folder: Path,
    scores: Mapping[str, Sequence[float | tuple[float, float]]],
    data: Mapping[str, list[dict[str, Any]]] | list[dict[str, Any]],
    *,
    metric: str = "exact_match",
    also: Sequence[str] = (),
    model: str = "lift",
    model_args: Mapping[str, Any] | None = None,
    recipe: Mapping[str, Any] | None = None,
    seed: int = 0,
    date: str = DATE,
    answer: Callable[[dict[str, Any], float], str] | None = None,
    generation: Mapping[str, Any] | None = None,
    documents: Sequence[Mapping[str, Any]] = (),
    samples: bool = True,
    **changes: Any,
) -> Path:
    """Write a results file and its samples.

    Args:
        folder: Where the files go.
        scores: One score per row, by task.
        data: The rows, the same for all tasks or by task.
        metric: Name of the score.
        also: Names of further scores with the same values.
        model: lm-eval's model class.
        model_args: Its arguments.
        recipe: What our model class records of the recipe.
        seed: Of the run.
        date: Of the file names.
        answer: Makes an answer of a row and its score.
        generation: Generation settings of the tasks.
        documents: Our records of documents.
        samples: Whether samples are kept.
        changes: Top-level keys of the results file to set or, with None, to leave out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    by_task = data if isinstance(data, Mapping) else dict.fromkeys(scores, data)
    config: dict[str, Any] = {
        "model": model,
        "model_args": dict(model_args or {}),
        "random_seed": seed,
        "limit": None,
    }
    if model == "lift":
        config["lift"] = lift_record(recipe or {}, seed, documents)
    results = {
        "results": {
            task: {
                "alias": task,
                "sample_len": len(values),
                **{f"{name},none": mean(values) for name in (metric, *also)},
            }
            for task, values in scores.items()
        },
        "configs": {
            task: {
                "task": task,
                "generation_kwargs": dict(generation or {"do_sample": False, "max_gen_toks": 24}),
            }
            for task in scores
        },
        "versions": dict.fromkeys(scores, 1.0),
        "n-shot": dict.fromkeys(scores, 0),
        "higher_is_better": {task: dict.fromkeys((metric, *also), True) for task in scores},
        "n-samples": {task: {"original": len(v), "effective": len(v)} for task, v in scores.items()},
        "config": config,
        "git_hash": "abc1234",
        "date": 1772359200.0,
        "pretty_env_info": "OS: Debian GNU/Linux 12\nPython version: 3.11.7 (main)\nModel name:  Test CPU\n",
        "lm_eval_version": "0.4.13",
        "transformers_version": "5.17.0",
        "chat_template": None,
        **changes,
    }
    path = folder / f"results_{date}.json"
    path.write_text(json.dumps({key: value for key, value in results.items() if value is not None}))
    if samples:
        for task, values in scores.items():
            lines = [
                json.dumps(sample(row, index, (metric, *also), value, answer))
                for index, (row, value) in enumerate(zip(by_task[task], values, strict=True))
            ]
            (folder / f"samples_{task}_{date}.jsonl").write_text("".join(line + "\n" for line in lines))
    return path


def mean(values: Sequence[float | tuple[float, float]]) -> float:
    pairs = [value if isinstance(value, tuple) else (value, 1.0) for value in values]
    return sum(top for top, _ in pairs) / sum(bottom for _, bottom in pairs)


def sample(
    row: dict[str, Any],
    index: int,
    metrics: Sequence[str],
    value: Any,
    answer: Callable[[dict[str, Any], float], str] | None,
) -> dict[str, Any]:
    text = answer(row, value) if answer else (str(row.get("answer")) if value else "something else")
    return {
        "doc_id": index,
        "doc": row,
        "target": str(row.get("answer", "")),
        "arguments": {"gen_args_0": {"arg_0": prompt_of(row), "arg_1": {}}},
        "resps": [[text]],
        "filtered_resps": [text],
        "filter": "none",
        "metrics": list(metrics),
        **dict.fromkeys(metrics, value),
    }


def prompt_of(row: Mapping[str, Any]) -> str:
    """What lm-eval logs: a mark for the document where the row has its hash alone."""
    context = str(row.get("context"))
    document = f"[document {context}]" if context.startswith("sha256:") else context
    return f"{document} {row.get('question')}"


def lift_record(
    recipe: Mapping[str, Any], seed: int, documents: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    return {
        "recipe": {
            "name": "icl",
            "adapter": {"type": "none"},
            "prompt": {"document": "truncated", "max_tokens": 7800, "chat_template": False},
            "precision": {"quantization": "none"},
            **recipe,
            "seed": seed,
        },
        "recipe_digest": digest(json.dumps(dict(recipe), sort_keys=True))[:16],
        "pretrained": "bundled",
        "window": 8192,
        "device": "cpu",
        "dtype": "float32",
        "versions": {"python": "3.11.7", "lift-eval": "0.1.0", "torch": "2.13.0"},
        "totals": {
            "documents": len(documents),
            "failed_documents": sum(bool(document.get("failure")) for document in documents),
            "retried_documents": sum(bool(document.get("retried")) for document in documents),
            "lost_questions": sum(document.get("lost_questions", 0) for document in documents),
            "questions": sum(document["questions"] for document in documents),
            "documents_with_few_pairs": sum(DocumentRecord(**document).few_pairs for document in documents),
            "questions_not_located": sum(document.get("not_located", 0) for document in documents),
            "questions_without_document": 0,
            "incomplete_answers": 0,
            "trained_tokens": 0,
            "kept": 0.5,
            "seconds": {"load": 1.0, "synthesis": 0.0, "train": 0.0, "answer": 0.0},
            "peak_memory_bytes": 1_000_000_000,
        },
        "documents": [dict(document) for document in documents],
    }


def document_record(name: str, *, tokens: int = 1000, questions: int = 5, **changes: Any) -> dict[str, Any]:
    return {
        "digest": digest(name),
        "title": name,
        "tokens": tokens,
        "questions": questions,
        "kept": 0.4,
        "incomplete_answers": 0,
        "losses": [],
        "trained_tokens": 0,
        "supervised_tokens": 0,
        "seconds": {"synthesis": 0.0, "train": 0.0, "answer": 1.0},
        "memory": {"answer": 2**30},
        "pairs": {},
        "gates": [],
        "failure": "",
        **changes,
    }
