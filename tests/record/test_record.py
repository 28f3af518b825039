"""What a run says of a document."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from lift_eval.record.record import DocumentRecord, RunRecord, RunTotals


def record(**pairs: int) -> DocumentRecord:
    return DocumentRecord(
        digest="0" * 64, title="Lamp", tokens=90, questions=2, kept=0.5, losses=[2.0, 1.0], pairs=pairs
    )


def test_the_line_of_a_document_tells_what_became_of_its_pairs() -> None:
    made = record(asked=19, requests=30, kept=7, cut=12, unparsed=4)
    assert made.summary() == (
        "Lamp: 90 tokens; 2 steps, loss 2.000 -> 1.000; pairs: 7 kept from 19 passages, 12 replies cut off, "
        "4 unparsed; 2 questions, 50% of the document in the prompt"
    )
    assert "pairs" not in record().summary()


@pytest.mark.parametrize(
    ("pairs", "few"),
    [
        ({}, False),
        ({"asked": 10, "kept": 5, "given_up": 5}, False),
        ({"asked": 10, "kept": 4, "given_up": 6}, True),
        ({"asked": 10, "kept": 40, "given_up": 3, "too_long": 3}, True),
        ({"asked": 10, "kept": 2, "no_pair": 8}, False),
        ({"asked": 10, "kept": 0, "no_pair": 10}, True),
        ({"asked": 10, "kept": 9, "untrainable": 5, "given_up": 1}, True),
    ],
)
def test_few_pairs_are_those_of_documents_most_of_whose_passages_gave_none(
    pairs: dict[str, int], few: bool
) -> None:
    made = record(**pairs)
    assert made.few_pairs == few
    run = RunRecord([made])
    assert run.as_dict()["totals"]["documents_with_few_pairs"] == few
    made.failure = "GeneratorError: nothing was trained"  # counted as that
    assert run.as_dict()["totals"]["documents_with_few_pairs"] == 0


def test_a_document_that_was_given_up_has_no_share_in_the_prompt() -> None:
    lost = DocumentRecord(digest="1" * 64, title="Boat", tokens=9)
    lost.give_up(ValueError("why\nand more"), 3)
    assert lost.summary() == "Boat: 9 tokens; 0 questions; GIVEN UP: ValueError: why"
    assert RunRecord([lost, record()]).as_dict()["totals"]["kept"] == 0.5


def test_what_a_run_writes_is_what_a_report_reads() -> None:
    made = record(asked=19, kept=7)
    made.reuse("adapter", {"train": 3})
    run = RunRecord([made], load_seconds=2.0)
    written = json.loads(json.dumps(run.as_dict()))
    assert [DocumentRecord.model_validate(document) for document in written["documents"]] == [made]
    assert RunTotals.model_validate(written["totals"]) == run.totals
    assert run.totals.seconds == {"load": 2.0, "synthesis": 0.0, "train": 0.0, "answer": 0.0}


def test_records_of_other_versions_are_read() -> None:
    assert DocumentRecord.model_validate({"digest": "0" * 64, "smell": "of rain"}).tokens == 0
    with pytest.raises(ValidationError):
        DocumentRecord.model_validate({"digest": "0" * 64, "tokens": -1})
