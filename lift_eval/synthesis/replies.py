"""Reading the replies of a generator: labelled pairs, JSON, or plain text.

A reply is anything that a model may write. Nothing in it raises; what cannot be read is counted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from lift_eval.answering.decoding import Answer
from lift_eval.synthesis.base import PAIR_KEYS
from lift_eval.synthesis.settings import AuxiliarySettings

LIST_KEYS = ("pairs", "qa_list")
"""Where the list of pairs stands in a JSON reply; ``qa_list`` is the second implementation's."""

_DECODER = json.JSONDecoder()
_OPENING = re.compile(r"[\[{]")


@dataclass(frozen=True)
class Pair:
    """A question about a document and its answer.

    Attributes:
        question: The question.
        answer: The answer.
        evidence: The words of the document that prove it; may be empty.
        passage: The part of the document that it is about; may be empty.
    """

    question: str
    answer: str
    evidence: str = ""
    passage: str = field(default="", compare=False)


@dataclass(frozen=True)
class Reading:
    """What a reply holds.

    Attributes:
        pairs: The pairs read, not yet checked. Of a reply that was cut off those that are whole.
        unparsed: Pairs, or whole replies, that could not be read.
        no_pair: Whether the reply says that there is nothing to ask.
    """

    pairs: tuple[Pair, ...] = ()
    unparsed: int = 0
    no_pair: bool = False


def read_reply(reply: Answer, settings: AuxiliarySettings, answer: str = "") -> Reading:
    """Read a reply as the recipe says.

    Args:
        reply: What the generator wrote, and whether it came to an end.
        settings: The recipe's auxiliary group.
        answer: The answer of a plain text reply, which is the question itself.

    Returns:
        The pairs in it, or why there are none.
    """
    text = reply.text.strip()
    if not is_text(text):
        return Reading(unparsed=1)
    if text.casefold() == settings.no_pair.strip().casefold():
        return Reading(no_pair=True)
    if settings.reply_format == "text":
        return Reading((Pair(text, answer),)) if reply.complete else Reading(unparsed=1)
    if settings.reply_format == "json":
        return _read_json(text, needs_evidence=settings.needs_evidence)
    return _read_labels(reply, settings)


def _read_labels(reply: Answer, settings: AuxiliarySettings) -> Reading:
    """Read the first value of each label.

    A label stands at the beginning of a line, perhaps in bold or in a list; its value ends at the next label, at a
    blank line, or with the reply if that is complete.
    """
    labels = settings.labels[: settings.values]
    marks = _marks(reply.text, settings)
    values: dict[str, str] = {}
    for mark, following in zip_longest(marks, marks[1:]):
        end = following.start() if following else len(reply.text)
        value, *behind = re.split(r"\n[ \t\r]*\n", reply.text[mark.end() : end].strip(), maxsplit=1)
        if following or behind or reply.complete:
            values.setdefault(mark[1].casefold(), value.strip().strip("*_").strip())
    try:
        found = [values[label.strip().casefold()] for label in labels]
    except KeyError:
        return Reading(unparsed=1)
    return Reading((Pair(*found) if len(found) > 1 else Pair(found[0], answer=""),))


def _marks(text: str, settings: AuxiliarySettings) -> list[re.Match[str]]:
    """The labels in a text."""
    either = "|".join(re.escape(label.strip()) for label in settings.labels)
    return list(re.finditer(rf"^[ \t*_#>-]*({either})[ \t*_]*", text, re.MULTILINE | re.IGNORECASE))


def end_of_form(text: str, settings: AuxiliarySettings) -> int | None:
    """Where a labelled reply is complete: behind the line of its last value, once there is one for each label.

    Args:
        text: The reply so far.
        settings: The recipe's auxiliary group.

    Returns:
        The place of that line's end. None means that something is still to come.
    """
    missing = {label.strip().casefold() for label in settings.labels[: settings.values]}
    for mark in _marks(text, settings):
        missing.discard(mark[1].casefold())
        if not missing:
            value = text[mark.end() :].lstrip()
            line, newline, _ = value.partition("\n")
            return len(text) - len(value) + len(line) if newline else None
    return None


def _read_json(reply: str, *, needs_evidence: bool) -> Reading:
    """The first list of pairs in the reply, or else all pairs in it; fences and words around them do not matter.

    A list of pairs may stand in an object, as in {"pairs": [...]}. It has no end where the reply was cut off: then
    the pairs in it are read one by one. A pair is an object with strings "question" and "answer", and "evidence" where
    it is needed.
    """
    values = list(_json_values(reply))
    lists = (items for value in values if (items := _json_list(value)) is not None)
    items = next(lists, [value for value in values if _asks(value)] or None)
    if items is None:
        return Reading(unparsed=1)
    pairs = tuple(pair for item in items if (pair := _json_pair(item, needs_evidence=needs_evidence)))
    return Reading(pairs, unparsed=len(items) - len(pairs), no_pair=not items)


def _json_list(value: Any) -> list[Any] | None:  # noqa: ANN401 - any JSON
    if isinstance(value, dict):
        items = next((value[key] for key in LIST_KEYS if key in value), None)
        return items if isinstance(items, list) else None
    return value if any(isinstance(item, dict) for item in value) else None  # not the [1] of a citation


def _asks(value: Any) -> bool:  # noqa: ANN401 - any JSON
    return isinstance(value, dict) and "question" in value


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
    keys = PAIR_KEYS[: 3 if needs_evidence else 2]
    if not isinstance(item, dict) or not all(isinstance(item.get(key), str) for key in keys):
        return None
    values = [item[key].strip() for key in keys]
    return Pair(*values) if all(map(is_text, values)) else None


def is_text(value: str) -> bool:
    """Whether a string can be written as UTF-8; JSON can spell half of a surrogate pair, which cannot."""
    return value.isascii() or not re.search("[\ud800-\udfff]", value)
