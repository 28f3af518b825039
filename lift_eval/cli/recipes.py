"""``lift-eval recipes``."""

from __future__ import annotations

import argparse
import inspect
import shutil
from collections.abc import Mapping
from textwrap import fill
from typing import TYPE_CHECKING, Any, get_args

from lift_eval.cli.shared import bold, say

if TYPE_CHECKING:
    from lift_eval.cli.shared import Commands
    from lift_eval.recipe import Recipe

FINE_TUNING = "Fine-tune a document"
READING = "Read the document without fine-tuning (baselines)"
PUBLISHED = "Published runs"
PURPOSES = (FINE_TUNING, READING, PUBLISHED)
MIN_COLUMNS = 50
"""In a narrower terminal, lines wrap by themselves."""


def add(commands: Commands) -> None:
    """Add the subcommands."""
    recipes = commands.add_parser(
        "recipes", help="list the shipped recipes, show one with all keys, compare two"
    )
    recipes.set_defaults(work=_list)
    actions = recipes.add_subparsers(dest="action", metavar="ACTION")
    show = actions.add_parser("show", help="print a recipe with all its defaults")
    show.add_argument("name", help="a shipped recipe's name or a file")
    show.set_defaults(work=_show)
    diff = actions.add_parser("diff", help="print the keys in which two recipes differ")
    diff.add_argument("names", nargs=2, metavar="NAME", help="a shipped recipe's name or a file")
    diff.set_defaults(work=_diff)


def _list(_: argparse.Namespace) -> int:
    from lift_eval.recipe import load_recipe, shipped_recipes

    sections: dict[str, dict[str, str]] = {purpose: {} for purpose in PURPOSES}
    for recipe in map(load_recipe, shipped_recipes()):
        note = f" [{recipe.reproduces}]" if recipe.reproduces else ""
        sections[_purpose(recipe)][recipe.name] = f"{recipe.description}{note}"
    sections |= {f"Values of {key}": parts for key, parts in _parts().items()}
    width = max(len(name) for entries in sections.values() for name in entries) + 4
    columns = shutil.get_terminal_size().columns
    for title, entries in sections.items():
        say(bold(title))
        for name, text in entries.items():
            say(
                fill(
                    text,
                    max(columns, MIN_COLUMNS),
                    initial_indent=f"  {name}".ljust(width),
                    subsequent_indent=" " * width,
                    break_on_hyphens=False,
                )
            )
        say()
    return 0


def _parts() -> dict[str, dict[str, str]]:
    """Descriptions of the values of the keys that choose a recipe's parts, by key."""
    from lift_eval.adapters.registry import Adapter
    from lift_eval.answering.cache.registry import CacheMethod
    from lift_eval.answering.settings import ADAPTER_IS_ON
    from lift_eval.prompts.contents.registry import CONTENTS
    from lift_eval.recipe.settings import OBJECTIVES, SAMPLES
    from lift_eval.synthesis.registry import STRATEGIES

    strategies = {name: type(strategy) for name, strategy in STRATEGIES.items()}
    return {
        "adapter.type": _summaries(_by_type(Adapter)),
        "training.samples": SAMPLES,
        "auxiliary.strategy": _summaries(strategies),
        "training.objective": OBJECTIVES,
        "prompt.document": _summaries(CONTENTS),
        "decoding.cache.type": _summaries(_by_type(CacheMethod)),
        "decoding.adapter": ADAPTER_IS_ON,
    }


def _by_type(union: Any) -> dict[str, type]:  # noqa: ANN401 - an annotated union is no type
    """The classes of a union of settings, by the ``type`` that chooses one."""
    return {kind.model_fields["type"].default: kind for kind in get_args(get_args(union)[0])}


def _summaries(parts: Mapping[str, type]) -> dict[str, str]:
    return {name: _summary(part) for name, part in parts.items()}


def _summary(part: type) -> str:
    """The first paragraph of a class's description, in one line."""
    return (inspect.getdoc(part) or "").partition("\n\n")[0].replace("\n", " ").replace("``", "")


def _purpose(recipe: Recipe) -> str:
    if recipe.reproduces:
        return PUBLISHED
    return FINE_TUNING if recipe.trains else READING


def _show(parsed: argparse.Namespace) -> int:
    import yaml

    from lift_eval.recipe import load_recipe

    recipe = load_recipe(parsed.name)
    say(f"# digest {recipe.digest}")
    data = recipe.model_dump(mode="json")
    say(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100).rstrip())
    return 0


def _diff(parsed: argparse.Namespace) -> int:
    from lift_eval.recipe import differences, load_recipe

    first, second = (load_recipe(name) for name in parsed.names)
    found = differences(first, second)
    for key, (ours, theirs) in found.items():
        say(f"{key}: {ours!r} -> {theirs!r}")
    if not found:
        say("no difference")
    return 0
