"""Figures: which are drawn, for whom they can be read, and that they do not change by themselves."""

from __future__ import annotations

import io
import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from PIL import Image

from lift_eval.reporting.comparison import Comparison, compare
from lift_eval.reporting.costs import all_break_evens
from lift_eval.reporting.experiment import load_experiment
from lift_eval.reporting.figures.break_even import PANELS, cost_by_questions, lanes
from lift_eval.reporting.figures.contents import FIGURES, all_figures
from lift_eval.reporting.figures.drawing import draw, on_page, on_paper
from lift_eval.reporting.figures.figure import Figure
from lift_eval.reporting.figures.fronts import apart, front
from lift_eval.reporting.figures.layers import INK
from lift_eval.reporting.figures.needle import needle_shares
from lift_eval.reporting.figures.pixels import png
from lift_eval.reporting.figures.shared import look_of
from lift_eval.reporting.inference import infer_experiment
from lift_eval.reporting.planning import runs_of_rows
from lift_eval.results.reading import read_runs
from tests.reporting.everything import write_everything
from tests.reporting.helpers import document_record, rows, write_run
from tests.reporting.test_comparison import write_alternatives


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    return compare(load_experiment(write_everything(tmp_path_factory.mktemp("everything"))))


@pytest.fixture(scope="module")
def drawings(everything: Comparison) -> dict[str, str]:
    return drawn(everything)


def drawn(comparison: Comparison) -> dict[str, str]:
    """Each figure as SVG, in ink."""
    return {figure.name: draw(figure) for figure in all_figures(comparison)}


def texts(svg: str) -> set[str]:
    root = ET.fromstring(svg)
    return {"".join(node.itertext()).strip() for node in root.iter("{http://www.w3.org/2000/svg}text")}


def test_every_figure_is_drawn_where_there_is_data(drawings: dict[str, str]) -> None:
    assert set(drawings) == set(FIGURES)


def test_figures_say_what_they_show(drawings: dict[str, str]) -> None:
    assert {"ShortQA", "LongQA", "Computation", "Needle", "ICL", "LIFT"} <= texts(drawings["scores"])
    assert {"ShortQA", "LongQA", "beginning", "middle", "end"} <= texts(drawings["places"])
    assert "several places" not in texts(drawings["places"]), "every question has its evidence in one place"
    assert "Computation" not in texts(drawings["places"]), "questions of one type are among those of LongQA"
    assert {"ShortQA", "document length in tokens"} <= texts(drawings["length"])
    assert {"1k", "4k", "16k", "0 %", "50 %", "100 %", "ICL", "LIFT"} <= texts(drawings["needle"])
    assert "Gated Memory, closed book" in texts(drawings["gates"])
    assert {"pair generation", "training", "answering", "Gated Memory, closed book"} <= texts(
        drawings["costs"]
    )
    assert {"GiB", "ICL", "LIFT"} <= texts(drawings["memory"])
    assert {"answering", "ICL", "document length in tokens", "GiB"} <= texts(drawings["document-memory"])


def test_the_needle_map_shows_the_share_found_in_each_cell(everything: Comparison) -> None:
    shares = needle_shares(everything)
    found = {
        method: [cell["share"] for cell in shares if cell["panel"] == method] for method in ("ICL", "LIFT")
    }
    assert found == {"ICL": [100, 0, 0] * 3, "LIFT": [100, 100, 0] * 3}, "depth by depth, length by length"
    assert [cell["x"] for cell in shares[:3]] == ["1k", "4k", "16k"]


def test_break_even_marks_the_crossing(everything: Comparison, drawings: dict[str, str]) -> None:
    # Per 1,000 tokens ICL takes 0.5 s for 12 answers; the closed-book method 3 s before and 0.1 s for 12 answers.
    assert "90" in texts(drawings["break-even"])


def test_a_front_holds_what_no_other_method_beats_in_score_and_cost() -> None:
    points = [{"x": x, "y": y} for x, y in ((1, 10), (2, 8), (3, 30), (3, 20), (9, 30), (10, 31))]
    assert [point["x"] for point in front(points, higher_is_better=True)] == [1, 3, 10]
    assert [point["x"] for point in front(points, higher_is_better=False)] == [1, 2]


