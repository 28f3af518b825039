"""lm-eval's own cache of answers (``--use_cache``), kept from mixing what does not belong together.

It knows a request by its prompt alone, whatever the model and the recipe, and keeps every answer that it is given,
also the empty one of a document that was given up.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import Any

from lm_eval.api.model import hash_args

from lift_eval.errors import StoreError

OWNER = "lift_eval"
GIVEN_UP = "lift_eval given up"


def claim(cache: MutableMapping[str, Any], owner: str) -> None:
    """Take a cache for a model and recipe, and drop what was given up in earlier runs.

    Args:
        cache: lm-eval's.
        owner: Names the model and the recipe.

    Raises:
        StoreError: If the cache belongs to something else.
    """
    theirs = cache.get(OWNER, "another program" if len(cache) else owner)
    if theirs != owner:
        raise StoreError(
            f"the cache of --use_cache holds answers of {theirs}, this run is {owner}; give each model and recipe a "
            "cache of its own"
        )
    cache[OWNER] = owner
    for key in cache.pop(GIVEN_UP, []):
        cache.pop(key, None)


def note_given_up(cache: MutableMapping[str, Any], kind: str, requests: Iterable[Any]) -> None:
    """Let the next run ask requests again, though this one returns something for them.

    Args:
        cache: lm-eval's.
        kind: ``generate_until``, ``loglikelihood`` or ``loglikelihood_rolling``.
        requests: Their arguments.
    """
    cache[GIVEN_UP] = [*cache.get(GIVEN_UP, []), *(hash_args(kind, arguments) for arguments in requests)]
