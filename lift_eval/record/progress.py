"""What a person sees of the work on one document while it goes on: the stage, how far it is, and the time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn, TypeAlias

from tqdm import tqdm

OnProgress: TypeAlias = Callable[[int, int, str], None]
"""Takes how much is done, how much there is, and a note."""

LINE = "{desc} {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
"""A line without a bar, which fits into 50 columns."""
PATIENCE_SECONDS = 2.0
"""How long people wait before they wonder."""


class StageProgress:
    """A line on standard error, which goes when its stage ends.

    Args:
        delay: Seconds of a stage in which nothing is shown.
        quiet: Whether to show nothing at all.
    """

    def __init__(self, *, delay: float = 0.0, quiet: bool = False) -> None:
        self.delay, self.quiet = delay, quiet
        self._line: tqdm[NoReturn] | None = None

    @contextmanager
    def stage(self, name: str) -> Iterator[OnProgress]:
        """Show a stage inside.

        Args:
            name: Of the stage.

        Yields:
            What to call after each part of the stage.
        """
        began = time.monotonic()

        def show(done: int, total: int, note: str = "") -> None:
            if self.quiet or time.monotonic() - began < self.delay:
                return
            if self._line is None:
                self._line = tqdm(
                    total=total,
                    initial=done,
                    desc=name,
                    postfix=note,
                    bar_format=LINE,
                    leave=False,
                    dynamic_ncols=True,
                )
            self._line.total = total
            self._line.set_postfix_str(note, refresh=False)
            self._line.update(done - self._line.n)

        try:
            yield show
        finally:
            if self._line is not None:
                self._line.close()
                self._line = None


QUIET = StageProgress(quiet=True)
"""Shows nothing."""


def ignore(done: int, total: int, note: str) -> None:
    """Tell nobody."""