def test_scores_are_drawn_against_what_preparation_and_keeping_take(drawings: dict[str, str]) -> None:
    for name, axis in {
        "score-preparation": "operations before the first answer",
        "score-stored": "bytes stored per document",
    }.items():
        assert {axis, "ShortQA", "ICL", "LIFT"} <= texts(drawings[name])


def test_figures_take_the_ink_of_the_page(drawings: dict[str, str]) -> None:
    for drawing in drawings.values():
        head, _, body = on_page(drawing).partition("</style>")
        assert "prefers-color-scheme: dark" in head
        assert INK not in body
        assert "currentColor" in body


def test_pngs_are_on_paper(drawings: dict[str, str]) -> None:
    for drawing in drawings.values():
        image = Image.open(io.BytesIO(png(on_paper(drawing)))).convert("RGB")
        assert image.getpixel((0, image.height - 1)) == (255, 255, 255)
        assert image.width > 1000


def test_equal_runs_give_equal_figures(everything: Comparison, drawings: dict[str, str]) -> None:
    assert drawn(everything) == drawings
    assert [png(drawing) for drawing in drawings.values()] == [png(drawing) for drawing in drawings.values()]


def test_methods_differ_in_colour_and_marker(everything: Comparison) -> None:
    looks = [look_of(everything, row.name) for row in everything.experiment.rows]
    assert all(len(set(parts)) == len(looks) for parts in zip(*looks, strict=True))


def test_lines_that_cover_each_other_are_told_apart(tmp_path: Path) -> None:
    """Two methods with equal losses: the second is drawn broken and with smaller markers, so that the first shows."""
    for name in ("one", "two"):
        write_run(
            tmp_path / name,
            {"task": [1]},
            rows(1, 1),
            model_args={"recipe": name},
            recipe={"name": name, "adapter": {"type": "lora"}},
            documents=[document_record("doc0", losses=[3.0, 2.0, 1.0])],
        )
    runs = read_runs([tmp_path])
    experiment = infer_experiment(runs, "T", tmp_path / "e.yaml")
    drawing = drawn(compare(experiment, runs_of_rows(experiment, runs)))["losses"]
    lines = re.findall(r'<path d="([^"]*)" fill="none" stroke-width="2.2"', drawing)
    dashed = re.findall(r'<path d="([^"]*)" fill="none" stroke-width="2.2"[^>]*stroke-dasharray', drawing)
    assert lines == dashed * 2


def test_the_axis_of_one_document_begins_at_nothing(tmp_path: Path) -> None:
    write_run(tmp_path, {"task": [1]}, rows(1, 1), documents=[document_record("doc0", tokens=1071)])
    runs = read_runs([tmp_path])
    drawing = drawn(compare(infer_experiment(runs, "T", tmp_path / "e.yaml"), {"icl": runs}))["costs"]
    assert {"0", "1k"} <= texts(drawing)


def test_figures_scale_with_the_page(drawings: dict[str, str]) -> None:
    for drawing in drawings.values():
        root = ET.fromstring(on_page(drawing))
        assert root.get("viewBox") == f"0 0 {root.get('width')} {root.get('height')}"


def test_names_stand_in_figures_as_they_are(tmp_path: Path) -> None:
    path = write_everything(tmp_path)
    name = "<b>LIFT</b> & 0.00005 #1234567"
    path.write_text(path.read_text().replace("name: LIFT", f"name: '{name}'"))
    drawings = drawn(compare(load_experiment(path)))
    assert name in texts(drawings["scores"])


def test_nothing_is_drawn_of_nothing(tmp_path: Path) -> None:
    path = write_everything(tmp_path)
    for file in (tmp_path / "results").rglob("*.json*"):
        file.unlink()
    assert list(all_figures(compare(load_experiment(path)))) == []


