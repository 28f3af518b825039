"""What a person sees of a run."""

from __future__ import annotations

import pytest

from lift_eval.distribution.progress import Progress
from lift_eval.record.record import DocumentRecord


def test_a_run_counts_its_documents_and_says_what_became_of_each(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(2)
    progress.finished(DocumentRecord(digest="0" * 64, title="Notes", tokens=1, questions=1))
    progress.close()
    shown = capsys.readouterr().err
    assert "1/2" in shown
    assert "Notes: 1 token; 1 question" in shown


def test_a_quiet_run_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(1, quiet=True)
    with progress.within.stage("training") as show:
        show(1, 2, "")
    progress.finished(DocumentRecord(digest="0" * 64))
    progress.close()
    assert capsys.readouterr().err == ""
