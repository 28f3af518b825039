"""Builds the documentation site: adds pages made from the code, and adjusts links to the places of files in the site.

Links in the pages work in the repository too. A file outside ``docs`` that a
page links to becomes part of the site.
"""

from __future__ import annotations

import importlib
import logging
import posixpath
import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import lift_eval

DOCS = Path(__file__).resolve().parent.parent
ROOT = DOCS.parent
PAGES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
"""Places in the site of pages from outside ``docs``."""
DECISIONS = "decisions/index.md"
PARTS = (
    "lift_eval.adapters.base.AdapterSettings",
    "lift_eval.synthesis.base.Strategy",
    "lift_eval.prompts.contents.base.Content",
)
"""Base classes of parts that others add."""
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")
"""The path in a relative link."""

logger = logging.getLogger("mkdocs.hooks.site")


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the generated pages, and linked files from outside ``docs``."""
    sys.path.insert(0, str(Path(__file__).parent))
    tables = importlib.import_module("tables")
    made = {
        DECISIONS: _decisions(),
        "reference/recipe.md": tables.recipe_keys(),
        "reference/variables.md": tables.variables(),
        "reference/library.md": _library(),
        "reference/parts.md": _objects("Base classes", PARTS),
    }
    for uri, content in made.items():
        files.append(File.generated(config, uri, content=content))
    waiting, seen = [*(ROOT / name for name in PAGES), *DOCS.glob("**/*.md")], set()
    for path in waiting:  # which grows
        if path in seen:
            continue
        seen.add(path)
        if not path.is_relative_to(DOCS):
            files.append(File.generated(config, _place(path), abs_src_path=str(path)))
        if path.suffix == ".md":
            linked = (path.parent / link for link in LINK.findall(path.read_text(encoding="utf-8")))
            waiting += [file.resolve() for file in linked if file.is_file()]


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links at the places of their files in the site; warn about files that do not exist."""
    source = page.file.abs_src_path
    if source is None:  # a generated page
        return markdown

    def led(link: re.Match[str]) -> str:
        target = (Path(source).parent / link[1]).resolve()
        if not target.exists():
            logger.warning("%s links to '%s', which does not exist", page.file.src_uri, link[1])
            return link[1]
        return posixpath.relpath(_place(target), posixpath.dirname(page.file.src_uri) or ".")

    return LINK.sub(led, markdown)


def _place(path: Path) -> str:
    """The place in the site of a file of the repository."""
    name = path.relative_to(ROOT).as_posix()
    if path == DOCS / "decisions":
        return DECISIONS
    return (
        path.relative_to(DOCS).as_posix()
        if path.is_relative_to(DOCS)
        else PAGES.get(name, f"repository/{name}")
    )


def _decisions() -> str:
    titles = {
        path.name: path.read_text(encoding="utf-8").splitlines()[0] for path in DOCS.glob("decisions/*.md")
    }
    links = (f"- [{title.lstrip('# 0123456789.')}]({name})" for name, title in sorted(titles.items()))
    return "\n".join(["# Decisions", "", *links, ""])


def _library() -> str:
    names = [f"{lift_eval._HOMES[name]}.{name}" for name in sorted(lift_eval.__all__)]
    return _objects("Library", names)


def _objects(title: str, names: tuple[str, ...] | list[str]) -> str:
    return "\n".join([f"# {title}", "", *(f"::: {name}" for name in names), ""])
