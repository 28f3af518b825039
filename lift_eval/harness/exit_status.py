"""The exit status of a run on the command line, and its last lines."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from lift_eval.errors import Interrupted, LiftEvalError, counted
from lift_eval.harness.foreign_faults import describe_fault

USER_FAULT = 2
"""A fault that the user can fix; nothing was finished."""
GIVEN_UP = 3
"""The run is finished, but some documents were given up and their questions count as wrong."""

_given_up: ContextVar[list[str] | None] = ContextVar("given_up", default=None)


def note_given_up(documents: Sequence[str]) -> None:
    """Tell the command line about documents that were given up. Outside of a command this does nothing.

    Args:
        documents: One line about each.
    """
    noted = _given_up.get()
    if noted is not None:
        noted.extend(documents)


@contextmanager
def set_exit_status(*, foreign: bool = True) -> Iterator[None]:
    """Run a command inside: an error that a user can fix becomes one line, every other one keeps its traceback.

    Args:
        foreign: Whether errors of lm-eval itself count too; not where it runs a model of its own.

    Raises:
        SystemExit: With `USER_FAULT` for errors that a user can fix, with `GIVEN_UP` after a run that gave documents
            up, with 128 and the signal's number after a signal.
    """
    noted: list[str] = []
    before = _given_up.set(noted)
    try:
        yield
    except LiftEvalError as error:
        _exit(f"lift_eval: error: {error}", USER_FAULT)
    except Interrupted as interrupt:
        _exit(f"lift_eval: {interrupt}", interrupt.status)
    except KeyboardInterrupt:  # while the model or the data are loaded
        _exit("lift_eval: interrupted; run the same command again", 128 + signal.SIGINT)
    except Exception as error:
        fault = describe_fault(error) if foreign else None
        if fault is None:
            raise
        _exit(f"lift_eval: error: {fault}", USER_FAULT)
    finally:
        _given_up.reset(before)
    if noted:
        given_up = f"lift_eval: {counted(len(noted), 'document')} given up, whose questions count as wrong:"
        _exit("\n".join([given_up, *noted]), GIVEN_UP)


def _exit(message: str, status: int) -> None:
    sys.stderr.write(f"{message}\n")
    raise SystemExit(status)
