"""The progress of the work on one document: the stage, how far it is, and the time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn, TypeAlias

from tqdm import tqdm

OnProgress: TypeAlias = Callable[[int, int, str], None]
"""Takes how much is done, how much there is, and a note."""

LINE = "{desc} {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
"""A line without a bar, which fits in 50 columns."""
PATIENCE_SECONDS = 2.0
"""How long a stage may take before its progress is shown."""


class StageProgress:
    """A line on standard error, which is removed when its stage ends.

    Args:
        delay: Seconds of a stage before anything is shown.
        quiet: Whether to show nothing at all.
    """

    def __init__(self, *, delay: float = 0.0, quiet: bool = False) -> None:
        self.delay, self.quiet = delay, quiet

    @contextmanager
    def stage(self, name: str) -> Iterator[OnProgress]:
        """Show a stage; a nested one has a separate line.

        Args:
            name: Name of the stage.

        Yields:
            A function to call after each part of the stage.
        """
        began = time.monotonic()
        line: tqdm[NoReturn] | None = None

        def show(done: int, total: int, note: str = "") -> None:
            nonlocal line
            if self.quiet or time.monotonic() - began < self.delay:
                return
            if line is None:
                line = tqdm(
                    total=total,
                    initial=done,
                    desc=name,
                    postfix=note,
                    bar_format=LINE,
                    leave=False,
                    dynamic_ncols=True,
                )
            line.total = total
            line.set_postfix_str(note, refresh=False)
            line.update(done - line.n)

        try:
            yield show
        finally:
            if line is not None:
                line.close()


QUIET = StageProgress(quiet=True)
"""Shows nothing."""


def ignore(done: int, total: int, note: str) -> None:
    """Show nothing."""
