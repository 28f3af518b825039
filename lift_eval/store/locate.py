"""Where a run's store is."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from lift_eval.errors import StoreError
from lift_eval.store.store import Store

logger = logging.getLogger(__name__)

ENVIRONMENT_VARIABLE = "LIFT_EVAL_STORE"
"""Folder of the store, unless ``store=`` or ``--store`` names one; ``off`` keeps nothing."""


def open_store(where: Store | str | Path | bool | None = None) -> Store | None:
    """Open the store that a user names.

    Args:
        where: A store; the path of a folder, as text with a separator in it; ``off`` for no store (YAML makes false of
            it); None for the folder in the environment variable LIFT_EVAL_STORE, else for the default one.

    Returns:
        The store. None means that nothing is kept, or that the default store cannot be made.

    Raises:
        StoreError: If something else is named, or a folder that cannot be made.
    """
    named = os.environ.get(ENVIRONMENT_VARIABLE) or None if where is None else where
    if isinstance(named, Store):
        return named
    if named is False or str(named).lower() == "off":
        return None
    if named is None:
        return _default_store()
    if not isinstance(named, Path) and not {"/", os.sep} & set(str(named)):
        raise StoreError(
            f"{'store' if where is named else ENVIRONMENT_VARIABLE}='{named}' must be 'off' or the path of a folder; "
            f"write './{named}' for a folder of that name, or leave it out for the default"
        )
    return Store(Path(str(named)))


def _default_store() -> Store | None:
    try:
        return Store(default_folder())
    except (StoreError, RuntimeError) as error:  # a user without a home has no default
        logger.warning("%s; the run continues without a store", error)
        return None


def default_folder() -> Path:
    """``lift_eval`` in the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(cache) if Path(cache).is_absolute() else Path.home() / ".cache") / "lift_eval"
