"""What transformers says of a checkpoint, in one line."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from safetensors import SafetensorError

from lift_eval.errors import CheckpointError, LiftEvalError

logger = logging.getLogger(__name__)

CURES = {
    "trust_remote_code": "set trust_remote_code=True if you trust that code",
    "is not supported yet": "use a GGUF file of another architecture, or a checkpoint of safetensors",
    "no file named model.safetensors": "weights must be in *.safetensors; convert the checkpoint, or use another",
}
"""What transformers says of a checkpoint in part, and what to do about it."""


@contextmanager
def checkpoint_errors(what: str, way_out: str) -> Iterator[None]:
    """Turn the errors of transformers about a checkpoint into one line.

    A checkpoint's files decide what transformers does, so that a faulty one may raise anything.

    Args:
        what: The fault.
        way_out: The way to fix it.

    Raises:
        CheckpointError: Where transformers finds the checkpoint missing, broken or not supported.
    """
    try:
        yield
    except LiftEvalError:
        raise
    except Exception as error:
        logger.debug("%s", what, exc_info=True)
        if isinstance(error, SafetensorError):
            way_out = "a file of weights is truncated or damaged: download it again"
        way_out = next((cure for part, cure in CURES.items() if part in str(error)), way_out)
        raise CheckpointError(f"{what}: {first_line(error)}; {way_out}") from error


def tokenizer_errors(name: str, *, argument: str = "pretrained") -> AbstractContextManager[None]:
    """Turn the errors of transformers about a tokenizer into one line.

    Args:
        name: Folder or Hub name that it is loaded from.
        argument: The argument that named it.

    Raises:
        CheckpointError: As `checkpoint_errors`.
    """
    return checkpoint_errors(
        f"{argument}='{name}' has no tokenizer that loads", "name one that does with tokenizer=NAME"
    )


def first_line(error: Exception) -> str:
    """What an error says in one line; errors of Python itself say little without their names."""
    first, *more = str(error).strip().splitlines() or [""]
    line = f"{first} {more[0].strip()}" if first.endswith(":") and more else first
    plain = isinstance(error, (OSError, ValueError, ImportError, SafetensorError))
    return line if plain and line else f"{type(error).__name__}{': ' if line else ''}{line}"
