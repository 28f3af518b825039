"""LIFT (Long Input Fine-Tuning) for any causal language model, and its benchmark in lm-evaluation-harness.

    from lift_eval import Document, Lifter

    lifter = Lifter.from_pretrained("folder or Hub name", recipe="lora")
    with lifter.lift(Document(text, title="...")) as document:
        print(document.answer(["Who ...?", "When ...?"]))

The names below are the public ones. They are imported when they are first used, so that ``import lift_eval`` costs
nothing. It lets peft load adapters of Gated Memory.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lift_eval import _autoload

__version__ = "0.1.0"

if TYPE_CHECKING:
    from lift_eval._autoload import register
    from lift_eval.document import Document
    from lift_eval.errors import LiftEvalError
    from lift_eval.lifter.lifter import Lifter
    from lift_eval.lifter.session import LiftedDocument
    from lift_eval.recipe import Recipe, load_recipe, shipped_recipes
    from lift_eval.record.record import DocumentRecord
    from lift_eval.store import Store, open_store

__all__ = [
    "Document",
    "DocumentRecord",
    "LiftEvalError",
    "LiftedDocument",
    "Lifter",
    "Recipe",
    "Store",
    "load_recipe",
    "open_store",
    "register",
    "shipped_recipes",
]

_HOMES = {
    "Document": "lift_eval.document",
    "DocumentRecord": "lift_eval.record.record",
    "LiftEvalError": "lift_eval.errors",
    "LiftedDocument": "lift_eval.lifter.session",
    "Lifter": "lift_eval.lifter.lifter",
    "Recipe": "lift_eval.recipe",
    "Store": "lift_eval.store",
    "load_recipe": "lift_eval.recipe",
    "open_store": "lift_eval.store",
    "register": "lift_eval._autoload",
    "shipped_recipes": "lift_eval.recipe",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    if name not in _HOMES:
        raise AttributeError(f"module 'lift_eval' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(["__version__", *__all__])


_autoload.extend_peft()
