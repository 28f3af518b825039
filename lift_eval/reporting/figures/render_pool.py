"""Processes that draw figures while the rest of a report is made.

lets-plot and resvg let no other Python thread run while they work, so they work in processes of their own. The
processes are spawned, not forked, since forking a process with threads is not safe; they import the drawing alone.
They start with a report and are ready when it knows what to draw.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any

from lift_eval.errors import ResultsError
from lift_eval.reporting.figures.figure import Figure

PROCESSES = min(3, os.cpu_count() or 1)
"""With a fourth, a report takes as long (perf/NOTES.md)."""


@dataclass(frozen=True)
class Drawing:
    """A figure that is drawn or being drawn.

    Attributes:
        figure: What it shows.
    """

    figure: Figure
    _drawn: Future[dict[str, str]] = field(compare=False)
    _pixels: Future[dict[str, str]] = field(compare=False)

    @property
    def svg(self) -> bytes:
        """The file; waits for it."""
        return self._drawn.result()["page"].encode()

    @property
    def png(self) -> bytes:
        """The file; waits for it."""
        return base64.b64decode(self._pixels.result()["png"])


class RenderPool:
    """Processes that draw. They end with the context; fetch every drawing before that."""

    def __init__(self, processes: int = PROCESSES) -> None:
        self._count = processes

    def __enter__(self) -> RenderPool:
        # -m finds this package in the folder that holds it, wherever it was started from.
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "lift_eval.reporting.figures"],
                cwd=Path(__file__).parents[3],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for the report, and these end with it
            )
            for _ in range(self._count)
        ]
        self._idle: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
        for process in self._processes:
            self._idle.put(process)
        self._threads = ThreadPoolExecutor(self._count)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(cancel_futures=True)
        for process in self._processes:
            process.kill()  # it keeps nothing that could be lost
            process.communicate()

    def draw(self, figures: Iterable[Figure]) -> list[Drawing]:
        """Begin to draw each figure as it comes, and then its pixels; the page needs the figures first."""
        drawn = [
            (figure, self._threads.submit(self._request, {"figure": asdict(figure)})) for figure in figures
        ]
        return [
            Drawing(figure, picture, self._threads.submit(self._paint, picture)) for figure, picture in drawn
        ]

    def _paint(self, drawn: Future[dict[str, str]]) -> dict[str, str]:
        # No deadlock: the drawing that it waits for was submitted before.
        return self._request({"paper": drawn.result()["paper"]})

    def _request(self, question: dict[str, Any]) -> dict[str, str]:
        process = self._idle.get()
        try:
            return _request_from(process, question)
        finally:
            self._idle.put(process)


def _request_from(process: subprocess.Popen[bytes], question: dict[str, Any]) -> dict[str, str]:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(question).encode() + b"\n")
        process.stdin.flush()
        reply = process.stdout.readline()
    except BrokenPipeError:
        reply = b""
    if not reply:
        raise ResultsError(
            f"the process that draws figures ended with status {process.wait()}; see what it printed, and render again"
        )
    answer: dict[str, str] = json.loads(reply)
    return answer
