"""What pydantic finds wrong with a recipe, as sentences in the recipe's own terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from lift_eval.errors import nearest
from lift_eval.recipe.settings import settings_keys

ADAPTER_TYPES = ("none", "lora", "pissa", "gated_memory")


def sentences_of(error: ValidationError) -> list[str]:
    """One sentence for each key that breaks a rule; pydantic reports a key once for each branch of a union."""
    rules: dict[tuple[str, str], list[str]] = {}
    sentences: list[str] = []
    for item in error.errors():
        key, value = _dotted(item["loc"], keep_last=item["type"] == "extra_forbidden"), item["input"]
        if item["type"] == "extra_forbidden":
            hint = "; write it as nested groups" if key in settings_keys() else nearest(key, _siblings(key))
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


def _dotted(location: tuple[int | str, ...], *, keep_last: bool) -> str:
    """Keys of the recipe alone: pydantic also names branches of unions, e.g. ``lora`` or ``tuple[str, ...]``."""
    known = {part for key in settings_keys() for part in key.split(".")}
    last = len(location) - 1
    return ".".join(
        str(part)
        for place, part in enumerate(location)
        if part in known or isinstance(part, int) or (keep_last and place == last)
    )


def _siblings(key: str) -> set[str]:
    group, _, _ = key.rpartition(".")
    below = [known for known in settings_keys() if known.startswith(f"{group}." if group else "")]
    depth = key.count(".") + 1
    return {".".join(known.split(".")[:depth]) for known in below} | {"extends"} - {
        "extends" if group else ""
    }


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
