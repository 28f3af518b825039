"""The process that makes pixels of figures."""

from __future__ import annotations

import os
import signal

import pytest

from lift_eval.errors import ResultsError
from lift_eval.reporting.pixels import Painter, png

PICTURE = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="20" height="10"><circle cx="{}" cy="5" r="4"/></svg>'
)


def test_pictures_come_back_in_their_order_and_as_they_would_here() -> None:
    pictures = [PICTURE.format(place) for place in (4, 9, 14)]
    with Painter() as painter:
        pending = [painter.paint(picture) for picture in pictures]
    assert [one.result() for one in pending] == [png(picture) for picture in pictures]


def test_it_ends_with_its_last_picture() -> None:
    with Painter() as painter:
        painter.paint(PICTURE.format(4))
    assert painter._process.wait(timeout=60) == 0


def test_a_process_that_was_killed_is_told_of() -> None:
    with Painter() as painter:
        painter.paint(PICTURE.format(4)).result()
        os.kill(painter._process.pid, signal.SIGKILL)
        painter._process.wait(timeout=60)
        pending = painter.paint(PICTURE.format(9))
    with pytest.raises(ResultsError, match="status -9"):
        pending.result()