def test_foreign_runs_have_scores_but_no_costs(tmp_path: Path) -> None:
    data = [{**row, "depth": None} for row in rows(3, 2)]
    write_run(tmp_path, {"task": [1, 0] * 3}, data, model="hf")
    runs = read_runs([tmp_path])
    comparison = compare(infer_experiment(runs, "T", tmp_path / "e.yaml"), {"hf": runs})
    assert list(drawn(comparison)) == ["scores"]


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """More methods than there are colours and markers; three pay off against ICL, of which the last is a control."""
    folder = tmp_path_factory.mktemp("crowd")
    for number in range(10):
        write_run(
            folder / f"method{number}",
            {"task": [number % 2, 1, 0, 1, 0, 1]},
            rows(3, 2),
            model_args={"recipe": f"method{number}"},
            recipe={
                "name": f"method{number}",
                "adapter": {"type": "lora" if number else "none"},
                "decoding": {"learned": "wrong" if number == 9 else "own"},
            },
            documents=[
                document_record(
                    f"doc{document}",
                    losses=[3.0, 2.0] if number else [],
                    operations={"train": 10**9 * number, "answer": 10**6},
                    seconds={
                        "synthesis": 0.0,
                        "train": 5.0 * number,
                        "answer": 1.0 + number if number < 7 else 0.5,
                    },
                    stored_bytes=1000 * number,
                )
                for document in range(3)
            ],
        )
    runs = read_runs([folder])
    experiment = infer_experiment(runs, "T", folder / "e.yaml")
    return compare(experiment, runs_of_rows(experiment, runs))


def test_many_methods_are_named_where_they_are_drawn(crowd: Comparison) -> None:
    methods = {row.name for row in crowd.experiment.rows}
    drawings = drawn(crowd)
    assert methods | {column.label for column in crowd.experiment.columns} <= texts(drawings["scores"])
    assert methods | {"beginning", "middle"} <= texts(drawings["places"])
    assert methods - {crowd.experiment.baseline} == texts(drawings["losses"]) & methods
    numbered = {f"{number} {row.name}" for number, row in enumerate(crowd.experiment.rows, start=1)}
    assert numbered | set("123456789") <= texts(drawings["score-stored"])


def test_of_many_methods_those_that_pay_off_are_drawn_against_the_number_of_questions(
    crowd: Comparison,
) -> None:
    methods = {row.name for row in crowd.experiment.rows}
    assert texts(drawn(crowd)["break-even"]) & methods == {crowd.experiment.baseline, "method7", "method8"}


def test_the_crossings_of_the_figure_are_those_of_the_table(tmp_path: Path) -> None:
    """With the baseline, which reads the whole text here, and with retrieval, in seconds and in operations."""
    comparison = write_alternatives(tmp_path)
    shown = cost_by_questions(comparison)
    assert shown is not None
    crossings = shown[2]["crossings"]
    fields = (crossings[name] for name in ("panel", "look", "other", "label"))
    expected = {
        (panel, one.row, one.baseline, f"{math.ceil(one.questions):,}")
        for unit, panel in PANELS.items()
        for one in all_break_evens(comparison, unit)
        if 0 < one.questions < math.inf
    }
    assert set(zip(*fields, strict=True)) == expected
    found = {(panel.partition(" ")[0], row, other) for panel, row, other, _ in expected}
    assert {("operations", "lora none", "none full"), ("operations", "lora none", "none retrieved")} <= found
    assert {*PANELS.values(), "12"} <= texts(draw(Figure("break-even", "", "", *shown)))


def test_numbers_below_crossings_are_covered_by_nothing() -> None:
    starts, widths = [0.0, 0.1, 0.15, 0.5, 0.9], [0.2, 0.2, 0.2, 0.2, 0.2]
    assert lanes(starts, widths) == [2, 1, 0, 0, 0]


def test_numbers_of_methods_with_equal_cost_do_not_cover_each_other() -> None:
    points = [{"x": 100.0, "y": y, "low": 0.0, "high": 40.0} for y in (20.0, 20.0, 21.0)]
    points.append({"x": 1000.0, "y": 20.0, "low": 0.0, "high": 40.0})
    assert apart(points) == [20.0, 23.0, 26.0, 20.0]
