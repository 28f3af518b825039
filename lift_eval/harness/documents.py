"""Which document each request is about, and what a person is told of it before anything is trained."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from tqdm import tqdm

from lift_eval.distribution.groups import Request
from lift_eval.document import Document, document_of, find_field
from lift_eval.errors import counted
from lift_eval.prompts.prompt import Prompt

logger = logging.getLogger(__name__)

AUTO, NONE = "auto", "none"
"""Values of ``document_field`` besides the name of a field: to find it, and to have no documents."""
SHOWN_CHARACTERS = 60
"""Of the beginning of a document."""

Questions: TypeAlias = set[tuple[str, int]]
"""Each by its task and row."""


class Documents:
    """Finds the documents of requests, and remembers what a person should know of it.

    Args:
        field: The rows' field that holds the document; `AUTO` to find it, None or `NONE` for no documents.
        closed_book: Whether the document is to be taken out of the prompts.
    """

    def __init__(self, field: str | None, *, closed_book: bool) -> None:
        self.field = NONE if field is None else field
        self.closed_book = closed_book
        self._fields: dict[int, str] = {}
        self._examples: dict[str, tuple[Document, set[str]]] = {}
        self._bare: Questions = set()
        self._absent: Questions = set()
        self._changed: Questions = set()

    def find(self, row: Mapping[str, Any], request: Request) -> tuple[Document | None, Prompt]:
        """Find the document of a request, and its places in the prompt.

        Args:
            row: The request's row.
            request: The request.

        Returns:
            The document and the prompt. A document of None means that the request has none.

        Raises:
            DocumentError: If the field asked for is missing, no string or empty.
        """
        text = request.arguments[0]
        # One for all prompts of a row: a choice may be scored without its question too, where nothing is to be found.
        field = self._fields.get(id(row))
        if field is None and self.field != NONE:
            field = find_field(row, text, None if self.field == AUTO else self.field)
        document = None if field is None else document_of(row, field)
        prompt = Prompt.around(text, document)
        if field is None or document is None:
            self._bare.add(request.question)
        else:
            self._fields[id(row)] = field
            self._examples.setdefault(field, (document, set()))[1].add(request.task)
        if document is not None and text and not prompt.places:
            (self._absent if prompt.located else self._changed).add(request.question)
        return document, prompt

    @property
    def bare(self) -> int:
        """How many questions have no document."""
        return len(self._bare)

    def say(self, *, quiet: bool) -> None:
        """Say what was found.

        Args:
            quiet: Whether to give warnings alone.
        """
        for field, (document, tasks) in self._examples.items():
            _write(
                f"document of {_listed(tasks)}: field '{field}', \"{_beginning(document.text)}\"; "
                "document_field=NAME selects another, document_field=none selects none",
                quiet=quiet,
            )
        if self._absent:
            _write(f"closed-book, no document in the prompt: {_counted(self._absent)}", quiet=quiet)
        if self._changed:
            logger.warning(
                "the prompts of %s contain only parts of the document, so it cannot be located in them: %s",
                _counted(self._changed),
                "these parts stay in the prompts, although prompt.document=none"
                if self.closed_book
                else "their share of it cannot be reported, and a prompt that is too long is cut in its middle",
            )
        if self._bare and self.field != NONE:
            logger.warning(
                "the rows of %s hold no document, so the base model answers them; if one of their fields is the "
                "document, name it with document_field=...",
                _counted(self._bare),
            )


def _beginning(text: str) -> str:
    words = " ".join(text[: 2 * SHOWN_CHARACTERS].split())
    return words if len(words) <= SHOWN_CHARACTERS else f"{words[:SHOWN_CHARACTERS].rstrip()}..."


def _listed(tasks: Iterable[str]) -> str:
    return ", ".join(sorted(tasks))


def _counted(questions: Questions) -> str:
    return f"{counted(len(questions), 'question')} of {_listed({task for task, _ in questions})}"


def _write(line: str, *, quiet: bool) -> None:
    if not quiet:
        tqdm.write(line, file=sys.stderr)
