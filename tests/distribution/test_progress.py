"""What a person sees while a document is trained."""

from __future__ import annotations

import re

import pytest

from lift_eval.distribution.progress import Progress
from lift_eval.record.record import DocumentRecord


def test_a_narrow_terminal_shows_stage_step_loss_and_time_left(
    capsys: pytest.CaptureFixture[str],
) -> None:
    progress = Progress(2)
    for step in (1, 1000):
        progress.step(step, 1000, 1.0)
    progress.finished(DocumentRecord(digest="0" * 64, title="Notes", tokens=1, questions=1))
    progress.close()
    shown = capsys.readouterr().err
    (training,) = set(re.findall(r"training[^\r\n\x1b]*", shown))
    assert re.fullmatch(r"training 1/1000 \[\d\d:\d\d<(\?|\d\d:\d\d), loss 1\.000\]", training)
    assert len(training) <= 50
    assert "answering" in shown
    assert "Notes: 1 token; 1 question" in shown


def test_a_quiet_run_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(1, quiet=True)
    progress.step(1, 2, 1.0)
    progress.finished(DocumentRecord(digest="0" * 64))
    progress.close()
    assert capsys.readouterr().err == ""
