"""The document that LIFT fine-tunes on, and its place in a benchmark's row."""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from lift_eval.errors import DocumentError

MIN_CHARACTERS = 200
"""Shortest string that is taken for a document unasked; a shorter one is a question or an option."""

QUESTION_FIELDS = ("question", "query", "input", "problem")
"""Fields of a data set's rows that hold the question, the likeliest first."""

WHOLE_PROMPT = "input"
"""The field in which RULER's rows hold the document and the question behind it."""

ASIDE = ("unrelated", "whole_text")
"""Prompt styles of rows that ask nothing about their document: `lift_forgetting`, `lift_document_loss`."""

Span = tuple[int, int]
"""Start and end of a part of a text."""

MARK = re.compile(r"\[document sha256:([0-9a-f]{64})\]")
"""A document's `Document.mark`."""

_PIECE = 40
"""Characters, white space aside, by which a part of a document is recognised."""
_PIECES = 100
"""Most pieces of a document that are looked for."""
_WORD = re.compile(r"\S+")


def check_text(value: object, name: str) -> None:
    """Refuse what no tokenizer takes for text.

    Args:
        value: Given as a text.
        name: What it is.

    Raises:
        DocumentError: If it is no string or no valid Unicode.
    """
    if not isinstance(value, str):
        raise DocumentError(f"{name} must be a string, got {value!r}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DocumentError(
            f"{name} must be valid Unicode, got half of a surrogate pair "
            f"({value[error.start : error.end]!r} at character {error.start})"
        ) from None


def check_question(value: object, name: str) -> None:
    """Refuse what is no question.

    Args:
        value: Given as a question.
        name: What it is.

    Raises:
        DocumentError: If it is no string of valid Unicode, or has only white space.
    """
    check_text(value, name)
    if not str(value).strip():
        raise DocumentError(f"{name} must contain at least one word, got {value!r}")


@dataclass(frozen=True)
class Document:
    """A text about which questions are asked.

    Attributes:
        text: The text as it appears in prompts.
        title: Its name; may be empty.

    Raises:
        DocumentError: If the text has only white space, or text or title is not a string of valid Unicode.
    """

    text: str
    title: str = ""

    def __post_init__(self) -> None:
        check_text(self.title, "a document's title")
        name = f"document {self.title!r}" if self.title else "document"
        check_text(self.text, f"text of {name}")
        if not self.text.strip():
            raise DocumentError(
                f"{name} is empty: its text must contain at least one word, got {self.text!r}"
            )

    @property
    def digest(self) -> str:
        """Hash of title and text: 64 hexadecimal digits. Equal documents are trained once."""
        return hashlib.sha256(f"{self.title}\0{self.text}".encode()).hexdigest()

    @property
    def name(self) -> str:
        """Its title, or the beginning of its digest if it has none."""
        return self.title or self.digest[:12]

    @property
    def mark(self) -> str:
        """The replacement of its text in the prompts that lm-eval logs."""
        return f"[document sha256:{self.digest}]"

    @property
    def training_text(self) -> str:
        """The text to fine-tune on: title, newline, text (as published for LooGLE)."""
        return f"{self.title}\n{self.text}" if self.title else self.text


def document_seed(seed: int, document: Document) -> int:
    """Seed of all that is random about one document: it depends on no other document, no order and no worker."""
    return int(hashlib.sha256(f"{seed}:{document.digest}".encode()).hexdigest()[:15], 16)


def find_field(row: Mapping[str, Any], prompt: str, field: str | None = None) -> str | None:
    """Find the field of a data set row that holds the document.

    The field that is asked for, else ``context``, else that of the longest string of the row that stands in the prompt,
    up to white space, and has at least MIN_CHARACTERS characters.

    Args:
        row: The row of the data set, as lm-eval hands it on.
        prompt: The prompt made from the row.
        field: The field asked for.

    Returns:
        The name of the field. None means that the row has no document.

    Raises:
        DocumentError: If the field asked for is missing or no string.
    """
    if field is not None:
        if not isinstance(row.get(field), str):
            raise DocumentError(
                f"document_field='{field}' must name a text field of the row, which has "
                f"{', '.join(f'{key} ({type(value).__name__})' for key, value in row.items())}"
            )
        return field
    texts = {name: value for name, value in row.items() if isinstance(value, str) and value.strip()}
    if "context" in texts:
        return "context"
    found = [
        name for name, text in texts.items() if len(text) >= MIN_CHARACTERS and occurrences(text, prompt)
    ]
    return max(found, key=lambda name: len(texts[name]), default=None)


