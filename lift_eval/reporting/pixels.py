"""Pixels of a figure, made by resvg in a process of its own while the other figures are drawn.

resvg works for as long as lets-plot, and lets no other thread of Python run meanwhile. The process is started anew, not
forked, since forking one with threads is not safe; this module is all that it imports.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from types import TracebackType

import resvg_py

from lift_eval.errors import ResultsError

PAPER = "#ffffff"
ZOOM = 1.4
"""Pixels of a PNG for each of the figure's."""
FONT_FILE = files("font_source_sans_pro") / "files" / "SourceSansPro-Regular.ttf"
FONT = "Source Sans Pro"
"""The font of the PNGs, the same on every machine; an SVG takes the reader's."""


def png(picture: str) -> bytes:
    """A PNG of an SVG."""
    # Nothing of ours reaches beyond its panel, and clipping takes resvg as long as all the rest.
    pixels: bytes = resvg_py.svg_to_bytes(
        svg_string=re.sub(r' clip-path="[^"]*"', "", picture),
        zoom=ZOOM,
        background=PAPER,
        font_files=[str(FONT_FILE)],
        sans_serif_family=FONT,
        skip_system_fonts=True,
    )
    return pixels


class Painter:
    """A process that makes PNGs, one after the other. It ends when it has made those it was given."""

    def __enter__(self) -> Painter:
        # -m finds this package in the folder that holds it, wherever it was started from.
        self._process = subprocess.Popen(  # noqa: S603 - this very module
            [sys.executable, "-m", __name__],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the report, and this ends with it
        )
        self._thread = ThreadPoolExecutor(1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.submit(self._process.communicate)
        self._thread.shutdown(wait=False)

    def paint(self, picture: str) -> Future[bytes]:
        """The PNG of an SVG, when it is there."""
        return self._thread.submit(self._paint, picture)

    def _paint(self, picture: str) -> bytes:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(picture).encode() + b"\n")
            self._process.stdin.flush()
            reply = self._process.stdout.readline()
        except BrokenPipeError:
            reply = b""
        if not reply:
            raise ResultsError(
                f"the process that paints figures ended with status {self._process.wait()}; see what it printed, and "
                "render again"
            )
        return base64.b64decode(reply)


def main() -> None:
    """Answer each line of standard input, an SVG as JSON, with a line of output, a PNG in Base64."""
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(base64.b64encode(png(json.loads(line))) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
