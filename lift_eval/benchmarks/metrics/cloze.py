"""LooGLE's clozes: a mapping from masks to names."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping


def read_mapping(text: str) -> dict[str, str] | None:
    """Find the first JSON object or Python dictionary literal of text values in an answer.

    LooGLE's code runs ``eval`` on the whole output; here the text before and after the braces is ignored, and
    entries whose value is not text are left out. Values hold no nested braces.

    Returns:
        The mapping, or None where there is none that can be read.
    """
    for match in re.finditer(r"\{[^{}]*\}", text):
        for parse in (json.loads, ast.literal_eval):
            try:
                found = parse(match.group())
            except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
                continue
            if isinstance(found, dict):
                return {str(key): value for key, value in found.items() if isinstance(value, str)}
    return None


def cloze_matches(prediction: str, reference: Mapping[str, str]) -> tuple[int, int]:
    """Count the masks that are filled exactly, and those that share a white-space word (LooGLE).

    An answer without a readable mapping fills no mask.

    Returns:
        Exact matches and partial matches, each at most ``len(reference)``.
    """
    answer = read_mapping(prediction) or {}
    exact = sum(answer.get(mask) == value for mask, value in reference.items())
    partial = sum(bool(set(answer.get(mask, "").split()) & set(v.split())) for mask, v in reference.items())
    return exact, partial
