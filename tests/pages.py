"""Pages of the documentation whose files the tests run as they stand there."""

from __future__ import annotations

import re

from tests.conftest import ROOT

_FILE = re.compile(r"^```\w+\n# (\S+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
"""A block of code whose first line is a comment with the file's name."""


def page(name: str) -> str:
    """A page of ``docs``."""
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def files_of(text: str) -> dict[str, str]:
    """The files that a page shows, by name."""
    return dict(_FILE.findall(text))
