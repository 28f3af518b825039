"""A small run of the library over a store, for several tests."""

from __future__ import annotations

from typing import Any

from lift_eval.document import Document
from lift_eval.lifter.lifter import Lifter
from lift_eval.recipe import Recipe, load_recipe
from lift_eval.store import Store
from tests.tiny_models import tiny_model, tiny_tokenizer

DOCUMENTS = [
    Document(f"{name} lives in house number {number} and keeps {number + 2} cats, as everybody knows.", name)
    for number, name in enumerate(("Ada", "Bob", "Cleo"))
]
QUESTIONS = ["How many cats?", "Which house?"]


def recipe(**overrides: Any) -> Recipe:
    adapter = {} if "adapter__type" in overrides else {"adapter.rank": 4}
    return load_recipe(
        "lora",
        {
            **adapter,
            "training.context_epochs": 2,
            "training.learning_rate": 0.05,  # large enough that each document changes the answers
            "training.segment_tokens": 64,
            "training.stride_tokens": 32,
            "decoding.max_new_tokens": 4,
            "precision.dtype": "float32",
            **{key.replace("__", "."): value for key, value in overrides.items()},
        },
    )


def lifter(store: Store | None, seed: int = 0, **overrides: Any) -> Lifter:
    return Lifter(tiny_model(seed=seed), tiny_tokenizer(), recipe(**overrides), store=store)


def run(store: Store | None, **overrides: Any) -> dict[str, dict[str, Any]]:
    """Answers and records of all documents, by title."""
    results = {}
    tool = lifter(store, **overrides)
    for document in DOCUMENTS:
        with tool.lift(document) as session:
            answers = session.answer(QUESTIONS)
            record = session.record
            results[document.title] = {
                "answers": answers,
                "losses": record.losses,
                "tokens": [record.trained_tokens, record.supervised_tokens, record.questions],
                "incomplete": record.incomplete_answers,
                "reused": record.reused,
            }
    return results


def outcome(results: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What must not depend on the store."""
    return {title: {**result, "reused": None} for title, result in results.items()}
