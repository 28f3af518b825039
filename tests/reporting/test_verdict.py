"""A comparison in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lift_eval.reporting.comparison import compare
from lift_eval.reporting.verdict import costs, verdicts
from tests.reporting.helpers import document_record, rows, write_run
from tests.reporting.test_comparison import ICL, LIFT, experiment


def verdict(folder: Path, icl: list[float], lift: list[float], data: Any, **changes: Any) -> str:
    write_run(folder / "results" / "icl", {"task": icl}, data, model_args=ICL)
    write_run(folder / "results" / "lift", {"task": lift}, data, model_args=LIFT)
    (sentence,) = verdicts(compare(experiment(folder, **changes)), "A")
    return sentence


def test_a_difference_that_holds_over_documents(tmp_path: Path) -> None:
    assert verdict(tmp_path, [0, 1] * 12, [1, 1] * 12, rows(12, 2)) == (
        "LIFT answers better than ICL: A 100.0 against 50.0, difference +50.0, "
        "95 % interval [50.0, 50.0] over 12 documents"
    )


def test_a_score_of_which_less_is_better_turns_the_verdict(tmp_path: Path) -> None:
    column = {"label": "A", "task": "task", "metric": "exact_match", "higher_is_better": False}
    said = verdict(tmp_path, [0, 1] * 12, [1, 1] * 12, rows(12, 2), columns=[column])
    assert said.startswith("LIFT answers worse than ICL: ")


def test_one_document_is_judged_by_its_questions_and_says_so(tmp_path: Path) -> None:
    said = verdict(tmp_path, [0] * 18 + [1] * 2, [1] * 16 + [0] * 4, rows(1, 20))
    assert said.startswith(
        "LIFT answers better than ICL: A 80.0 against 10.0, difference +70.0, 95 % interval ["
    )
    assert said.endswith("over the 20 questions about this document; it says nothing about other documents")


def test_a_difference_within_its_interval_is_none(tmp_path: Path) -> None:
    said = verdict(tmp_path, [0, 1, 0, 1], [1, 0, 0, 1], rows(1, 4))
    assert said.startswith("no clear difference between LIFT and ICL: A 50.0 against 50.0, difference +0.0, ")


@pytest.mark.parametrize(
    ("lift", "data", "said"),
    [
        ([1.0], rows(1, 1), "one question is too few to compare LIFT with ICL: A 100.0 against 0.0"),
    ],
)
def test_nothing_is_said_of_one_question(tmp_path: Path, lift: list[float], data: Any, said: str) -> None:
    assert verdict(tmp_path, [0.0], lift, data) == said


def test_what_was_not_run_has_no_verdict(tmp_path: Path) -> None:
    write_run(tmp_path / "results" / "icl", {"task": [1, 0]}, rows(1, 2), model_args=ICL)
    assert verdicts(compare(experiment(tmp_path)), "A") == ["no verdict on LIFT against ICL (LIFT: not run)"]


def test_the_cost_is_that_of_lifting_and_of_an_answer(tmp_path: Path) -> None:
    data = rows(1, 5)
    spent = {"icl": (0.0, 10.0), "lift": (60.0, 5.0)}
    for name, arguments in (("icl", ICL), ("lift", LIFT)):
        train, answer = spent[name]
        seconds = {"synthesis": 0.0, "train": train, "answer": answer}
        record = document_record("doc0", questions=5, seconds=seconds)
        write_run(
            tmp_path / "results" / name, {"task": [1] * 5}, data, model_args=arguments, documents=[record]
        )
    assert costs(compare(experiment(tmp_path))) == [
        "cost of LIFT: 60.0 s to prepare a document (ICL: 0 ms), then 1.0 s per answer (ICL: 2.0 s)"
    ]
