"""What the subcommands share."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # At run time the class is argparse's own private one, and not generic.
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def say(line: object = "") -> None:
    """Print a line for a person."""
    sys.stdout.write(f"{line}\n")


def size(count: int) -> str:
    """A number of bytes for a person, e.g. ``1.5 GB``."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


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
