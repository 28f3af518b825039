"""Adapters that leave the store for use without it, and adapters made elsewhere that come into it."""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

import yaml

from lift_eval.adapters.folder import CONFIG_FILE, WEIGHTS_FILE
from lift_eval.document import Document
from lift_eval.errors import AdapterError, StoreError
from lift_eval.export.folder import prepare
from lift_eval.lifter.lifter import Lifter
from lift_eval.recipe import FolderSettings, Recipe, baseline_of, default_recipe, load_recipe
from lift_eval.store import Store, Training

logger = logging.getLogger(__name__)

IMPORTED = "imported"
"""The store's folder of adapters made elsewhere."""
IMPORTED_RECIPE = "Adapters made elsewhere, used instead of training."


def export_kept(
    store: Store,
    key: str,
    folder: Path,
    *,
    model: str | None = None,
    merged: bool = False,
    results: Path | None = None,
) -> None:
    """Write an adapter of the store; its base model is loaded for that.

    Args:
        store: The store.
        key: The adapter's key, or the beginning of it.
        folder: A new or empty folder.
        model: Folder or Hub name of the base model. None means the one that the entry names.
        merged: Whether to write the whole base with the adapter in its weights, and the tokenizer.
        results: Results of runs with this adapter, whose scores on the document the card shows.

    Raises:
        StoreError: If the store has no such adapter, several, or one that cannot be used.
        LiftEvalError: As loading the model does, and `AdaptedModel.save_adapter`.
    """
    found = [entry for entry in store.entries() if entry.kind == Training.kind and entry.key.startswith(key)]
    if len(found) != 1:
        raise StoreError(
            f"KEY must be the beginning of exactly one adapter's key, got '{key}', with which {len(found)} begin; "
            "'lift-eval store ls' lists them"
        )
    about: dict[str, Any] = store.describe(found[0]).get("about", {})
    kept = store.load_tensors(Training, found[0].key)
    if kept is None or "settings" not in about:
        raise StoreError(
            f"adapter {found[0].key[:16]} is damaged, or was stored by an old version without its settings; lift the "
            "document again"
        )
    name = model or about["model"]
    if not name:
        raise StoreError(f"adapter {found[0].key[:16]} does not name its base model; name it with --model")
    recipe = Recipe.model_validate(about["settings"])
    if recipe.adapter.positions(document_tokens=1):
        raise StoreError(
            f"adapter {found[0].key[:16]} is a {recipe.adapter.type}, which starts from its document, and the store "
            "keeps no documents; lift the document in Python and call session.save"
        )
    prepare(folder)  # before the model is loaded
    lifter = Lifter.from_pretrained(name, recipe, store=store)
    if lifter.base_digest != about["base"]:
        logger.warning(
            "'%s' differs from the base that the adapter was trained on, in its weights, its device or its attention; "
            "if it has other weights, name the right one with --model",
            name,
        )
    lifter.restore(kept[1])
    origin = (about["document"], about["digest"])
    lifter.save_adapter(origin, folder, merged=merged, results=results)


def import_adapter(store: Store, adapter: Path, document: Document, model: str | None) -> Path:
    """Copy an adapter that was made elsewhere into the store, once it is known to fit its model.

    Adapters of one configuration lie in one folder, as ``adapter.type: folder`` reads it, with a recipe that enters
    them. They are no cache, so nothing prunes them.

    Args:
        store: The store.
        adapter: A peft folder.
        document: The document that it was made for.
        model: Folder or Hub name of its base model. None means the bundled one.

    Returns:
        The recipe's file.

    Raises:
        AdapterError: If the folder holds no adapter, or one that does not fit the model.
        LiftEvalError: As loading the model does.
        StoreError: If the store cannot be written.
    """
    missing = [name for name in (CONFIG_FILE, WEIGHTS_FILE) if not (adapter / name).is_file()]
    if missing:
        raise AdapterError(
            f"'{adapter}' must hold {' and '.join(missing)}, got none; name a folder that peft wrote"
        )
    try:
        (store.folder / IMPORTED).mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=store.folder / IMPORTED) as staged:
            copy = Path(staged) / document.digest
            copy.mkdir()
            for name in (CONFIG_FILE, WEIGHTS_FILE):
                shutil.copyfile(adapter / name, copy / name)
            base = baseline_of(default_recipe(model))
            settings = FolderSettings(path=staged)
            with Lifter.from_pretrained(model, load_recipe(base, {"adapter": settings.model_dump()})).lift(
                document
            ):
                pass
            home = store.folder / IMPORTED / settings.configuration_digest()
            home.mkdir(exist_ok=True)
            shutil.rmtree(home / document.digest, ignore_errors=True)
            copy.rename(home / document.digest)
        recipe = {
            "extends": base,
            "description": IMPORTED_RECIPE,
            "adapter": {"type": "folder", "path": str(home)},
        }
        (home / "imported.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    except AdapterError as error:
        raise AdapterError(str(error).replace(str(copy), str(adapter))) from error
    except OSError as error:
        raise StoreError(
            f"the store {store.folder} cannot be written ({error.strerror}); name another"
        ) from error
    return home / "imported.yaml"
