"""A whole run over a few documents: lm-eval, the model class and a tiny checkpoint."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from tests.tiny_models import save_checkpoint

ARGUMENTS: dict[str, Any] = {
    "recipe": "lora",
    "adapter.rank": 4,
    "training.context_epochs": 1,
    "training.joint_epochs": 0,
    "training.learning_rate": 0.02,  # large enough that each document changes the answers
    "training.segment_tokens": 128,
    "training.stride_tokens": 96,
    "auxiliary.strategy": "none",
    "precision.quantization": "none",
    "precision.dtype": "float32",
}
TASKS = {
    "answers": {
        "output_type": "generate_until",
        "doc_to_target": "{{name}}",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 6},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    },
    "choices": {
        "output_type": "multiple_choice",
        "doc_to_choice": ["yes", "no", "Ada"],
        "doc_to_target": 0,
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    },
    "texts": {
        "output_type": "loglikelihood_rolling",
        "doc_to_target": "{{context}}",
        "metric_list": [{"metric": "bits_per_byte"}],
    },
}


def document(name: str, sentences: int) -> str:
    """An article about nobody; no two names give the same one."""
    return " ".join(
        f"In {1900 + year} {name} moved to house number {year * 7 % 11}." for year in range(sentences)
    )


def prepare(folder: Path, *, documents: int = 5, questions: int = 2) -> Path:
    """Write a checkpoint, rows about documents of different lengths, and tasks that read them.

    Args:
        folder: Where to; made.
        documents: How many.
        questions: How many about each.
    """
    save_checkpoint(folder / "checkpoint")
    rows = [
        {
            "name": f"Person {number}",
            "title": f"Article {number}",
            "context": document(f"Person {number}", 5 + 3 * (number * 5 % 7)),
            "question": f"Where was Person {number} in {1900 + question}?",
        }
        for question in range(questions)
        for number in range(documents)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def ask_once_about_this_machine() -> None:
    """Let lm-eval keep what it asks pip, compilers and drivers for each results file; forked processes have it too."""
    from torch.utils import collect_env

    collect_env.get_pretty_env_info = cache(collect_env.get_pretty_env_info)
    collect_env.get_pretty_env_info()


def task(folder: Path, name: str) -> dict[str, Any]:
    return {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {
            "data_files": {"test": str(folder / "rows.jsonl")},
            "cache_dir": str(folder / "cache"),
        },
        "test_split": "test",
        "doc_to_text": "" if name == "texts" else "{{title}}\n{{context}}\nQuestion: {{question}}\nAnswer:",
        **TASKS[name],
    }


def run(
    folder: Path,
    tasks: tuple[str, ...] = tuple(TASKS),
    *,
    model: Any = "lift",
    **arguments: Any,
) -> dict[str, Any] | None:
    """Run tasks with the model class, or with one derived from it.

    Returns:
        What came of it; nothing in a process that leaves the results to another.
    """
    import lm_eval
    from lm_eval.tasks import TaskManager

    given = {"pretrained": str(folder / "checkpoint"), **ARGUMENTS, **arguments}
    done = lm_eval.simple_evaluate(
        model=model if model == "lift" else model(**given, device="cpu", batch_size=4),
        model_args=given,
        tasks=[task(folder, name) for name in tasks],
        task_manager=TaskManager(include_defaults=False),
        device="cpu",
        batch_size=4,
        log_samples=True,
        bootstrap_iters=0,
    )
    return None if done is None else outcome(done)


def outcome(done: dict[str, Any]) -> dict[str, Any]:
    """What a person reads of a run: scores, every answer, and the record."""
    read: dict[str, Any] = json.loads(
        json.dumps(
            {
                "scores": done["results"],
                "answers": {
                    name: [[sample["doc_id"], sample["resps"]] for sample in samples]
                    for name, samples in done["samples"].items()
                },
                "record": {key: done["config"]["lift"][key] for key in ("totals", "documents")},
            }
        )
    )
    return read


def trainings(done: dict[str, Any]) -> dict[str, Any]:
    """What is on the record of each document but how long it took and where it came from."""
    kept = ("tokens", "questions", "losses", "kept", "incomplete_answers")
    return {document["title"]: [document[key] for key in kept] for document in done["record"]["documents"]}
