"""The arena in small, by its commands: every row is run, the second call changes nothing, and methods are tuned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from lift_eval.cli import main
from lift_eval.reporting.experiment import load_experiment
from lift_eval.results.reading import read_runs
from tests.conftest import ROOT

ARENA: dict[str, Any] = yaml.safe_load((ROOT / "reports" / "arena_tiny.yaml").read_text(encoding="utf-8"))
TUNED = ("LIFT, segments alone", "Cartridge")


@pytest.mark.usefixtures("_runs_in_this_process")
def test_every_row_is_run_and_rendered_again_to_the_same_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "arena_tiny.yaml"
    path.write_text(yaml.safe_dump(ARENA))
    assert main(["run", str(path)]) == 0
    shown = capsys.readouterr().out
    assert all(row["name"] in shown for row in ARENA["rows"])
    report = tmp_path / "arena_tiny"
    done = [run.tasks["lift_tiny_shortqa"] for run in read_runs([report / "results"])]
    assert len(done) == len(ARENA["rows"])
    assert all(task.questions == 40 for task in done)

    files = {file: file.read_bytes() for file in report.rglob("*") if file.is_file()}
    assert report / "report.html" in files
    assert main(["run", str(path)]) == 0
    assert "run 1 of" not in capsys.readouterr().out
    assert files == {file: file.read_bytes() for file in report.rglob("*") if file.is_file()}


@pytest.mark.usefixtures("_runs_in_this_process")
def test_rates_and_epochs_are_tuned_for_the_methods_that_train(tmp_path: Path) -> None:
    path = tmp_path / "arena_tiny.yaml"
    rows = [row for row in ARENA["rows"] if row["name"] in ("ICL", *TUNED)]
    tune = {"column": "Exact match", "options": {"limit": 4}, "rates": [1, 0.1], "epochs": [1]}
    path.write_text(yaml.safe_dump({**ARENA, "rows": rows, "tune": tune}))
    assert main(["tune", str(path)]) == 0
    log = (tmp_path / "arena_tiny" / "tuning" / "report.md").read_text(encoding="utf-8")
    tuned = {row.name: row.model_args for row in load_experiment(path).rows if row.name != "ICL"}
    assert set(tuned) == set(TUNED)
    for name, arguments in tuned.items():
        assert f"{name}: rate {arguments['training.learning_rate']:g}, 1 epochs" in log


def test_what_an_untuned_arena_is_told_leads_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tune = {"column": "Exact match", "options": {"limit": 4}}
    path, mine = tmp_path / "arena.yaml", tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**ARENA, "tune": tune}))
    mine.write_text(yaml.safe_dump({"extends": "arena.yaml", "title": "Mine", "results": "mine/results"}))
    for file, instead in ((path, "remove 'tune'"), (mine, f"give {mine} its own 'tune'")):
        assert main(["run", str(file)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert f"run lift-eval tune {path} first, or {instead}" in error
