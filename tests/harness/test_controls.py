"""Controls: another document's adapter answers, or that of the document with its sentences shuffled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lift_eval.distribution.groups import Group
from lift_eval.document import Document
from lift_eval.errors import DocumentError
from lift_eval.harness.responses import lift_and_respond
from lift_eval.prompts.contents.shuffled import shuffled
from lift_eval.record.record import DocumentRecord
from lift_eval.store import Store
from tests.store.runs import DOCUMENTS, lifter

ADA, BOB = DOCUMENTS[:2]
LOG = Document(" ".join(f"Line {number} is here." for number in range(20)), "Log")


def done(
    store: Store, adapter: str, document: Document, other: Document | None
) -> tuple[str, DocumentRecord]:
    """The title of the document that was lifted for questions about a document, and the record."""
    tool: Any = lifter(store, decoding__learned=adapter)
    group = Group(document, (0,), (), other)
    outcome = lift_and_respond(tool, group, lambda session: [session.document])
    return outcome.results[0], outcome.record


def test_the_wrong_adapter_is_the_one_that_the_run_of_the_method_has_trained(tmp_path: Path) -> None:
    store = Store(tmp_path)
    lifted, own = done(store, "own", BOB, ADA)
    assert lifted == BOB
    lifted, record = done(store, "wrong", ADA, BOB)
    assert lifted == BOB
    assert record.reused == ["adapter"]
    assert record.losses == own.losses
    assert (record.digest, record.title) == (ADA.digest, ADA.title)


def test_the_wrong_adapter_needs_another_document(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="there is no other; ask about two documents or more"):
        done(Store(tmp_path), "wrong", ADA, None)


def test_shuffled_sentences_are_learned_in_the_place_of_the_document(tmp_path: Path) -> None:
    lifted, record = done(Store(tmp_path), "shuffled", LOG, None)
    assert lifted == shuffled(LOG)
    assert record.digest == LOG.digest
    assert record.losses


def test_shuffling_keeps_every_sentence_and_is_the_same_each_time() -> None:
    mixed = shuffled(LOG)
    assert mixed.text != LOG.text
    assert sorted(mixed.text.split(". ")) != LOG.text
    assert sorted(mixed.text.replace(".", "").split()) == sorted(LOG.text.replace(".", "").split())
    shuffled.cache_clear()
    assert shuffled(LOG) == mixed
