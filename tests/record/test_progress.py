"""What a person sees while a document is worked on."""

from __future__ import annotations

import re

import pytest

from lift_eval.record.progress import StageProgress


def test_a_narrow_terminal_shows_stage_step_note_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    with StageProgress().stage("training") as show:
        for step in (1, 1000):
            show(step, 1000, "loss 1.000")
    shown = capsys.readouterr().err
    (training,) = set(re.findall(r"training[^\r\n\x1b]*", shown))
    assert re.fullmatch(r"training 1/1000 \[\d\d:\d\d<(\?|\d\d:\d\d), loss 1\.000\]", training)
    assert len(training) <= 50


def test_each_stage_has_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    progress = StageProgress()
    for name in ("making pairs", "training"):
        with progress.stage(name) as show:
            show(1, 2, "")
    shown = capsys.readouterr().err
    assert shown.index("making pairs 1/2") < shown.index("training 1/2")


@pytest.mark.parametrize("progress", [StageProgress(delay=1000), StageProgress(quiet=True)])
def test_a_quick_stage_and_a_quiet_one_show_nothing(
    progress: StageProgress, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.stage("training") as show:
        show(1, 2, "")
    assert capsys.readouterr().err == ""
