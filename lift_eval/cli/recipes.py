"""``lift-eval recipes``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from lift_eval.cli.shared import say

if TYPE_CHECKING:
    from lift_eval.cli.shared import Commands


def add(commands: Commands) -> None:
    """Add the subcommands."""
    recipes = commands.add_parser("recipes", help="list the shipped recipes, show one resolved, compare two")
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

    recipes = [load_recipe(name) for name in shipped_recipes()]
    width = max(len(recipe.name) for recipe in recipes)
    for recipe in recipes:
        note = f" [{recipe.reproduces}]" if recipe.reproduces else ""
        say(f"{recipe.name:{width}}  {recipe.description}{note}")
    return 0


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
