"""Tables that check a comparison: test questions among the pairs, and a loss that says nothing of the answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lift_eval.reporting.comparison import Comparison, compare
from lift_eval.reporting.controls import nearness, nearness_table, recall_table
from lift_eval.reporting.inference import infer_experiment
from lift_eval.reporting.planning import runs_of_rows
from lift_eval.results.reading import read_runs
from tests.reporting.helpers import document_record, rows, write_run


def of_pairs(
    folder: Path, *pairs: tuple[str, str], row: Mapping[str, Any] | None = None, **changes: Any
) -> Comparison:
    """A method that learned pairs about one of the two documents that it is asked about, two questions each.

    The first row may be changed.
    """
    asked = rows(2, 2)
    asked[0] |= row or {}
    made = [list(pair) for pair in pairs]
    documents = [document_record("doc0", made_pairs=made, **changes), document_record("doc1")]
    write_run(folder / "results", {"task": [1, 0, 1, 1]}, asked, documents=documents)
    runs = read_runs([folder])
    experiment = infer_experiment(runs, "T", folder / "e.yaml")
    return compare(experiment, runs_of_rows(experiment, runs))


@pytest.mark.parametrize(
    ("pair", "same", "nearest"),
    [
        ("what is NUMBER 1 of 0", 1, 1.0),
        ("What number is 1?", 0, 8 / 10),
        ("Number, number 1?", 0, 4 / 9),
        ("Nobody knows.", 0, 0.0),
        ("", 0, 0.0),
    ],
)
def test_a_test_question_among_the_pairs_is_found_and_else_the_nearest(
    pair: str, same: int, nearest: float, tmp_path: Path
) -> None:
    (found,) = nearness(of_pairs(tmp_path, (pair, "answer")))
    assert (found.questions, found.same, found.nearest) == (2, same, nearest)
    if nearest:
        assert (found.question, found.pair) == ("What is number 1 of 0?", pair)


def test_the_table_shows_who_was_nearest(tmp_path: Path) -> None:
    comparison = of_pairs(tmp_path, ("Nobody knows.", "no"), ("What is number 0 of 0?", "that"))
    table = nearness_table(nearness(comparison))
    assert dict(zip(table.header, (cell.text for cell in table.rows[0]), strict=True)) == {
        "Method": "icl",
        "Questions": "2",
        "Among the pairs": "1",
        "Highest similarity": "100 %",
        "Question": "What is number 0 of 0?",
        "Pair": "What is number 0 of 0?",
    }


def test_questions_unrelated_to_the_document_are_left_out(tmp_path: Path) -> None:
    (known,) = nearness(of_pairs(tmp_path / "one", ("Nobody knows.", "no")))
    style = {"prompt_style": "unrelated"}
    (found,) = nearness(of_pairs(tmp_path / "other", ("Nobody knows.", "no"), row=style))
    assert (known.questions, found.questions) == (2, 1)


def test_where_nothing_was_generated_nothing_is_compared(tmp_path: Path) -> None:
    assert not nearness(of_pairs(tmp_path))


def test_loss_in_training_stands_beside_the_scores(tmp_path: Path) -> None:
    table = recall_table(of_pairs(tmp_path, losses=[3.5, 2.0, 0.25]))
    assert [cell.text for cell in table.rows[0]] == ["icl", "3.500", "0.250", "75.0"]
