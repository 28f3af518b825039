"""Which code decides what the store keeps: what a module imports, however indirectly, and nothing else."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import sys
from functools import lru_cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
DECIDES_NOTHING = frozenset({"errors", "export", "files", "memory", "record", "store"})
"""Parts of the package that keep, count, tell and lay out work: rounding is all of a result that they change."""


@lru_cache
def code_identity(module: str, package: Path = PACKAGE) -> str:
    """Hash of the source of a module and of all that it imports, and of the versions of the libraries among it.

    Args:
        module: Full name of the module that makes what is kept, e.g. ``lift_eval.lifter.lifter``.
        package: The folder of this package.

    Returns:
        64 hexadecimal digits.
    """
    files, libraries = imported_by(module, package)
    sources = [f"{file.relative_to(package)} {hash_of_file(file)}" for file in files]
    versions = [f"{library} {_version(library)}" for library in libraries]
    return hashlib.sha256("\n".join(sorted([*sources, *versions])).encode()).hexdigest()


def imported_by(module: str, package: Path = PACKAGE) -> tuple[set[Path], set[str]]:
    """What a module imports, at its head or inside of its functions, and what that imports in turn.

    Args:
        module: Full name of a module of this package.
        package: The folder of this package.

    Returns:
        Files of this package, the module's own among them and those of `DECIDES_NOTHING` left out; and names of
        libraries.
    """
    files: set[Path] = set()
    libraries: set[str] = set()
    waiting, seen = {module}, set[str]()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        root, *parts = name.split(".")
        if root != package.name:
            libraries.add(root)
        elif parts and parts[0] not in DECIDES_NOTHING:
            waiting |= {name.rpartition(".")[0]} - seen  # which is executed first
            path = package.joinpath(*parts)
            for file in (path.with_suffix(".py"), path / "__init__.py"):
                if file.is_file():  # else the name is that of a function or class
                    files.add(file)
                    waiting |= _Imports(file, package).names - seen
    return files, libraries - sys.stdlib_module_names


def hash_of_file(file: Path) -> str:
    """Hash of a file's bytes."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


class _Imports(ast.NodeVisitor):
    """Collects the full names of what a file imports."""

    def __init__(self, file: Path, package: Path) -> None:
        self.names: set[str] = set()
        self._within = ".".join(file.relative_to(package.parent).parts[:-1])
        self.visit(ast.parse(file.read_bytes()))

    def visit_Import(self, node: ast.Import) -> None:
        self.names.update(alias.name for alias in node.names)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        origin = importlib.util.resolve_name("." * node.level + (node.module or ""), self._within)
        self.names.update(f"{origin}.{alias.name}" for alias in node.names)


def _version(library: str) -> str:
    """A library's version; empty where it is not installed."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:  # or it comes in a distribution of another name
        others = importlib.metadata.packages_distributions().get(library, [])
        return " ".join(f"{name} {importlib.metadata.version(name)}" for name in others)
