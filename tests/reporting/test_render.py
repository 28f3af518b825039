"""Whole reports, against golden files made from small real runs."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lift_eval.errors import ResultsError
from lift_eval.reporting.figures.render_pool import RenderPool
from lift_eval.reporting.render import render_experiment, render_results
from lift_eval.reporting.samples import script_json
from lift_eval.reporting.tables import all_tables
from tests.reporting.everything import write_everything
from tests.reporting.helpers import document_record, rows, write_run

HERE = Path(__file__).parent
GOLDEN = HERE / "golden"
FORMATS = ("report.md", "report.html", "tables.tex", "cells.csv", "report.json")


@pytest.fixture
def fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The runs of the fixture, in a folder of their own, named as a user would name them."""
    shutil.copytree(HERE / "fixture", tmp_path / "fixture")
    monkeypatch.chdir(tmp_path)
    return Path("fixture/experiment.yaml")


@pytest.mark.parametrize("name", FORMATS)
def test_golden(fixture: Path, name: str, request: pytest.FixtureRequest) -> None:
    """Set LIFT_EVAL_GOLDEN=write to make the golden files anew, and read the difference before committing it."""
    made = (render_experiment(fixture, "out").folder / name).read_text(encoding="utf-8")
    golden = GOLDEN / name
    if os.environ.get("LIFT_EVAL_GOLDEN") == "write":
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(made, encoding="utf-8")
    assert made == golden.read_text(encoding="utf-8")


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_equal_inputs_give_equal_bytes(fixture: Path) -> None:
    with RenderPool() as pool:
        first, second = (files_of(render_experiment(fixture, out, pool).folder) for out in ("one", "two"))
    assert first == second
    assert {"figures/scores.svg", "figures/scores.png", *FORMATS} <= set(first)


def test_nothing_is_written_through_a_link(fixture: Path, tmp_path: Path) -> None:
    out, outside = tmp_path / "out", tmp_path / "outside"
    out.mkdir()
    outside.mkdir()
    for name in FORMATS:
        (outside / name).write_text("theirs")
        (out / name).symlink_to(outside / name)
    render_experiment(fixture, out)
    assert {path.read_text() for path in outside.iterdir()} == {"theirs"}
    assert not any((out / name).is_symlink() for name in FORMATS)
    (out / "figures").symlink_to(outside)
    with RenderPool() as pool, pytest.raises(ResultsError, match="is a link, which could lead out"):
        render_experiment(fixture, out, pool)


def test_a_report_stands_beside_its_experiment(fixture: Path) -> None:
    report = render_experiment(fixture)
    assert report.page == Path("fixture/experiment/report.html")
    assert report.page.is_file()


def test_figures_of_an_older_report_are_taken_away(fixture: Path) -> None:
    with RenderPool() as pool:
        render_experiment(fixture, "out", pool)
    assert list(Path("out/figures").iterdir())
    render_experiment(fixture, "out")
    assert not list(Path("out/figures").iterdir())


# --------------------------------------------------------------------------------------------------------- formats


def test_csv_holds_every_cell_as_numbers(fixture: Path) -> None:
    text = (render_experiment(fixture, "out").folder / "cells.csv").read_text()
    cells = list(csv.DictReader(text.splitlines()))
    assert [(cell["row"], cell["column"]) for cell in cells][:3] == [
        ("ICL", "All questions"),
        ("ICL", "Odd questions"),
        ("LIFT", "All questions"),
    ]
    assert float(cells[0]["value"]) == pytest.approx(100 * 8 / 24, rel=1e-5)
    assert cells[-1]["status"] == "not run"


def test_json_says_null_where_there_is_no_number(fixture: Path) -> None:
    text = (render_experiment(fixture, "out").folder / "report.json").read_text()
    data = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert data["cells"][0]["difference"] is None
    assert data["missing"][0]["row"] == "Gated Memory"


