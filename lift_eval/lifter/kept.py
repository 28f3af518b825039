"""Adapters in the store, written for use without it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from lift_eval.errors import StoreError
from lift_eval.lifter.lifter import Lifter
from lift_eval.recipe import Recipe
from lift_eval.store import Store, Training

logger = logging.getLogger(__name__)


def export_kept(
    store: Store, key: str, folder: Path, *, model: str | None = None, merged: bool = False
) -> None:
    """Write an adapter of the store; its base model is loaded for that.

    Args:
        store: The store.
        key: The adapter's key, or the beginning of it.
        folder: A new or empty folder.
        model: Folder or Hub name of the base model. None means the one that the entry names.
        merged: Whether to write the whole base with the adapter in its weights, and the tokenizer.

    Raises:
        StoreError: If the store has no such adapter, several, or one that cannot be used.
        LiftEvalError: As loading the model does, and `AdaptedModel.save_adapter`.
    """
    found = [entry for entry in store.entries() if entry.kind == Training.kind and entry.key.startswith(key)]
    if len(found) != 1:
        raise StoreError(
            f"KEY must be the beginning of one adapter's key, got '{key}', with which {len(found)} begin; "
            "'lift-eval store ls' lists them"
        )
    about: dict[str, Any] = store.describe(found[0]).get("about", {})
    kept = store.load_tensors(Training, found[0].key)
    if kept is None or "settings" not in about:
        raise StoreError(
            f"adapter {found[0].key[:16]} is damaged, or was kept before exports noted their settings; lift the "
            "document again"
        )
    name = model or about["model"]
    if not name:
        raise StoreError(f"adapter {found[0].key[:16]} does not name its base model; name it with --model")
    lifter = Lifter.from_pretrained(name, Recipe.model_validate(about["settings"]), store=store)
    if lifter.base_digest != about["base"]:
        logger.warning(
            "'%s' differs from the base that the adapter was trained on, in its weights, its device or its attention; "
            "if it has other weights, name the right one with --model",
            name,
        )
    lifter.restore(kept[1])
    lifter.save_adapter((about["document"], about["digest"]), folder, merged=merged)
