"""An experiment with invented runs that has everything a report can show."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import yaml

from tests.reporting.helpers import digest, document_record, rows, write_run

DOCUMENTS = 12
LENGTHS, DEPTHS = (1000, 4000, 16000), (0.0, 0.5, 1.0)


def write_everything(folder: Path, *, questions: int = 6, documents: int = DOCUMENTS) -> Path:
    """Write runs of ICL, LIFT with two seeds and a closed-book Gated Memory, and the experiment file."""
    rng = random.Random(0)
    data = {task: rows(documents, questions) for task in ("loogle_shortqa", "loogle_longqa")}

    def scores(inside: float, outside: float) -> dict[str, list[float]]:
        return {
            task: [
                float(rng.random() < (outside if 0.25 <= row["depth"] <= 0.75 else inside)) for row in some
            ]
            for task, some in data.items()
        }

    def run(name: str, recipe: str, adapter: str, made: dict[str, list[float]], **options: Any) -> None:
        prompt = {"document": options.pop("document", "truncated"), "max_tokens": 7800}
        write_run(
            folder / "results" / name,
            made,
            data,
            model_args={"recipe": recipe},
            recipe={"name": recipe, "adapter": {"type": adapter}, "prompt": prompt},
            also=["token_f1"],
            **options,
        )

    run("icl", "icl", "none", scores(0.8, 0.3), documents=_documents(rng, documents))
    for seed in (0, 1):
        run(
            f"lora-{seed}",
            "lora",
            "lora",
            scores(0.75, 0.7),
            seed=seed,
            documents=_documents(rng, documents, train=1),
        )
    gates = [0.1, 0.4, 0.2]
    run(
        "gated",
        "gated",
        "gated_memory",
        scores(0.6, 0.7),
        document="none",
        documents=_documents(rng, documents, train=2, answer=0.2, gates=gates),
    )
    needles = [
        {
            "context": f"sha256:{digest(f'{length} {depth} {sample}')}",
            "question": "What is the best thing to do?",
            "answer": "eat a sandwich",
            "length": length,
            "depth": depth,
            "sample": sample,
        }
        for length in LENGTHS
        for depth in DEPTHS
        for sample in range(2)
    ]
    for recipe, lost in (("icl", 4000), ("lora", 16000)):
        found = [float(row["length"] < lost) for row in needles]
        write_run(
            folder / "results" / f"needle-{recipe}",
            {"lift_niah": found},
            needles,
            metric="score",
            model_args={"recipe": recipe},
            recipe={"name": recipe, "adapter": {"type": "none" if recipe == "icl" else recipe}},
        )
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(EXPERIMENT))
    return path


EXPERIMENT: dict[str, Any] = {
    "title": "Everything & <more>",
    "description": "Invented runs.",
    "baseline": "ICL",
    "rows": [
        {"name": "ICL", "model_args": {"recipe": "icl"}},
        {"name": "LIFT", "model_args": {"recipe": "lora"}, "seeds": [0, 1]},
        {"name": "Gated Memory, closed book", "model_args": {"recipe": "gated"}},
        {"name": "Not yet", "model_args": {"recipe": "v2"}},
    ],
    "columns": [
        {"label": "ShortQA", "task": "loogle_shortqa", "metric": "exact_match"},
        {"label": "LongQA", "task": "loogle_longqa", "metric": "exact_match"},
        {"label": "Computation", "task": "loogle_longqa", "metric": "exact_match", "type": "computation"},
        {"label": "Needle", "task": "lift_niah", "metric": "score"},
    ],
}


def _documents(
    rng: random.Random, count: int, *, train: float = 0, answer: float = 1.0, gates: list[float] | None = None
) -> list[dict[str, Any]]:
    return [
        document_record(
            f"doc{number}",
            tokens=(tokens := 3000 + 1000 * number),
            questions=12,
            losses=[3 / (step + 1) + 0.1 * rng.random() for step in range(5)] if train else [],
            trained_tokens=int(8 * tokens * train),
            prompt_tokens=12 * 900,
            answer_tokens=12 * 5,
            operations={"train": 10**7 * tokens * train, "answer": 10**6 * tokens * answer},
            stored_bytes=4 * tokens + (10**6 if train else 0),
            made_pairs=[[f"Who met number {number}?", "Nobody."]] * 60 if train else [],
            seconds={
                "synthesis": train * tokens / 2000,
                "train": train * tokens / 1000,
                "answer": answer * tokens / 2000,
            },
            gates=[gate + 0.02 * rng.random() for gate in gates or []],
        )
        for number in range(count)
    ]
