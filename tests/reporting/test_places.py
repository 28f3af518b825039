"""Scores by where in the document the answer stands."""

from __future__ import annotations

from pathlib import Path

from lift_eval.reporting.comparison import Comparison, compare
from lift_eval.reporting.figures.contents import all_figures
from lift_eval.reporting.inference import infer_experiment
from lift_eval.reporting.places import places_table
from lift_eval.results.reading import read_runs
from tests.reporting.helpers import document_record, rows, write_run


def compared(
    folder: Path, scores: list[float], *, document: str = "truncated", **changes: object
) -> Comparison:
    """One method's run on four documents, each with questions at 0, 0.2, 0.4, 0.6 and 0.8 of its length."""
    data = [{**row, **changes} for row in rows(4, 5)]
    for row in data[4::5]:
        row["evidence"] = ["One place.", "Another."]
    write_run(
        folder,
        {"task": scores},
        data,
        recipe={"prompt": {"document": document}},
        documents=[document_record(f"doc{number}", kept=0.5) for number in range(4)],
    )
    runs = read_runs([folder])
    experiment = infer_experiment(runs, "T", folder / "e.yaml")
    return compare(experiment, {experiment.rows[0].name: runs})


def cells(comparison: Comparison) -> dict[str, tuple[str, str]]:
    """Score and number of questions by place."""
    table = places_table(comparison)
    return {
        name: (cell.text, cell.detail[-1])
        for row in table.rows
        for name, cell in zip(table.header[2:], row[2:], strict=True)
    }


def test_questions_count_in_the_third_where_their_evidence_begins(tmp_path: Path) -> None:
    # At 0 and 0.2 right, at 0.4 and 0.6 wrong, and the one with evidence in two places right.
    comparison = compared(tmp_path, [1, 1, 0, 0, 1] * 4)
    assert cells(comparison) == {
        "Beginning": ("100.0", "n = 8"),
        "Middle": ("0.0", "n = 8"),
        "Several places": ("100.0", "n = 4"),
    }


def test_nothing_is_said_of_places_that_nobody_knows(tmp_path: Path) -> None:
    comparison = compared(tmp_path, [1, 1, 0, 0, 1] * 4, depth=None)
    assert places_table(comparison).rows == ()
    assert "places" not in {figure.name for figure in all_figures(comparison)}


def test_the_shade_is_what_a_truncated_prompt_leaves_out(tmp_path: Path) -> None:
    shades = {}
    for document in ("truncated", "none"):
        comparison = compared(tmp_path / document, [1] * 20, document=document)
        (figure,) = (figure for figure in all_figures(comparison) if figure.name == "places")
        shades[document] = figure.more.get("cut")
    assert shades == {"truncated": {"from": [0.25], "to": [0.75]}, "none": None}
