"""The command line killed at many moments: the same command again ends with the results of an undisturbed run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, untraced
from tests.killed_evaluations import MAY_DIFFER, RECIPES, comparable, differences

KILLS = int(os.environ.get("LIFT_EVAL_KILLS", "4"))


@pytest.mark.parametrize("recipe", RECIPES)
def test_killed_command_lines_write_the_same_results_when_they_are_started_again(
    recipe: str, tmp_path: Path
) -> None:
    """Metrics and samples, and nothing trained twice; LIFT_EVAL_KILLS says how many moments are tried."""
    kills = KILLS if recipe == "lora" else max(KILLS // 2, 1)
    ran = subprocess.run(
        [
            sys.executable, "-W", "ignore", "-m", "tests.killed_evaluations", str(tmp_path / "runs"), str(kills), "8",
            recipe,
        ],
        cwd=ROOT,
        env={**untraced(), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    killed = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(killed) == kills
    for moment in killed:
        assert moment["killed"], moment
        assert moment["differences"] == [], moment
        assert moment["taken_up"] == moment["finished"], moment
        assert moment["trained"] == 3 - moment["finished"], moment
        assert moment["faults"] == 0, moment
    if kills >= 20:  # fewer may fall close to each other
        assert {moment["finished"] for moment in killed} >= {0, 1, 2, 3}


def test_the_comparison_sees_what_it_must_see() -> None:
    one = {"results": {"acc": 1.0, "date": 1}, "samples": [{"resps": ["a"]}], "seconds": 3}
    assert differences(comparable(one), comparable({**one, "seconds": 4})) == []
    assert differences(comparable(one), comparable({**one, "samples": [{"resps": ["b"]}]})) == ["/samples"]
    assert differences(comparable(one), comparable({**one, "results": {"acc": 0.0}})) == ["/results/acc"]
    assert not {"results", "samples", "losses", "tokens", "trained_tokens", "failure"} & MAY_DIFFER
