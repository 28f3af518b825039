"""What several commands are tested with."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import lm_eval.tasks.manager
import lm_eval.utils
import pytest
from lm_eval.__main__ import cli_evaluate

from lift_eval import _autoload


@pytest.fixture
def _runs_in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of an experiment are lm-eval's command line in this process, with a small index of tasks and one store.

    `test_run_experiment` and tests/test_new_user.py start processes of their own.
    """
    monkeypatch.setenv("LIFT_EVAL_STORE", str(tmp_path / "store"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(lm_eval.tasks.manager, "__file__", str(tmp_path / "no tasks" / "manager.py"))
    monkeypatch.setattr(lm_eval.utils, "_LOGGING_CONFIGURED", True)  # its log would keep the captured stream
    _autoload.register()

    def run_command(command: Sequence[str], processes: int) -> int:
        assert (command[:3], processes) == ((sys.executable, "-m", "lm_eval"), 1)
        monkeypatch.setattr(sys, "argv", list(command[2:]))
        cli_evaluate()
        return 0

    monkeypatch.setattr("lift_eval.cli.runs.run_command", run_command)
