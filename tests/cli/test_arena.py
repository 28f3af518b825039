"""The arena in small, by its commands: tuned on some documents, run on others, and the same report at a second call."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lift_eval.cli import main
from lift_eval.reporting.experiment import load_experiment
from tests.conftest import ROOT

ROWS = ("ICL", "Retrieval", "LIFT, segments alone", "Cartridge", "Wrong document, in the prompt")
"""A method of each class, and a control."""


def test_the_arena_is_tuned_run_and_rendered_again_to_the_same_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arena = yaml.safe_load((ROOT / "reports" / "arena_tiny.yaml").read_text(encoding="utf-8"))
    arena["rows"] = [row for row in arena["rows"] if row["name"] in ROWS]
    arena["tune"] = {"column": "Exact match", "options": {"limit": 4}, "rates": [1, 0.1], "epochs": [0.125]}
    path = tmp_path / "arena_tiny.yaml"
    path.write_text(yaml.safe_dump(arena))

    assert main(["tune", str(path)]) == 0
    log = (tmp_path / "arena_tiny" / "tuning" / "report.md").read_text(encoding="utf-8")
    tuned = {
        row.name: row.model_args
        for row in load_experiment(path).rows
        if "training.learning_rate" in row.model_args
    }
    assert set(tuned) == {"LIFT, segments alone", "Cartridge"}
    for name, arguments in tuned.items():
        assert f"{name}: rate {arguments['training.learning_rate']:g}, 1 epochs" in log

    capsys.readouterr()
    assert main(["run", str(path)]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ROWS)
    report = tmp_path / "arena_tiny"
    files = {file: file.read_bytes() for file in report.rglob("*") if file.is_file()}
    assert report / "report.html" in files
    assert main(["run", str(path)]) == 0
    assert "run 1 of" not in capsys.readouterr().out
    assert files == {file: file.read_bytes() for file in report.rglob("*") if file.is_file()}


def test_what_an_untuned_arena_is_told_leads_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arena = yaml.safe_load((ROOT / "reports" / "arena_tiny.yaml").read_text(encoding="utf-8"))
    arena["tune"] = {"column": "Exact match", "options": {"limit": 4}}
    path, mine = tmp_path / "arena.yaml", tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(arena))
    mine.write_text(yaml.safe_dump({"extends": "arena.yaml", "title": "Mine", "results": "mine/results"}))
    for file, instead in ((path, "remove 'tune'"), (mine, f"give {mine} its own 'tune'")):
        assert main(["run", str(file)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert f"run lift-eval tune {path} first, or {instead}" in error
