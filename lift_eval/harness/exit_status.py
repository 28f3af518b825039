"""How a run on the command line ends: its last lines and its exit status."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from lift_eval.errors import Interrupted, LiftEvalError

USER_FAULT = 2
"""A fault that the user can mend; nothing was finished."""
GIVEN_UP = 3
"""The run is finished, but some documents were given up and their questions count as wrong."""

_given_up: ContextVar[list[str] | None] = ContextVar("given_up", default=None)


def note_given_up(documents: Sequence[str]) -> None:
    """Let the command line know of documents that were given up; nothing to do where there is none.

    Args:
        documents: One line about each.
    """
    noted = _given_up.get()
    if noted is not None:
        noted.extend(documents)


@contextmanager
def ending() -> Iterator[None]:
    """Run a command inside: what a user can mend ends in one line, every other exception keeps its traceback.

    Raises:
        SystemExit: With `USER_FAULT` for errors of this package, with `GIVEN_UP` after a run that gave documents up,
            with 128 and the signal's number after a signal.
    """
    noted: list[str] = []
    before = _given_up.set(noted)
    try:
        yield
    except LiftEvalError as error:
        _end(f"lift_eval: error: {error}", USER_FAULT)
    except Interrupted as interrupt:
        _end(f"lift_eval: {interrupt}", interrupt.status)
    except KeyboardInterrupt:  # while the model or the data are loaded
        _end("lift_eval: interrupted; run the same command again", 128 + signal.SIGINT)
    except ValueError as error:
        if "did not find any docs" not in str(error):
            raise
        _end(
            "lift_eval: error: a task has no row to ask about: its data must have rows, and --limit must be more "
            "than 0",
            USER_FAULT,
        )
    finally:
        _given_up.reset(before)
    if noted:
        few = "1 document was" if len(noted) == 1 else f"{len(noted)} documents were"
        _end("\n".join([f"lift_eval: {few} given up, their questions count as wrong:", *noted]), GIVEN_UP)


def _end(message: str, status: int) -> None:
    sys.stderr.write(f"{message}\n")
    raise SystemExit(status)
