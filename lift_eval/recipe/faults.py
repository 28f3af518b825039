"""What pydantic finds wrong with a recipe or with other settings, as sentences in their own terms."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import ValidationError

from lift_eval.errors import nearest
from lift_eval.recipe.settings import settings_keys

ADAPTER_TYPES = ("none", "lora", "pissa", "gated_memory")


def sentences_of(error: ValidationError, keys: Collection[str] | None = None) -> list[str]:
    """One sentence for each key that breaks a rule; pydantic reports a key once for each branch of a union.

    Args:
        error: What pydantic raised.
        keys: The dotted keys that there are; None means those of a recipe.
    """
    known = (*settings_keys(), "extends") if keys is None else keys
    rules: dict[tuple[str, str], list[str]] = {}
    sentences: list[str] = []
    for item in error.errors():
        key, value = _dotted(item["loc"], known, keep_last=item["type"] == "extra_forbidden"), item["input"]
        if item["type"] == "extra_forbidden":
            hint = "; write it as nested groups" if key in known else nearest(key, _siblings(key, known))
            sentences.append(f"unknown key '{key}' (value {value!r}){hint}")
        elif item["type"] == "value_error":
            sentences.append(str(item["ctx"]["error"]))
        elif item["type"] == "too_short" and item["ctx"]["actual_length"] < len(value):
            continue  # not the list is too short, but its items are faulty
        else:
            rules.setdefault((key, repr(value)), []).append(_rule(dict(item)))
    sentences += [
        f"'{key}' must be {' or '.join(found)}, got {value}" for (key, value), found in rules.items()
    ]
    return sentences


def _dotted(location: tuple[int | str, ...], keys: Collection[str], *, keep_last: bool) -> str:
    """Known keys alone: pydantic also names branches of unions, e.g. ``lora`` or ``tuple[str, ...]``."""
    known = {part for key in keys for part in key.split(".")}
    last = len(location) - 1
    return ".".join(
        str(part)
        for place, part in enumerate(location)
        if part in known or isinstance(part, int) or (keep_last and place == last)
    )


def _siblings(key: str, keys: Collection[str]) -> set[str]:
    group, _, _ = key.rpartition(".")
    below = [known for known in keys if known.startswith(f"{group}." if group else "")]
    depth = key.count(".") + 1
    return {".".join(known.split(".")[:depth]) for known in below}


def _rule(item: Mapping[str, Any]) -> str:
    if item["type"].startswith("union_tag"):
        return f"a group whose 'type' is one of {', '.join(ADAPTER_TYPES)}"
    if item["type"] in ("model_type", "model_attributes_type"):
        return "a group of keys"
    if item["type"] == "too_short":
        return f"a list of {item['ctx']['min_length']} or more"
    if item["type"] == "too_long":
        return f"a list of {item['ctx']['max_length']} or fewer"
    rule = str(item["msg"]).removeprefix("Input should be ").partition(", unable")[0]
    return "a list" if rule == "a valid tuple" else rule
