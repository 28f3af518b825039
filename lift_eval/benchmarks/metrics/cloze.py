"""LooGLE's clozes: a mapping from masks to names."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping

_STRINGS_AND_BRACES = re.compile(r"""'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|[{}]""")
_INNERMOST = re.compile(r"\{[^{}]*\}")


def read_mapping(text: str) -> dict[str, str] | None:
    """Find the first JSON object or Python dictionary literal in an answer.

    LooGLE's code runs ``eval`` on the whole output; here the text before and after the braces is ignored, and
    entries whose value is not text are left out.

    Returns:
        The entries whose value is text, or None where the answer holds no mapping that can be read.
    """
    for literal in [*_outermost(text), *_INNERMOST.findall(text)]:
        for parse in (json.loads, ast.literal_eval):
            try:
                found = parse(literal)
            except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
                continue
            if isinstance(found, dict):
                return {str(key): value for key, value in found.items() if isinstance(value, str)}
    return None


def _outermost(text: str) -> Iterator[str]:
    """The stretches from an opening brace to the one that closes it; braces in quotes do not count."""
    start = text.find("{")
    while start >= 0:
        depth = 0
        for match in _STRINGS_AND_BRACES.finditer(text, start):
            depth += {"{": 1, "}": -1}.get(match.group(), 0)
            if not depth:
                yield text[start : match.end()]
                break
        start = text.find("{", match.end()) if not depth else -1


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