def find_question(row: Mapping[str, Any], prompt: str) -> str:
    """Find the question of a request in its data set row.

    Args:
        row: The row of the data set.
        prompt: The prompt made from the row, without its document.

    Returns:
        The text of the first of QUESTION_FIELDS that stands in the prompt, or else the question in the document's own
        field (`split_field`); empty where there is none.
    """
    texts = (*(row.get(field) for field in QUESTION_FIELDS), split_field(row, WHOLE_PROMPT)[1])
    return next((text for text in texts if isinstance(text, str) and text.strip() and text in prompt), "")


def find_document(row: Mapping[str, Any], prompt: str, field: str | None = None) -> Document | None:
    """Find the document of a request in its data set row; see `find_field`.

    Returns:
        The document. None means that the request has none.

    Raises:
        DocumentError: If the field asked for is missing, no string or empty.
    """
    found = find_field(row, prompt, field)
    return None if found is None else document_of(row, found)


def document_of(row: Mapping[str, Any], field: str) -> Document:
    """The document in a field of a row, with the title that the row has for it."""
    title = row.get("title")
    return Document(split_field(row, field)[0], title if isinstance(title, str) else "")


def split_field(row: Mapping[str, Any], field: str) -> tuple[Any, str]:
    """The document in a field of a row, and the question that follows it there.

    RULER's rows hold a whole prompt in ``input``, with the question as its last line, and how answers begin in
    ``gen_prefix``. In other rows a field holds no question beside the document.
    """
    text = row.get(field)
    if field == WHOLE_PROMPT and isinstance(text, str) and "gen_prefix" in row and "question" not in row:
        document, _, question = text.rstrip().rpartition("\n")
        if document.strip():
            return document, question.strip()
    return text, ""


def occurrences(text: str, prompt: str) -> list[Span]:
    """Find a text in a prompt, whatever white space the two have: templates strip and replace it.

    Args:
        text: What to find; with a character that is no white space.
        prompt: Where to find it.

    Returns:
        The places, ascending and apart. White space around the text belongs to a place that holds the very same text.
    """
    wanted = _without_space(text)
    starts = list(_places(wanted, _without_space(prompt)))
    same = list(_places(text, prompt))
    if len(same) == len(starts):  # the usual case, and the faster one for a long document
        return [(start, start + len(text)) for start in same]
    words = [word.span() for word in _WORD.finditer(prompt)]
    before = [0, *accumulate(stop - start for start, stop in words)]  # characters before each word

    def place(character: int) -> int:
        word = bisect_right(before, character) - 1
        return words[word][0] + character - before[word]

    lead = len(text) - len(text.lstrip())
    spans: list[Span] = []
    for first in starts:
        start, stop = place(first), place(first + len(wanted) - 1) + 1
        if start - lead in same:
            start, stop = start - lead, start - lead + len(text)
        spans.append((start, stop))
    return spans


def holds_part_of(text: str, prompt: str) -> bool:
    """Whether a prompt holds pieces of a text, in capital or small letters: some of it, or all of it changed."""
    wanted, given = _without_space(text).casefold(), _without_space(prompt).casefold()
    step = max(_PIECE, len(wanted) // _PIECES)
    pieces = (wanted[start : start + _PIECE] for start in range(0, max(len(wanted) - _PIECE, 0) + 1, step))
    return any(piece in given for piece in pieces)


def _without_space(text: str) -> str:
    return "".join(text.split())


def _places(text: str, within: str) -> Iterator[int]:
    place = within.find(text)
    while place >= 0:
        yield place
        place = within.find(text, place + len(text))
