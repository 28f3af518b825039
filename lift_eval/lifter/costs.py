"""What the work on a document costs: memory and operations by stage, and what must be kept of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lift_eval.adapters.state import trainable
from lift_eval.document import Document
from lift_eval.models.operations import counting
from lift_eval.record.peak_memory import watch
from lift_eval.record.record import DocumentRecord


@contextmanager
def costs(model: Any, record: DocumentRecord, stage: str) -> Iterator[dict[str, float]]:  # noqa: ANN401
    """Put the memory and the operations of what is done inside on the record.

    Args:
        model: The model that does it.
        record: The document's record.
        stage: Its stage.

    Yields:
        The operations by stage, complete at the end.
    """
    spent: dict[str, float] = {}
    try:
        with watch(record.memory, stage), counting(model, spent, stage):
            yield spent
    finally:
        record.add_operations(spent)


def stored_bytes(model: Any, document: Document, *, learned: bool, closed_book: bool) -> int:  # noqa: ANN401
    """Bytes to keep of a document for later questions.

    Args:
        model: The model with its adapter.
        document: The document.
        learned: Whether the adapter has learned it.
        closed_book: Whether prompts hold nothing of its text.
    """
    adapter = sum(tensor.nbytes for tensor in trainable(model).values()) if learned else 0
    return adapter + (0 if closed_book else len(document.training_text.encode(errors="replace")))
