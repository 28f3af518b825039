"""Reports: a comparison written as a page, as Markdown, LaTeX, CSV and JSON, with its figures.

render_experiment("reports/loogle.yaml")        -> reports/loogle/report.html and its siblings
render_results(["results/"], "report/")         the same without an experiment file
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lift_eval.errors import ResultsError
from lift_eval.reporting.comparison import Comparison, compare
from lift_eval.reporting.controls import nearness
from lift_eval.reporting.experiment import load_experiment
from lift_eval.reporting.figures.contents import FIGURES, all_figures
from lift_eval.reporting.figures.render_pool import Drawing, RenderPool
from lift_eval.reporting.formats import (
    csv_cells,
    json_comparison,
    latex_table,
    markdown_table,
    markdown_text,
    terminal_table,
)
from lift_eval.reporting.inference import infer_experiment
from lift_eval.reporting.planning import runs_of_rows
from lift_eval.reporting.provenance import provenance
from lift_eval.reporting.samples import browser_data, script_json
from lift_eval.reporting.tables import all_tables, scores_table
from lift_eval.results.reading import read_runs

if TYPE_CHECKING:
    import jinja2

TEMPLATES = Path(__file__).parent / "templates"
FIGURE_FOLDER = "figures"


@dataclass(frozen=True)
class Report:
    """A report that was written.

    Attributes:
        folder: Where it is.
        comparison: What it shows.
    """

    folder: Path
    comparison: Comparison

    @property
    def page(self) -> Path:
        """The HTML page."""
        return self.folder / "report.html"

    def summary(self, bold: Callable[[str], str] = str) -> str:
        """The scores as a table for a terminal, after a line on what they fall short of.

        Args:
            bold: Makes a text bold; by default it stays as it is.
        """
        return "\n".join([*_warnings(self.comparison), terminal_table(scores_table(self.comparison), bold)])


def render_experiment(
    path: str | Path, out: str | Path | None = None, pool: RenderPool | None = None
) -> Report:
    """Render an experiment file from the runs that are there.

    Args:
        path: The experiment file.
        out: Folder of the report. None means a folder beside the experiment file, with its name.
        pool: The processes that draw the figures. None means a report without figures.

    Raises:
        ResultsError: If the file or a run cannot be used.
    """
    experiment = load_experiment(path)
    return render(compare(experiment), Path(out or experiment.path.with_suffix("")), pool)


def render_results(
    paths: Sequence[str | Path],
    out: str | Path,
    pool: RenderPool | None = None,
    *,
    title: str = "Comparison of runs",
    metric: str | None = None,
) -> Report:
    """Render the runs that exist, without an experiment file.

    Args:
        paths: Folders and results files.
        out: Folder of the report.
        pool: The processes that draw the figures. None means a report without figures.
        title: Its heading.
        metric: The score of every task that has it. None means each task's usual one.

    Raises:
        ResultsError: If there are no runs, or one cannot be used.
    """
    runs = read_runs(paths)
    # Files are named relative to the folder that holds them all.
    common = Path(os.path.commonpath([run.path.parent.resolve() for run in runs]))
    experiment = infer_experiment(runs, title, common / "experiment.yaml", metric)
    found = runs_of_rows(experiment, runs)
    return render(compare(experiment, found), Path(out), pool)


def render(comparison: Comparison, out: Path, pool: RenderPool | None) -> Report:
    """Write all files of a report.

    Args:
        comparison: What to show.
        out: The folder; made where it is missing. Files of an older report are replaced.
        pool: The processes that draw the figures. None means a report without figures.
    """
    drawings = pool.draw(all_figures(comparison)) if pool else []
    out.mkdir(parents=True, exist_ok=True)
    content = _content(comparison, drawings)
    tables = content["tables"]
    _write(out / "report.md", _template("report.md.j2").render(content))
    _write(out / "tables.tex", "\n".join(latex_table(table) for table in tables))
    _write(out / "cells.csv", csv_cells(comparison))
    _write(
        out / "report.json", json_comparison(comparison, content["nearness"], content["provenance"].as_dict())
    )
    # Figures come last, since they are being drawn meanwhile.
    _write(out / "report.html", _page(content, comparison))
    _write_figures(drawings, out / FIGURE_FOLDER)
    return Report(out, comparison)


def _content(comparison: Comparison, drawings: Sequence[Drawing]) -> dict[str, Any]:
    experiment, near = comparison.experiment, nearness(comparison)
    return {
        "title": experiment.title,
        "description": experiment.description.strip(),
        "warnings": _warnings(comparison),
        "tables": all_tables(comparison, near),
        "nearness": near,
        "drawings": drawings,
        "figure_folder": FIGURE_FOLDER,
        "missing": comparison.missing,
        "experiment": experiment.path.as_posix(),
        "inferred": not experiment.path.is_file(),
        "provenance": provenance(comparison),
        "baseline": experiment.baseline,
    }


def _warnings(comparison: Comparison) -> list[str]:
    if not comparison.shortfalls:
        return []
    return [f"Not the full benchmark: {'; '.join(comparison.shortfalls)}."]


def _page(content: dict[str, Any], comparison: Comparison) -> str:
    style, script = (TEMPLATES / name for name in ("report.css", "report.js"))
    texts = {path.suffix[1:]: path.read_text(encoding="utf-8") for path in (style, script)}
    return _template("report.html.j2").render(
        content,
        style=texts["css"],
        script=texts["js"],
        style_hash=_hash(texts["css"]),
        script_hash=_hash(texts["js"]),
        samples=script_json(browser_data(comparison)),
    )


def _hash(text: str) -> str:
    """As a Content-Security-Policy names what may run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _template(name: str) -> jinja2.Template:
    return _templates().get_template(name)


@cache
def _templates() -> jinja2.Environment:
    import jinja2  # while figures are being drawn

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=jinja2.select_autoescape(["html.j2"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["markdown_text"] = markdown_text
    environment.filters["markdown_table"] = markdown_table
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode()
    return environment


def _write_figures(drawings: Sequence[Drawing], folder: Path) -> None:
    if folder.is_symlink():
        raise ResultsError(f"{folder} is a link, which could lead out of the report; delete it")
    for name in FIGURES:
        for suffix in ("svg", "png"):
            (folder / f"{name}.{suffix}").unlink(missing_ok=True)
    if drawings:
        folder.mkdir(exist_ok=True)
    for drawing in drawings:
        (folder / f"{drawing.figure.name}.svg").write_bytes(drawing.svg)
        (folder / f"{drawing.figure.name}.png").write_bytes(drawing.png)


def _write(path: Path, text: str) -> None:
    if path.is_symlink():  # replace the link, not its target
        path.unlink()
    # Answers may hold half a character.
    path.write_text(text, encoding="utf-8", errors="replace", newline="\n")