def test_special_characters_survive_every_format(tmp_path: Path) -> None:
    folder = render_experiment(write_everything(tmp_path), tmp_path / "out").folder
    assert "# Everything & \\<more\\>" in (folder / "report.md").read_text()
    assert "<title>Everything &amp; &lt;more&gt;</title>" in (folder / "report.html").read_text()
    tex = (folder / "tables.tex").read_text()
    assert r"p \textless{} 0.05" in tex
    assert tex.count(r"\begin{table}") == tex.count(r"\end{table}") >= 4
    # Every row of a table has as many cells as its head.
    for body in re.findall(r"\\toprule(.*?)\\bottomrule", tex, re.DOTALL):
        lines = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert len({len(re.findall(r"(?<!\\)&", line)) for line in lines}) == 1


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(tmp_path: Path) -> None:
    folder = render_experiment(write_everything(tmp_path), tmp_path / "out").folder
    head = r"\documentclass{article}\usepackage{booktabs}\begin{document}"
    page = rf"{head}\input{{{folder}/tables.tex}}\end{{document}}"
    (tmp_path / "page.tex").write_text(page)
    subprocess.run(
        ["pdflatex", "-interaction=batchmode", "-halt-on-error", "page.tex"], cwd=tmp_path, check=True
    )


class Links(HTMLParser):
    """Collects what a page would fetch, and its ids and the anchors that lead to them."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.ids: list[str] = []
        self.anchors: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            elif name == "href" and (value or "").startswith("#"):
                self.anchors.append((value or "")[1:])
            elif name in ("src", "href", "srcset", "action", "data"):
                self.fetched.append(value or "")


def test_the_page_needs_nothing_but_itself(tmp_path: Path) -> None:
    with RenderPool() as pool:
        page = render_experiment(write_everything(tmp_path), tmp_path / "out", pool).page.read_text()
    links = Links()
    links.feed(page)
    assert links.fetched
    assert all(link.startswith("data:image/svg+xml;base64,") for link in links.fetched)
    assert len(set(links.ids)) == len(links.ids)
    assert set(links.anchors) <= set(links.ids)
    assert "default-src 'none'" in page


def test_script_json_cannot_leave_its_element() -> None:
    hostile = "</script><script>alert(1)</script><!-- \u2028 & ]]>"
    text = script_json({"a": [hostile]})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": [hostile]}


# -------------------------------------------------------------------------------------------- without experiment


def test_results_alone_make_a_report(fixture: Path) -> None:
    report = render_results(["fixture/results"], "out")
    comparison = report.comparison
    assert [row.name for row in comparison.experiment.rows] == ["icl", "hf", "lora"]
    assert comparison.missing == ()
    assert comparison.cell("lora", comparison.experiment.columns[0].label).seeds == (0, 1)
    assert "`lift-eval run" not in (report.folder / "report.md").read_text()


def test_one_results_file_makes_a_report(fixture: Path) -> None:
    (path,) = Path("fixture/results/icl").glob("results_*.json")
    assert render_results([path], "out").page.is_file()


def test_nothing_makes_no_report(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="holds no results"):
        render_results([tmp_path], tmp_path / "out")


# ------------------------------------------------------------------------------------------------ what is said first


def test_the_first_line_says_what_is_missing_from_the_full_benchmark(tmp_path: Path) -> None:
    report = render_experiment(write_everything(tmp_path), tmp_path / "out")
    first = (report.folder / "report.md").read_text().splitlines()[2]
    assert first.startswith("**Not the full benchmark: ")
    assert r"loogle\_shortqa: 72 of 1,951 questions, 12 of 105 documents" in first
    assert report.summary().splitlines()[0].startswith("Not the full benchmark")


def test_a_terminal_shows_aligned_columns_without_escapes(fixture: Path) -> None:
    text = render_experiment(fixture, "out").summary(bold=lambda cell: f"<{cell}>")
    table = text.partition("\n\n")[0].splitlines()
    assert "\\" not in text
    assert [len(re.sub("[<>]", "", line)) for line in table] == [len(table[1])] * len(table)
    assert table[0].startswith("Method  ")
    assert re.search(r"<\s*\d", text), "the best is bold"


def test_one_document_has_no_interval_and_the_report_says_so(tmp_path: Path) -> None:
    for name in ("icl", "lora"):
        recipe = {"name": name, "adapter": {"type": "none" if name == "icl" else name}}
        write_run(
            tmp_path / "results" / name,
            {"task": [1, 0]},
            rows(1, 2),
            model_args={"recipe": name},
            recipe=recipe,
        )
    text = render_results([tmp_path / "results"], tmp_path / "out").summary()
    assert "Scores from 1 document have no interval and no test" in text
    assert "1 documents" not in text
    assert "too narrow" not in text


def test_what_went_otherwise_than_planned_is_counted(tmp_path: Path) -> None:
    documents = [
        document_record("doc0", incomplete_answers=3),
        document_record("doc1", failure="OutOfMemoryError: x", questions=0, lost_questions=5),
        document_record("doc2", retried="the loss was nan", kept=1.0),
    ]
    write_run(tmp_path / "results", {"task": [1, 0, 1]}, rows(3, 1), documents=documents)
    text = (render_results([tmp_path / "results"], tmp_path / "out").folder / "report.md").read_text()
    assert "1 failed document, whose questions count as wrong" in text
    assert "5 questions of failed documents" in text
    assert "1 document retrained at a tenth of the learning rate" in text
    header, _, counts = re.findall(r"^\|.*\|$", text.partition("Coverage and failures")[2], re.MULTILINE)[:3]
    names, values = ([part.strip() for part in line.strip("|").split("|")] for line in (header, counts))
    assert dict(zip(names, values, strict=True)) == {
        "Method": "icl",
        "Questions": "3",
        "Documents": "3",
        "Seeds": "0",
        "Kept": "70 %",
        "Truncated documents": "2",
        "Answers cut off": "3",
        "Retrained documents": "1",
        "Failed documents": "1",
        "Lost questions": "5",
    }


def test_what_is_not_known_of_a_documents_share_in_the_prompt_is_no_nought(tmp_path: Path) -> None:
    documents = [
        document_record("doc0", kept=None, not_located=5),
        document_record("doc1", kept=0.5, not_located=3),
    ]
    write_run(tmp_path / "results", {"task": [1, 0]}, rows(2, 1), documents=documents)
    report = render_results([tmp_path / "results"], tmp_path / "out")
    (table,) = (table for table in all_tables(report.comparison, []) if table.name == "runs")
    shown = dict(zip(table.header, (entry.text for entry in table.rows[0]), strict=True))
    assert (shown["Kept"], shown["Truncated documents"]) == ("50 %", "1")
    assert "8 questions with an altered or incomplete document in the prompt" in report.page.read_text()


def test_reports_tell_what_became_of_the_pairs(tmp_path: Path) -> None:
    counts = {"asked": 10, "requests": 25, "kept": 4, "cut": 9, "unparsed": 7, "evidence": 3, "given_up": 6}
    documents = [
        document_record("doc0", pairs=counts),
        document_record("doc1", pairs={**counts, "kept": 10, "given_up": 0, "untrainable": 1}),
    ]
    recipe = {"auxiliary": {"strategy": "passages", "generator": "self"}}
    write_run(tmp_path / "results", {"task": [1, 0]}, rows(2, 1), documents=documents, recipe=recipe)
    report = render_results([tmp_path / "results"], tmp_path / "out")
    (table,) = (table for table in all_tables(report.comparison, []) if table.name == "pairs")
    assert dict(zip(table.header, (entry.text for entry in table.rows[0]), strict=True)) == {
        "Method": "icl",
        "Generator": "self (bundled)",
        "Documents": "2",
        "Passages": "20",
        "Pairs kept": "14",
        "Cut off": "18",
        "Unparsed": "14",
        "Rejected": "6",
        "Without a pair": "6",
        "Not trained": "1",
    }
    assert "Auxiliary pairs" in report.page.read_text()


def test_a_run_with_few_pairs_is_flagged_and_one_without_such_a_task_has_no_table(tmp_path: Path) -> None:
    few = document_record("doc0", pairs={"asked": 10, "kept": 1, "given_up": 9})
    for name, documents in (("few", [few]), ("none", [document_record("doc0")])):
        write_run(tmp_path / name, {"task": [1]}, rows(1, 1), documents=documents)
        page = render_results([tmp_path / name], tmp_path / "out").page.read_text()
        assert ("1 document with few auxiliary pairs to train on" in page) == (name == "few")
        assert ("Auxiliary pairs" in page) == (name == "few")


# ------------------------------------------------------------------------------------------------------- lightness


def test_rendering_needs_neither_torch_nor_lm_eval_and_lets_plot_only_for_figures(fixture: Path) -> None:
    script = (
        "import sys; from lift_eval.reporting.render import render_experiment; "
        "render_experiment(sys.argv[1], 'out'); "
        "sys.exit(', '.join({'torch', 'lm_eval', 'transformers', 'lets_plot'} & set(sys.modules)) or 0)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, str(fixture)], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
