"""The processes that draw figures."""

from __future__ import annotations

import os
import signal

import pytest

from lift_eval.errors import ResultsError
from lift_eval.reporting.figures.drawing import draw, on_page, on_paper
from lift_eval.reporting.figures.figure import Figure
from lift_eval.reporting.figures.pixels import png
from lift_eval.reporting.figures.render_pool import RenderPool


def figure(value: float) -> Figure:
    marks = {"panel": ["A", "B"], "look": ["LIFT"] * 2, "x": [1000, 2000], "y": [value, 1 / 3]}
    return Figure("costs", "Cost", "How to read it.", marks, {"LIFT": ("#0072b2", 21)})


def test_figures_come_back_in_their_order_and_as_they_would_be_here() -> None:
    figures = [figure(value) for value in (0.1, 0.2, 0.7)]
    with RenderPool(2) as pool:
        drawings = pool.draw(figures)
        made = [(drawing.figure, drawing.svg, drawing.png) for drawing in drawings]
    pictures = [draw(one) for one in figures]
    assert made == [
        (one, on_page(picture).encode(), png(on_paper(picture)))
        for one, picture in zip(figures, pictures, strict=True)
    ]
    assert len(set(pictures)) == 3


def test_what_the_library_remarks_is_no_answer() -> None:
    # Of a line of one point lets-plot says on its output that nothing is drawn.
    alone = {"panel": ["A"], "look": ["LIFT"], "x": [1000], "y": [1], "low": [0], "high": [2]}
    with RenderPool(1) as pool:
        (drawing,) = pool.draw([Figure("length", "Length", "", alone, {"LIFT": ("#0072b2", 21)})])
        assert drawing.svg.startswith(b"<svg")


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, ResultsError])
def test_they_end_with_the_report_however_it_ends(error: type[BaseException] | None) -> None:
    pool = RenderPool(2)
    try:
        with pool:
            pool.draw([figure(0.1)])
            if error is not None:
                raise error
    except (KeyboardInterrupt, ResultsError):
        pass
    assert all(process.returncode is not None for process in pool._processes)


def test_one_that_was_killed_is_told_of() -> None:
    with RenderPool(1) as pool:
        assert pool.draw([figure(0.1)])[0].png
        os.kill(pool._processes[0].pid, signal.SIGKILL)
        pool._processes[0].wait(timeout=60)
        drawing = pool.draw([figure(0.2)])[0]
        with pytest.raises(ResultsError, match="status -9"):
            _ = drawing.svg
