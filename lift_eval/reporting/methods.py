"""What each method is: its class, its recipe, and how it differs from the method above it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lift_eval.reporting.comparison import Comparison
from lift_eval.reporting.provenance import recipe_differences

CONTROLS = ("wrong", "shuffled")
"""Values of ``prompt.document`` and ``decoding.learned`` that are not ways to use a document."""
WEIGHTS, CACHE, PROMPT = "weights", "cache", "prompt"
CACHES = ("cartridge",)
"""Adapters that are keys and values."""


def recipe_of(comparison: Comparison, row: str) -> Mapping[str, Any]:
    """The recipe of a row's first run; empty where none was run, or by another model class."""
    return next((run.recipe for run in comparison.runs[row]), {})


def method_class(comparison: Comparison, row: str) -> str:
    """Where a method puts the document: into ``weights``, into a ``cache``, or into the ``prompt`` alone.

    Empty where its recipe is not known.
    """
    groups = ("adapter", "training", "decoding")
    adapter, training, decoding = (recipe_of(comparison, row).get(group) or {} for group in groups)
    if adapter.get("type") is None:
        return ""
    if (decoding.get("cache") or {}).get("type", "none") != "none":
        return CACHE
    if adapter["type"] == "none":
        return PROMPT
    # Weights that are trained behind the document are used with its keys and values alone.
    return CACHE if adapter["type"] in CACHES or training.get("samples") == "spans" else WEIGHTS


def is_control(comparison: Comparison, row: str) -> bool:
    """Whether a row answers from another document than that of its questions, or from shuffled sentences."""
    prompt, decoding = (recipe_of(comparison, row).get(group) or {} for group in ("prompt", "decoding"))
    return prompt.get("document") in CONTROLS or decoding.get("learned") in CONTROLS


def descriptions(comparison: Comparison) -> dict[str, tuple[str, ...]]:
    """Lines about each method, by row: its recipe, then each key that differs from the method above it."""
    found: dict[str, tuple[str, ...]] = {}
    above = ""
    for row in comparison.experiment.rows:
        recipe = recipe_of(comparison, row.name)
        if not recipe:
            continue
        lines = [f"recipe {recipe.get('name', 'unnamed')}"]
        if above:
            both = {above: recipe_of(comparison, above), row.name: recipe}
            changes = recipe_differences(both)
            lines.append(f"changes from {above}:" if changes else f"same recipe as {above}")
            lines += [f"{key}: {values[above]} → {values[row.name]}" for key, values in changes.items()]
        found[row.name] = tuple(lines)
        above = row.name
    return found
