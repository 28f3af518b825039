"""Pixels of a figure, made by resvg."""

from __future__ import annotations

import re
from importlib.resources import files

import resvg_py

PAPER = "#ffffff"
ZOOM = 1.4
"""Pixels of a PNG for each of the figure's."""
FONT_FILE = files("font_source_sans_pro") / "files" / "SourceSansPro-Regular.ttf"
FONT = "Source Sans Pro"
"""The font of the PNGs, the same on every machine; an SVG takes the reader's."""


def png(picture: str) -> bytes:
    """A PNG of an SVG."""
    # No figure here reaches beyond its panel, and clipping takes resvg as long as all the rest.
    pixels: bytes = resvg_py.svg_to_bytes(
        svg_string=re.sub(r' clip-path="[^"]*"', "", picture),
        zoom=ZOOM,
        background=PAPER,
        font_files=[str(FONT_FILE)],
        sans_serif_family=FONT,
        skip_system_fonts=True,
    )
    return pixels
