"""Draws docs/figures/architecture.svg from the imports in the package: python docs/figures/architecture.py."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "lift_eval"
WALK = ["harness", "lifter", "synthesis", "training", "answering", "benchmarks", "results", "reporting"]
"""One request, from lm-eval to the table."""

WIDTH, HEIGHT, GAP_X, GAP_Y, LEFT, TOP = 104, 34, 22, 46, 12, 12
INK, BOX, EDGE, STEP = "#555", "#eef3f8", "#b8c4d0", "#d55e00"


def folders() -> list[str]:
    """Names of the package's folders."""
    return sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))


def imports() -> dict[str, set[str]]:
    """Which folder imports which others."""
    known = set(folders())
    graph: dict[str, set[str]] = {name: set() for name in known}
    for name in known:
        for path in (PACKAGE / name).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lift_eval."):
                    graph[name].add(str(node.module).split(".")[1])
    return {name: (found & known) - {name} for name, found in graph.items()}


def direct(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The graph without arrows that a longer way between two folders implies."""

    def below(name: str) -> set[str]:
        return set().union(*({target} | below(target) for target in graph[name]))

    return {
        name: {target for target in targets if not any(target in below(other) for other in targets)}
        for name, targets in graph.items()
    }


def rows(graph: dict[str, set[str]]) -> list[list[str]]:
    """The folders by their distance from those that import nothing, the highest first."""
    level: dict[str, int] = {}
    for name in graphlib.TopologicalSorter(graph).static_order():
        level[name] = 1 + max((level[target] for target in graph[name]), default=-1)
    return [sorted(n for n in graph if level[n] == row) for row in range(max(level.values()), -1, -1)]


def figure() -> str:
    """The figure as SVG: a box for each folder, its imports below it, and the numbered walk of one request."""
    graph = imports()
    levels = rows(graph)
    widest = max(len(row) for row in levels)
    full = widest * (WIDTH + GAP_X) - GAP_X
    place = {
        name: (LEFT + (full - len(row) * (WIDTH + GAP_X) + GAP_X) / 2 + i * (WIDTH + GAP_X), TOP + n * (HEIGHT + GAP_Y))
        for n, row in enumerate(levels)
        for i, name in enumerate(row)
    }  # fmt: skip
    parts = []
    for name, targets in sorted(direct(graph).items()):
        for target in sorted(targets):
            (x1, y1), (x2, y2) = place[name], place[target]
            start, stop = (x1 + WIDTH / 2, y1 + HEIGHT), (x2 + WIDTH / 2, y2)
            parts.append(
                f'<path d="M{start[0]:.0f} {start[1]:.0f}C{start[0]:.0f} {start[1] + 30:.0f} '
                f'{stop[0]:.0f} {stop[1] - 30:.0f} {stop[0]:.0f} {stop[1]:.0f}" fill="none" stroke="{EDGE}"/>'
            )
    for name, (x, y) in sorted(place.items()):
        parts.append(
            f'<rect x="{x:.0f}" y="{y:.0f}" width="{WIDTH}" height="{HEIGHT}" rx="5" fill="{BOX}" stroke="{EDGE}"/>'
            f'<text x="{x + WIDTH / 2:.0f}" y="{y + 21:.0f}" fill="{INK}" text-anchor="middle">{name}</text>'
        )
        if name in WALK:
            parts.append(
                f'<circle cx="{x:.0f}" cy="{y:.0f}" r="9" fill="{STEP}"/><text x="{x:.0f}" y="{y + 4:.0f}" '
                f'fill="#fff" text-anchor="middle">{WALK.index(name) + 1}</text>'
            )
    bottom = TOP + len(levels) * (HEIGHT + GAP_Y) - GAP_Y + 12
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {full + 2 * LEFT:.0f} {bottom:.0f}" '
        'style="font: 12px system-ui, sans-serif">\n' + "\n".join(parts) + "\n</svg>\n"
    )


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(figure(), encoding="utf-8")
