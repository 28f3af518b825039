"""The document: what LIFT fine-tunes on, and where it stands in a benchmark's row."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lift_eval.errors import DocumentError

MIN_CHARACTERS = 200
"""Shortest string that is taken for a document unasked; a shorter one is a question or an option."""


@dataclass(frozen=True)
class Document:
    """A text that questions are asked about.

    Attributes:
        text: The text as it stands in prompts.
        title: Its name; may be empty.

    Raises:
        DocumentError: If the text holds nothing but white space, or is no valid Unicode.
    """

    text: str
    title: str = ""

    def __post_init__(self) -> None:
        name = f" {self.title!r}" if self.title else ""
        if not self.text.strip():
            raise DocumentError(
                f"document{name} is empty: its text must hold a word or more, got {self.text!r}"
            )
        try:
            f"{self.title}{self.text}".encode()
        except UnicodeEncodeError as error:
            raise DocumentError(
                f"document{name} must be valid Unicode, got half of a surrogate pair "
                f"({error.object[error.start : error.end]!r} at character {error.start} of title and text)"
            ) from None

    @property
    def digest(self) -> str:
        """Hash of title and text: 64 hexadecimal digits. Equal documents are trained once."""
        return hashlib.sha256(f"{self.title}\0{self.text}".encode()).hexdigest()

    @property
    def name(self) -> str:
        """What people call it: its title, or the beginning of its digest."""
        return self.title or self.digest[:12]

    @property
    def training_text(self) -> str:
        """What is fine-tuned: title, newline, text (METHOD: as published for LooGLE)."""
        return f"{self.title}\n{self.text}" if self.title else self.text


def find_document(row: Mapping[str, Any], prompt: str, field: str | None = None) -> Document | None:
    """Find the document of a request in its data set row.

    The field that is asked for, else ``context``, else the longest string of the row that stands verbatim in the
    prompt and has at least MIN_CHARACTERS characters.

    Args:
        row: The row of the data set, as lm-eval hands it on.
        prompt: The prompt made from the row.
        field: Name of the field that holds the document.

    Returns:
        The document, or None where the request has none.

    Raises:
        DocumentError: If the field asked for is missing, no string or empty.
    """
    title = row.get("title")
    title = title if isinstance(title, str) else ""
    if field is not None:
        if not isinstance(row.get(field), str):
            raise DocumentError(
                f"document_field='{field}' must name a text field of the row, which has "
                f"{', '.join(f'{key} ({type(value).__name__})' for key, value in row.items())}"
            )
        return Document(row[field], title)
    context = row.get("context")
    if isinstance(context, str) and context.strip():
        return Document(context, title)
    candidates = [value for value in row.values() if isinstance(value, str) and len(value) >= MIN_CHARACTERS]
    found = [value for value in candidates if value.strip() and value in prompt]
    return Document(max(found, key=len), title) if found else None
