from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lift_eval.results.full_sizes import FULL_SIZES, shortfall


def test_longqa_is_the_sum_of_its_types() -> None:
    longqa = FULL_SIZES["loogle_longqa"]
    assert sum(longqa.types.values()) == longqa.questions == 1101


def test_a_run_on_less_than_everything_is_told() -> None:
    assert shortfall("loogle_shortqa", 39, 3) == "39 of 1,951 questions, 3 of 105 documents"
    assert shortfall("loogle_shortqa", 1951, 105) is None
    assert shortfall("lift_longbench_musique", 10) == "10 of 200 questions"
    assert shortfall("somebody_elses_task", 1) is None


def test_custom_files_are_measured_against_themselves() -> None:
    assert shortfall("loogle_shortqa", 39, 3, own_questions=39) == "39 questions from custom files"
    assert shortfall("loogle_shortqa", 1, 1, own_questions=39) == "1 of 39 questions from custom files"
    assert shortfall("loogle_shortqa", 1951, 105, own_questions=1951) is None, "a copy of the benchmark"


def test_every_counted_task_exists() -> None:
    files = {path.stem for path in (Path(__file__).parents[2] / "tasks").rglob("*.yaml")}
    assert {name.removeprefix("lift_longbench_") for name in FULL_SIZES} <= files


def test_reports_pay_nothing_for_the_counts() -> None:
    code = (
        "import sys, lift_eval.results.full_sizes; print({'torch', 'lm_eval', 'datasets'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "set()"
