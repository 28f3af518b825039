"""Errors of lm-eval and of the library datasets in which the user is at fault, in one line.

lm-eval raises ordinary Python errors for wrong flags, and lets those of data that cannot be read through.
"""

from __future__ import annotations

import traceback
from types import FrameType

READERS_OF_FLAGS = ("lm_eval._cli.", "lm_eval.config.")
"""Modules of lm-eval that read the command line: what they raise themselves is about it."""
SAID_OF_FLAGS = (
    "No tasks specified", "Attempted to run task", "Either 'limit' or 'samples'", "Elements of --samples should be",
)  # fmt: skip
"""Beginnings of what other modules say of it."""
NO_ROWS = "did not find any docs"


def describe_fault(error: Exception) -> str | None:
    """Say what the user can fix about an error.

    Args:
        error: Of lm-eval, or of what it calls.

    Returns:
        One line; None where the user is not at fault.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    raised_in = _module(frames[-1]) if frames else ""
    if NO_ROWS in str(error):
        return "a task has no row to ask about: its data must have rows, and --limit must be more than 0"
    if raised_in.startswith(READERS_OF_FLAGS) and isinstance(error, (ValueError, TypeError, OSError)):
        return _one_line(error)
    if str(error).startswith(SAID_OF_FLAGS):
        return _one_line(error)
    loading = next((frame for frame in frames if _loads_data(frame)), None)
    if loading is not None and any(_module(frame).startswith("datasets.") for frame in frames):
        return (
            f"the data of task '{loading.f_locals['self'].config.task}' cannot be read ({type(error).__name__}: "
            f"{_one_line(error) or 'is a file empty?'}); check its dataset_path and data_files"
        )
    return None


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _loads_data(frame: FrameType) -> bool:
    return _module(frame) == "lm_eval.api.task" and frame.f_code.co_name == "download"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
