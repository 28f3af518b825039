"""The documentation's site."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lift_eval.recipe import settings_keys
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built so that a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 0, ran.stderr
    return folder


def codes(page: Path) -> set[str]:
    """What stands as code in the first column of a page's tables."""
    return set(re.findall(r"<tr>\s*<td><code>(.*?)</code></td>", page.read_text(encoding="utf-8")))


def test_the_reference_names_every_key_and_every_variable(site: Path) -> None:
    keys = {key for key in settings_keys() if not key.endswith(".type")}  # each type has a table of its own
    assert codes(site / "reference" / "recipe" / "index.html") == keys
    assert codes(site / "reference" / "variables" / "index.html") == {
        "LIFT_EVAL_AUTOLOAD",
        "LIFT_EVAL_CACHE",
        "LIFT_EVAL_DATA_DIR",
        "LIFT_EVAL_JUDGE",
        "LIFT_EVAL_STORE",
    }


def test_pages_of_the_repository_and_of_the_code_are_there(site: Path) -> None:
    front = (site / "index.html").read_text(encoding="utf-8")
    assert 'href="repository/reports/real/report/"' in front, "a page outside of docs comes along"
    assert 'href="decisions/"' in front
    library = (site / "reference" / "library" / "index.html").read_text(encoding="utf-8")
    assert 'id="lift_eval.lifter.lifter.Lifter.from_pretrained"' in library
    assert "Quick start" in (site / "notebooks" / "quickstart" / "index.html").read_text(encoding="utf-8")
