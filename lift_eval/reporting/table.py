"""A table as plain data that every format is written from, and how its numbers are written."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

MINUS = "−"
NOTHING = "–"


@dataclass(frozen=True)
class TableCell:
    """One cell of a table.

    Attributes:
        text: Its text.
        detail: Further parts, shown smaller where a format can.
        bold: Whether it is the best of its column.
        muted: Whether it is not a number of this comparison, e.g. not run.
        marks: Letters of notes below the table.
        order: What the table is sorted by; None sorts last.
    """

    text: str
    detail: tuple[str, ...] = ()
    bold: bool = False
    muted: bool = False
    marks: str = ""
    order: float | str | None = None


@dataclass(frozen=True)
class Table:
    """A table with its title, its caption, and the notes that its marks refer to.

    Attributes:
        name: Part of ids and labels.
        title: Its heading.
        caption: Sentences on how to read it.
        header: Names of the columns; the first column names the rows.
        rows: Its cells.
        notes: (mark, text) of each note.
        remarks: Notes on the whole table.
        classes: The class of each row, by which a page filters them; empty where rows have none.
        more: Lines about each row, collapsed on a page; may be empty.
    """

    name: str
    title: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[TableCell, ...], ...]
    notes: tuple[tuple[str, str], ...] = ()
    remarks: tuple[str, ...] = field(default=())
    classes: tuple[str, ...] = ()
    more: tuple[tuple[str, ...], ...] = ()


def number(value: float, decimals: int = 1) -> str:
    """A number with a real minus sign; a dash for NaN."""
    if math.isnan(value):
        return NOTHING
    text = f"{abs(value):.{decimals}f}"
    return f"{MINUS}{text}" if value < 0 and float(text) else text


def signed(value: float, decimals: int = 1) -> str:
    """A difference with its sign."""
    text = number(value, decimals)
    return text if text[0] in (MINUS, NOTHING) else f"+{text}"


def p_value(value: float) -> str:
    """A p-value with three digits."""
    if math.isnan(value):
        return NOTHING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def span(low: float, high: float, decimals: int = 1) -> str:
    """An interval; empty for NaN."""
    return "" if math.isnan(low) else f"[{number(low, decimals)}, {number(high, decimals)}]"


def share(value: float) -> str:
    """A share as a percentage."""
    return NOTHING if math.isnan(value) else f"{100 * value:.0f} %"


def seconds(value: float) -> str:
    """A readable time."""
    if value >= 600:
        return f"{value / 60:.0f} min"
    return f"{value:.0f} s" if value >= 100 else f"{value:.1f} s" if value >= 1 else f"{value * 1000:.0f} ms"


def scaled(value: float, unit: str = "") -> str:
    """An amount with three digits and a prefix: 1.23 G, 45 MB."""
    for prefix in ("", "k", "M", "G", "T", "P"):
        if value < 999.5 or prefix == "P":
            return f"{value:.3g} {prefix}{unit}".strip()
        value /= 1000
    raise AssertionError


def count(value: float | None) -> TableCell:
    """A count; a dash if it is unknown."""
    return TableCell(NOTHING, muted=True) if value is None else TableCell(f"{int(value):,}", order=int(value))
