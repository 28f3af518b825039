"""The code in a key is what decides a result: all of it, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from lift_eval.lifter.adapted_model import DECIDING_MODULE
from lift_eval.store import code_identity
from lift_eval.store.code import DECIDES_NOTHING, PACKAGE, imported_by

ADAPTERS, PAIRS = DECIDING_MODULE, "lift_eval.synthesis.synthesizer"
DECIDING_PARTS = {
    "adapters", "answering", "document.py", "lifter", "models", "prompts", "recipe", "servers", "settings.py",
    "synthesis", "training",
}  # fmt: skip
ONLY_SHOW = {"lifter/listing.py", "lifter/kept.py", "models/alone.py"}
"""Modules of these parts that nothing which trains or answers imports."""

SOURCES = {
    "__init__.py": "from lift_eval import reporting",
    "training.py": "import torch\nimport json\nfrom lift_eval.prompts import render",
    "prompts/__init__.py": "from lift_eval.prompts.encoding import render",
    "prompts/encoding.py": "def render():\n    from .words import WORDS",
    "prompts/words.py": "WORDS = []",
    "prompts/unused.py": "",
    "store/__init__.py": "import lift_eval.reporting",
    "reporting.py": "import lift_eval.training, pandas",
}
REACHED = {"training.py", "prompts/__init__.py", "prompts/encoding.py", "prompts/words.py"}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "lift_eval"
    for name, source in SOURCES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{source}\nfrom lift_eval.store import Store\n")
    return folder


def identity(package: Path) -> str:
    code_identity.cache_clear()
    return code_identity("lift_eval.training", package)


def test_imports_are_followed_wherever_they_stand(package: Path) -> None:
    files, libraries = imported_by("lift_eval.training", package)
    assert {file.relative_to(package).as_posix() for file in files} == REACHED
    assert libraries == {"torch"}  # json comes with Python


@pytest.mark.parametrize("name", SOURCES)
def test_a_change_counts_where_it_decides(package: Path, name: str) -> None:
    before = identity(package)
    with (package / name).open("a") as file:
        file.write("1\n")
    assert (identity(package) != before) == (name in REACHED)


def test_another_version_of_a_library_is_another_identity(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = identity(package)
    monkeypatch.setattr("importlib.metadata.version", lambda name: f"{name} of tomorrow")
    assert identity(package) != before


# --- this package --------------------------------------------------------------------------------------------------


def deciding(module: str) -> set[str]:
    return {file.relative_to(PACKAGE).as_posix() for file in imported_by(module)[0]}


def test_all_that_trains_and_answers_decides_and_nothing_else() -> None:
    """A module that is loaded in a way that is no import statement would be missing here."""
    there = {path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py")}
    assert DECIDING_PARTS.isdisjoint(DECIDES_NOTHING)
    assert (
        deciding(ADAPTERS)
        == {path.as_posix() for path in there if path.parts[0] in DECIDING_PARTS} - ONLY_SHOW
    )


def test_pairs_are_decided_by_what_makes_them() -> None:
    made_by = {
        "synthesis/paragraphs.py",
        "synthesis/passages.py",
        "synthesis/replies.py",
        "synthesis/sentences.py",
        "synthesis/server.py",
        "synthesis/settings.py",
        "answering/generate.py",
    }
    assert made_by < deciding(PAIRS)
    assert deciding(PAIRS).isdisjoint({"training/finetune.py", "adapters/attach.py", "lifter/lifter.py"})


def test_libraries_are_those_that_deciding_modules_import() -> None:
    libraries = imported_by(ADAPTERS)[1]
    assert {"torch", "transformers", "peft", "bitsandbytes", "tokenizers", "nltk", "jinja2"} <= libraries
    assert libraries.isdisjoint({"lm_eval", "pandas", "lift_eval", "os"})
