"""Draws docs/figures/segments.svg from the package's own functions: python docs/figures/segments.py."""

from __future__ import annotations

from pathlib import Path

import torch

from lift_eval.training.contextualized import draw_windows
from lift_eval.training.segments import segments

TOKENS, LENGTH, STRIDE, WINDOW = 9000, 2048, 768, 4096
LEFT, WIDTH, ROW = 190, 680, 15
INK, SEGMENT, FRONT, BACK = "#777", "#0072b2", "#e69f00", "#009e73"


def bar(start: int, stop: int, row: float, colour: str) -> str:
    """One bar of the figure, from a range of tokens."""
    x, width = LEFT + start / TOKENS * WIDTH, (stop - start) / TOKENS * WIDTH
    return f'<rect x="{x:.1f}" y="{row:.1f}" width="{width:.1f}" height="9" rx="2" fill="{colour}"/>'


def label(text: str, row: float) -> str:
    """A row's label, left of its bars."""
    return f'<text x="8" y="{row + 8:.1f}" fill="{INK}">{text}</text>'


def figure() -> str:
    """The figure as SVG: the document, its segments, and for three of them the windows that they are read behind."""
    ids = torch.arange(TOKENS)
    parts = [label(f"document, {TOKENS} tokens", 14), bar(0, TOKENS, 14, INK)]
    row = 40.0
    cut = segments(ids, LENGTH, STRIDE)
    for number, segment in enumerate(cut):
        first = label(f"{len(cut)} segments of {LENGTH},", row) if number == 0 else ""
        second = label(f"one every {STRIDE} tokens", row) if number == 1 else ""
        start = int(segment[0])
        parts += [first, second, bar(start, start + len(segment), row, SEGMENT)]
        row += ROW
    generator = torch.Generator().manual_seed(2)
    row += 12
    for number in (0, 4, 8):
        front, back = draw_windows(TOKENS, WINDOW, generator)
        start = int(cut[number][0])
        parts.append(label(f"windows of segment {number + 1}", row))
        parts += [bar(front.start, front.stop, row, FRONT), bar(back.start, back.stop, row, BACK)]
        parts.append(bar(start, start + len(cut[number]), row + 11, SEGMENT))
        row += 30
    text = "font: 12px system-ui, sans-serif"
    body = "\n".join(part for part in parts if part)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 10} {row:.0f}" style="{text}">\n'
        f"{body}\n</svg>\n"
    )


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(figure(), encoding="utf-8")
