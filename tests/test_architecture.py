"""Imports go one way, and what must start fast stays light."""

from __future__ import annotations

import ast
import graphlib
import json
import runpy
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import lift_eval
from tests.conftest import untraced

PACKAGE = Path(lift_eval.__file__).parent

# From the bottom up. A part may import parts of lower layers, and of its own layer where no cycle comes of it.
LAYERS = [
    {"errors"},
    {"document", "files", "record", "servers", "settings", "tiny"},
    {"models", "results", "store"},
    {"adapters", "answering", "judging"},
    {"prompts", "synthesis"},
    {"recipe"},
    {"reporting"},
    {"training"},
    {"export", "memory"},
    {"distribution", "lifter"},
    {"harness"},
    {"benchmarks"},
    {"_autoload", "cli"},
]
MAY_IMPORT_LM_EVAL = {"_autoload", "benchmarks", "cli", "harness", "judging"}
NO_TORCH = {"__init__", "_autoload", "document", "errors", "files", "recipe", "reporting", "results"}
MOST_LOOSE_MODULES = 5
MOST_LINES, MOST_LINES_OF_A_FUNCTION = 400, 60

MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)


def part_of(path: Path) -> str:
    """The part of the package that a file belongs to: `training` for training/finetune.py."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Full names of the modules and objects that a file imports, wherever in the file."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    package = ["lift_eval", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*origin, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


@cache
def parts_graph() -> dict[str, set[str]]:
    """Which part imports which other parts."""
    parts = {part_of(path) for path in MODULES}
    graph: dict[str, set[str]] = {}
    for path in MODULES:
        own = [name.split(".")[1] for name in imports(path) if name.startswith("lift_eval.")]
        graph.setdefault(part_of(path), set()).update(part for part in own if part in parts)
    return {part: targets - {part} for part, targets in graph.items()}


def test_folders_are_the_architecture() -> None:
    loose = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert len(loose) <= MOST_LOOSE_MODULES, f"{sorted(loose)} stand loose; give one of them a folder"
    for path in PACKAGE.glob("*/__init__.py"):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), (
            f"{path} must say what lives there"
        )


def test_modules_and_functions_are_short() -> None:
    lengths: dict[str, int] = {}
    for path in MODULES:
        name = str(path.relative_to(PACKAGE))
        tree = ast.parse(source := path.read_text(encoding="utf-8"))
        if len(source.splitlines()) > MOST_LINES:
            lengths[name] = len(source.splitlines())
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > MOST_LINES_OF_A_FUNCTION:
                    lengths[f"{name} {node.name}"] = lines
    assert not lengths, (
        f"split what is longer than {MOST_LINES} or {MOST_LINES_OF_A_FUNCTION} lines: {lengths}"
    )


def test_the_drawing_shows_the_imports_as_they_are() -> None:
    drawn = runpy.run_path(str(PACKAGE.parent / "docs" / "figures" / "architecture.py"))["figure"]()
    committed = PACKAGE.parent / "docs" / "figures" / "architecture.svg"
    assert committed.read_text(encoding="utf-8") == drawn, "run python docs/figures/architecture.py"


def test_every_part_has_a_layer() -> None:
    known = set().union(*LAYERS) | {"__init__"}
    assert {part_of(path) for path in MODULES} <= known, "say in LAYERS where the new part belongs"


@pytest.mark.parametrize("part", sorted(set().union(*LAYERS)))
def test_parts_import_only_downwards(part: str) -> None:
    level = next(index for index, layer in enumerate(LAYERS) if part in layer)
    assert parts_graph().get(part, set()) <= set().union(*LAYERS[: level + 1])


def test_no_two_parts_import_each_other() -> None:
    graph = {part: targets for part, targets in parts_graph().items() if part != "__init__"}
    tuple(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the cycle


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_lm_eval_and_torch_stay_where_they_belong(path: Path) -> None:
    roots = {name.partition(".")[0] for name in imports(path)}
    assert "lm_eval" not in roots or part_of(path) in MAY_IMPORT_LM_EVAL
    assert "torch" not in roots or part_of(path) not in NO_TORCH


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import lift_eval", {"torch", "transformers", "lm_eval", "pydantic"}),
        ("import lift_eval.recipe", {"torch", "transformers", "lm_eval"}),
        (
            "import lift_eval.reporting.render",
            {"torch", "transformers", "lm_eval", "pandas", "lift_eval.recipe"},
        ),
        ("import lift_eval.cli, lift_eval.store", {"torch", "transformers", "lm_eval"}),
    ],
)
def test_what_starts_fast_loads_no_heavy_library(statement: str, absent: set[str]) -> None:
    script = f"import json, sys; {statement}; print(json.dumps(sorted(sys.modules)))"
    ran = subprocess.run(
        [sys.executable, "-c", script], env=untraced(), capture_output=True, text=True, check=True
    )
    assert absent.isdisjoint(json.loads(ran.stdout))
