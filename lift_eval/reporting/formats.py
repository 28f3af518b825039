"""Tables as text: for a terminal, Markdown, LaTeX with booktabs, CSV; and the whole comparison as JSON."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import re
from collections.abc import Callable, Iterable
from typing import Any, get_args

from lift_eval.reporting.comparison import Cell, Comparison
from lift_eval.reporting.controls import Nearness
from lift_eval.reporting.costs import Unit, all_break_evens, method_costs
from lift_eval.reporting.table import MINUS, NOTHING, Table, TableCell

# --------------------------------------------------------------------------------------------------------- terminal


def terminal_table(table: Table, bold: Callable[[str], str] = str) -> str:
    """A table in aligned columns, with its notes below.

    Args:
        table: The table.
        bold: Makes a text bold; by default it stays as it is.
    """
    texts = [list(table.header), *([_terminal_cell(entry) for entry in row] for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    best = [[False] * len(widths), *([entry.bold for entry in row] for row in table.rows)]
    lines = []
    for cells, bolds in zip(texts, best, strict=True):
        aligned = [
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        parts = (bold(cell) if is_best else cell for cell, is_best in zip(aligned, bolds, strict=True))
        lines.append("  ".join(parts).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    notes = [*table.remarks, *(f"({mark}) {note}" for mark, note in table.notes)]
    return "\n".join([*lines, *([""] if notes else []), *notes]) + "\n"


def _terminal_cell(entry: TableCell) -> str:
    parts = [entry.text, *entry.detail, f"({entry.marks})" if entry.marks else ""]
    return " ".join(part for part in parts if part)


# --------------------------------------------------------------------------------------------------------- Markdown

_MARKDOWN_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~])")


def markdown_text(text: str) -> str:
    """Text that Markdown shows as it is: one line, special characters escaped."""
    return _MARKDOWN_SPECIAL.sub(r"\\\1", " ".join(text.split()))


def markdown_table(table: Table) -> str:
    """A table in Markdown, with its notes below."""
    lines = [
        "| " + " | ".join(map(markdown_text, table.header)) + " |",
        "|" + "|".join([" :-- ", *[" --: "] * (len(table.header) - 1)]) + "|",
    ]
    lines += ["| " + " | ".join(map(_markdown_cell, row)) + " |" for row in table.rows]
    if table.notes or table.remarks:
        lines.append("")
    lines += [f"- {markdown_text(remark)}" for remark in table.remarks]
    lines += [f"- ({mark}) {markdown_text(note)}" for mark, note in table.notes]
    return "\n".join(lines) + "\n"


def _markdown_cell(entry: TableCell) -> str:
    text = markdown_text(entry.text)
    if entry.bold:
        text = f"**{text}**"
    elif entry.muted:
        text = f"_{text}_"
    parts = [text, *map(markdown_text, entry.detail)]
    if entry.marks:
        parts.append(f"({entry.marks})")
    return " ".join(part for part in parts if part)


# ------------------------------------------------------------------------------------------------------------ LaTeX

_LATEX_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    MINUS: "$-$",
    NOTHING: "--",
}


def latex_text(text: str) -> str:
    """Text that LaTeX prints as it is."""
    return "".join(_LATEX_SPECIAL.get(letter, letter) for letter in " ".join(text.split()))


def latex_table(table: Table) -> str:
    """A table in LaTeX; needs the package booktabs."""
    columns = "l" + "r" * (len(table.header) - 1)
    lines = [
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{latex_text(f'{table.title}. {table.caption}')}}}",
        rf"  \label{{tab:{table.name}}}",
        rf"  \begin{{tabular}}{{{columns}}}",
        r"    \toprule",
        "    " + " & ".join(map(latex_text, table.header)) + r" \\",
        r"    \midrule",
        *("    " + " & ".join(map(_latex_cell, row)) + r" \\" for row in table.rows),
        r"    \bottomrule",
        r"  \end{tabular}",
        *(rf"  \\ \footnotesize {latex_text(remark)}" for remark in table.remarks),
        *(rf"  \\ \footnotesize $^{{{mark}}}$ {latex_text(note)}" for mark, note in table.notes),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex_cell(entry: TableCell) -> str:
    text = latex_text(entry.text)
    if entry.bold:
        text = rf"\textbf{{{text}}}"
    elif entry.muted:
        text = rf"\textit{{{text}}}"
    if entry.marks:
        text += f"$^{{{entry.marks}}}$"
    detail = " ".join(latex_text(part) for part in entry.detail if part)
    return rf"{text} {{\scriptsize {detail}}}" if detail else text


# ----------------------------------------------------------------------------------------------------- CSV and JSON


def csv_cells(comparison: Comparison) -> str:
    """All cells, one line each, numbers in full."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(field.name for field in dataclasses.fields(Cell))
    writer.writerows(map(_csv_value, vars(cell).values()) for cell in comparison.cells)
    return lines.getvalue()


def _csv_value(value: object) -> object:
    """NaN as nothing; texts as a list of them, numbers as words."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    if isinstance(value, tuple):
        return ("; " if any(isinstance(part, str) for part in value) else " ").join(map(str, value))
    return value


def json_comparison(comparison: Comparison, near: Iterable[Nearness], provenance: dict[str, Any]) -> str:
    """Everything but the samples, for programs.

    Args:
        comparison: What to write.
        near: Its `nearness`.
        provenance: Its `provenance` as plain data.
    """
    experiment = comparison.experiment
    data = {
        "title": experiment.title,
        "baseline": experiment.baseline,
        "columns": [column.model_dump(mode="json") for column in experiment.columns],
        "shortfalls": list(comparison.shortfalls),
        "cells": [_plain(dataclasses.asdict(cell)) for cell in comparison.cells],
        "costs": [_plain(dataclasses.asdict(cost)) for cost in method_costs(comparison).values()],
        "break_evens": [
            {"unit": unit, **_plain(dataclasses.asdict(found)), "questions": _plain(found.questions)}
            for unit in get_args(Unit)
            for found in all_break_evens(comparison, unit)
        ],
        "nearness": [_plain(dataclasses.asdict(one)) for one in near],
        "published": [_plain(dataclasses.asdict(row)) for row in comparison.published],
        "missing": [
            {"row": run.row, "seed": run.seed, "tasks": list(run.tasks), "command": run.command}
            for run in comparison.missing
        ],
        "provenance": provenance,
    }
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:  # noqa: ANN401 - JSON has no type
    """NaN as null, infinity as "never"; numbers so short that the last bits of another machine's sums do not show."""
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if value == math.inf:
        return "never"
    if isinstance(value, float):
        return None if math.isnan(value) else float(f"{value:.6g}")
    return value
