"""Look all pinned versions up among the published advisories, or say in one line why that is not possible.

An advisory that appears tomorrow is no fault of today's commit, so what is found is printed and fails nothing.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import urllib.request
from pathlib import Path

LOCK = Path(__file__).resolve().parent.parent / "requirements.lock"
ASKED = "https://pypi.org/pypi/pyyaml/5.3/json"
"""A version with a known advisory: whoever does not name one here, such as a mirror, knows none at all."""


def obstacle() -> str:
    """Why advisories cannot be looked up here; empty where they can."""
    if importlib.util.find_spec("pip_audit") is None:
        return "pip-audit is not installed"
    try:
        with urllib.request.urlopen(ASKED, timeout=10) as reply:
            known = json.load(reply).get("vulnerabilities")
    except (OSError, ValueError) as error:
        return f"the index of advisories cannot be reached ({type(error).__name__})"
    return "" if known else "the package index that answers here knows no advisories"


def main() -> None:
    """Print what is found, or why nothing was looked for."""
    if reason := obstacle():
        sys.stdout.write(f"pip-audit skipped: {reason}\n")
        return
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(LOCK), "--no-deps", "--disable-pip"]
    subprocess.run([*command, "--progress-spinner", "off"], check=False)  # noqa: S603 - our own command


if __name__ == "__main__":
    main()
