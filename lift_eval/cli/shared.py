"""What the subcommands share."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lift_eval.errors import CheckpointError

if TYPE_CHECKING:
    # At run time the class is argparse's own private one, and not generic.
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def say(line: object = "") -> None:
    """Print a line to standard output."""
    sys.stdout.write(f"{line}\n")


def note(line: str) -> None:
    """Write a remark to standard error, so that the results can be piped."""
    sys.stderr.write(f"{line}\n")


def bold(text: str) -> str:
    """A text that a terminal shows bold."""
    return _styled(text, "1")


def green(text: str) -> str:
    """A text that a terminal shows green."""
    return _styled(text, "32")


def yellow(text: str) -> str:
    """A text that a terminal shows yellow."""
    return _styled(text, "33")


def _styled(text: str, style: str) -> str:
    """Styled, unless the output is not a terminal or NO_COLOR is set (https://no-color.org)."""
    plain = not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if plain else f"\x1b[{style}m{text}\x1b[0m"


@contextmanager
def uncollected() -> Iterator[None]:
    """Work without the garbage collector, which takes a sixth of the time of imports: what they make stays.

    It is not looked at later either, above all not when the process ends.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collects:
            gc.enable()


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute small things by one thread: several would wait for each other, above all on a busy machine."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def size(count: int) -> str:
    """A readable number of bytes, e.g. ``1.5 GB``."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def add_model(parser: argparse.ArgumentParser, what: str = "") -> None:
    """Add the arguments that name a base model; `named_model` reads them."""
    parser.add_argument(
        "--model", help=f"folder or Hub name{what}, or path of a GGUF file (default: the bundled model)"
    )
    parser.add_argument(
        "--gguf-file", metavar="NAME", help="name of a GGUF file in that folder or repository"
    )


def named_model(parsed: argparse.Namespace) -> str | None:
    """The name by which the base model is loaded. None means the bundled one.

    Raises:
        CheckpointError: If there is no such GGUF file, or only the file is named.
    """
    from lift_eval.models.gguf import locate

    if parsed.gguf_file and not parsed.model:
        raise CheckpointError(
            f"--gguf-file {parsed.gguf_file} is a file in a folder or repository; name that with --model"
        )
    return locate(parsed.model, parsed.gguf_file) if parsed.model else None


def note_bundled_model(model: str | None) -> None:
    """Say that the bundled model answers, if no other is named."""
    if model is None:
        note(
            "no --model is given, so the bundled model answers; it knows only its own invented world and serves to try "
            "the commands"
        )


def add_form(parser: argparse.ArgumentParser) -> None:
    """Add the argument that turns the chat template off; `chosen_form` reads it."""
    parser.add_argument(
        "--no-chat-template",
        action="store_true",
        help="ask and train in plain text, even if the model has a chat template",
    )


def chosen_form(parsed: argparse.Namespace) -> dict[str, bool]:
    """Overrides of a recipe, by dotted key."""
    return {"prompt.chat_template": False} if parsed.no_chat_template else {}


def positive(text: str) -> int:
    """A whole number above 0, as an argument's type."""
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, got '{text}'")
    return int(text)
