"""The requests of a run, grouped by the document they are about."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lift_eval.document import Document
from lift_eval.prompts.form import TaskForm
from lift_eval.record.record import DocumentRecord


@dataclass(frozen=True)
class Request:
    """One request, without the rest of its data set row.

    Attributes:
        task: Name of its task.
        row: Number of its row.
        arguments: The prompt, and what the kind of request has besides.
        query: The question by itself, for retrieval; empty where the row does not name it.
        aside: Whether it asks nothing about the document and only its adapter is to be on: an unrelated question
            (`lift_forgetting`), or the document's own text to be scored (`lift_document_loss`).
    """

    task: str
    row: int
    arguments: tuple[Any, ...]
    query: str = ""
    aside: bool = False

    @property
    def question(self) -> tuple[str, int]:
        """The question: a multiple-choice row is one, though each of its choices is a request."""
        return self.task, self.row


@dataclass(frozen=True)
class Group:
    """All requests of a run about one document.

    Attributes:
        document: The document. None means the requests that have no document.
        places: The requests' places in the run.
        requests: They.
        other: The document that comes next in the run, after the last one the first. None means that there is no
            other.
        forms: The prompts of their tasks by the task's name, where they are known.
    """

    document: Document | None
    places: tuple[int, ...]
    requests: tuple[Request, ...]
    other: Document | None = None
    forms: Mapping[str, TaskForm] = field(default_factory=dict)

    @property
    def task_forms(self) -> tuple[TaskForm, ...]:
        """The known prompts of its tasks, each once.

        Where some name the document, the others are left out: they ask something else, and no pair is trained in them.
        """
        forms = tuple(dict.fromkeys(self.forms.values()))
        return tuple(form for form in forms if form.names_document) or forms

    def per_question(self, kept: Sequence[float | None]) -> list[float | None]:
        """What the prompts of each question keep of the document.

        Args:
            kept: Share of the document in the prompt of each request, 0 to 1. None means that it is not known.

        Returns:
            The most that a prompt of each question about the document keeps: choices may be scored without their
            question too. None where it is not known of one of them.
        """
        shares: dict[tuple[str, int], list[float | None]] = {}
        for request, share in zip(self.requests, kept, strict=True):
            if not request.aside:
                shares.setdefault(request.question, []).append(share)
        known = ([share for share in own if share is not None] for own in shares.values())
        return [
            max(some) if len(some) == len(own) else None
            for some, own in zip(known, shares.values(), strict=True)
        ]


@dataclass(frozen=True)
class Outcome:
    """The result of a group.

    Attributes:
        results: One for each request, in order; empty where the document was given up.
        record: The document's record; for requests without a document, that of an unnamed document.
    """

    results: tuple[Any, ...]
    record: DocumentRecord


def group_by_document(requests: Sequence[Request], documents: Sequence[Document | None]) -> list[Group]:
    """Group requests; within a group they keep their order.

    Args:
        requests: All requests.
        documents: The document of each.

    Returns:
        The groups in the order of their first requests, last that of the requests without a document.
    """
    places: dict[Document | None, list[int]] = {}
    for place, document in enumerate(documents):
        places.setdefault(document, []).append(place)
    others = next_documents(document for document in places if document is not None)
    groups = [
        Group(document, tuple(at), tuple(requests[place] for place in at), others.get(document))
        for document, at in places.items()
    ]
    return sorted(groups, key=lambda group: group.document is None)


def next_documents(documents: Iterable[Document]) -> dict[Document | None, Document]:
    """The document after each of several ones, after the last one the first; nothing for one alone."""
    each = list(documents)
    return dict(zip(each, [*each[1:], each[0]], strict=True)) if len(each) > 1 else {}


def fingerprint(groups: Sequence[Group]) -> str:
    """Hash of what is asked about which documents, the same in every process of a run."""
    hasher = hashlib.sha256()
    for group in groups:
        hasher.update(f"{group.document.digest if group.document else ''} {group.places}\n".encode())
        hasher.update("".join(f"{request.task} {request.row}\n" for request in group.requests).encode())
    return hasher.hexdigest()
