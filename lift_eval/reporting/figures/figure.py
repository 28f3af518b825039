"""A figure before it is drawn: all data for drawing it, as plain values, so that any process can draw it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Look: TypeAlias = tuple[str, int]
"""Colour and marker, as lets-plot numbers them."""
Marks: TypeAlias = Mapping[str, Sequence[Any]]
"""What a layer of a figure shows: texts and numbers by field, one for each mark."""


@dataclass(frozen=True)
class Figure:
    """What a figure shows.

    Attributes:
        name: Its file name without ending; also says how it is drawn.
        title: Its heading.
        caption: How to read it; also what a screen reader says.
        marks: Its data. ``look`` names the look, and ``panel``, where it stands, the panel.
        looks: Of everything in the data, in the legend's order.
        more: What this figure alone has.
    """

    name: str
    title: str
    caption: str
    marks: Marks
    looks: Mapping[str, Look] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)

    def panels(self) -> int:
        """How many panels there are."""
        return len(set(self.marks.get("panel", [""])))
