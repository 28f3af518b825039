"""Reading the replies of a generator: labelled pairs, JSON, or plain text.

A reply is anything that a model may write. Nothing in it raises; what cannot be read is counted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from lift_eval.recipe import AuxiliarySettings

_DECODER = json.JSONDecoder()
_OPENING = re.compile(r"[\[{]")


@dataclass(frozen=True)
class Pair:
    """A question about a document and its answer.

    Attributes:
        question: The question.
        answer: The answer.
        evidence: The words of the document that prove it; may be empty.
    """

    question: str
    answer: str
    evidence: str = ""


@dataclass(frozen=True)
class Reading:
    """What a reply holds.

    Attributes:
        pairs: The pairs read, not yet checked.
        unparsed: Pairs, or whole replies, that could not be read.
        no_pair: Whether the reply says that there is nothing to ask.
    """

    pairs: tuple[Pair, ...] = ()
    unparsed: int = 0
    no_pair: bool = False


def read_reply(reply: str, settings: AuxiliarySettings, answer: str = "") -> Reading:
    """Read a reply as the recipe says.

    Args:
        reply: What the generator wrote.
        settings: The recipe's auxiliary group.
        answer: The answer of a plain text reply, which is the question itself.

    Returns:
        The pairs in it, or why there are none.
    """
    if not _is_text(reply):
        return Reading(unparsed=1)
    if reply.strip().casefold() == settings.no_pair.strip().casefold():
        return Reading(no_pair=True)
    if settings.reply_format == "text":
        return Reading((Pair(reply.strip(), answer),))
    if settings.reply_format == "json":
        return _read_json(reply, needs_evidence=settings.needs_evidence)
    return _read_labels(reply, settings)


def _read_labels(reply: str, settings: AuxiliarySettings) -> Reading:
    """Read the first value of each label.

    A label stands at the beginning of a line, perhaps in bold or in a list; its value ends at the next label or at
    a blank line.
    """
    labels = settings.labels if settings.needs_evidence else settings.labels[:2]
    either = "|".join(re.escape(label.strip()) for label in settings.labels)
    marks = list(re.finditer(rf"^[ \t*_#>-]*({either})[ \t*_]*", reply, re.MULTILINE | re.IGNORECASE))
    values: dict[str, str] = {}
    for mark, following in zip_longest(marks, marks[1:]):
        end = following.start() if following else len(reply)
        value = re.split(r"\n[ \t\r]*\n", reply[mark.end() : end].strip(), maxsplit=1)[0]
        values.setdefault(mark[1].casefold(), value.strip().strip("*_").strip())
    try:
        found = [values[label.strip().casefold()] for label in labels]
    except KeyError:
        return Reading(unparsed=1)
    return Reading((Pair(*found),))


def _read_json(reply: str, *, needs_evidence: bool) -> Reading:
    """The first value in the reply that can hold pairs; fences and words around it do not matter.

    That is {"pairs": [...]}, a list of pairs, or one pair. A pair is an object with strings "question" and "answer",
    and "evidence" where it is needed.
    """
    for value in _json_values(reply):
        items = _json_items(value)
        if items is not None:
            pairs = tuple(pair for item in items if (pair := _json_pair(item, needs_evidence=needs_evidence)))
            return Reading(pairs, unparsed=len(items) - len(pairs), no_pair=not items)
    return Reading(unparsed=1)


def _json_items(value: Any) -> list[Any] | None:  # noqa: ANN401 - any JSON
    if isinstance(value, dict):
        value = value.get("pairs", [value] if "question" in value else None)
        return value if isinstance(value, list) else None
    return value if any(isinstance(item, dict) for item in value) else None  # not the [1] of a citation


def _json_values(text: str) -> Iterator[Any]:
    """The outermost JSON objects and lists in a text."""
    place = 0
    while found := _OPENING.search(text, place):
        value, place = _decode(text, found.start())
        if value is not None:
            yield value


def _decode(text: str, start: int) -> tuple[Any, int]:
    """The JSON value at a place and the place behind it; just the next place where there is none."""
    try:
        return _DECODER.raw_decode(text, start)
    except ValueError:
        return None, start + 1
    except RecursionError:  # thousands of brackets: no pair in there
        return None, len(text)


def _json_pair(item: Any, *, needs_evidence: bool) -> Pair | None:  # noqa: ANN401 - any JSON
    keys = ("question", "answer", "evidence") if needs_evidence else ("question", "answer")
    if not isinstance(item, dict) or not all(isinstance(item.get(key), str) for key in keys):
        return None
    values = [item[key].strip() for key in keys]
    return Pair(*values) if all(map(_is_text, values)) else None


def _is_text(value: str) -> bool:
    """Whether a string can be written as UTF-8; JSON can spell half of a surrogate pair, which cannot."""
    return value.isascii() or not re.search("[\ud800-\udfff]", value)
