"""Where a run's store is."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from lift_eval.errors import StoreError
from lift_eval.store.store import Store

logger = logging.getLogger(__name__)

ENVIRONMENT_VARIABLE = "LIFT_EVAL_STORE"


def open_store(where: str | Path | bool | None = None) -> Store | None:
    """The store that a user means.

    Args:
        where: A folder; ``off`` (or false) for no store; none for the folder in the environment variable
            LIFT_EVAL_STORE, else for the default one.

    Returns:
        The store, or none where there shall be none, or where the default one cannot be made.

    Raises:
        StoreError: If a folder that was named cannot be made.
    """
    named = os.environ.get(ENVIRONMENT_VARIABLE) or None if where is None or where is True else where
    if named is False or str(named).lower() in ("off", "false"):
        return None
    if named is not None:
        return Store(Path(str(named)))
    try:
        return Store(default_folder())
    except (StoreError, RuntimeError) as error:  # a user without a home has no default
        logger.warning("%s; the run goes on without a store", error)
        return None


def default_folder() -> Path:
    """``lift_eval`` in the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(cache) if Path(cache).is_absolute() else Path.home() / ".cache") / "lift_eval"
