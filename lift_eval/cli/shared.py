"""What the subcommands share."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # At run time the class is argparse's own private one, and not generic.
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def say(line: object = "") -> None:
    """Print a line for a person."""
    sys.stdout.write(f"{line}\n")


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
    """As it is where nobody watches, or NO_COLOR asks for no colour (https://no-color.org)."""
    plain = not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if plain else f"\x1b[{style}m{text}\x1b[0m"


def size(count: int) -> str:
    """A number of bytes for a person, e.g. ``1.5 GB``."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def add_model(parser: argparse.ArgumentParser, what: str = "") -> None:
    """Add the arguments that name a base model; `named_model` reads them."""
    parser.add_argument(
        "--model", help=f"folder or Hub name{what}, or path of a GGUF file; default: the bundled one"
    )
    parser.add_argument(
        "--gguf-file", metavar="NAME", help="name of a GGUF file in that folder or repository"
    )


def named_model(parsed: argparse.Namespace) -> str | None:
    """The base model by the name that it is loaded by. None means the bundled one."""
    from lift_eval.models.gguf import locate

    return locate(parsed.model, parsed.gguf_file) if parsed.model else None


def positive(text: str) -> int:
    """A whole number above 0, as an argument's type."""
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, got '{text}'")
    return int(text)


OWN_RECIPE = "lora"
"""Recipe of ``ask`` and ``compare`` for any model but the bundled one."""


def default_recipe(model: str | None) -> str:
    """Recipe of ``ask`` and ``compare`` where none is named: one that suits documents of one's own."""
    from lift_eval.recipe import default_recipe as usual

    return OWN_RECIPE if model else usual(model)
