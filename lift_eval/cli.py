"""The command line ``lift-eval``.

Each subcommand imports what it needs when it runs, so that ``lift-eval --help`` answers at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from lift_eval import __version__
from lift_eval.errors import LiftEvalError

USER_FAULT = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand.

    Args:
        argv: The arguments after the program's name; those of this process by default.

    Returns:
        The exit status: 0, or 2 for a fault that the user can mend, printed as one line.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments[:1] == ["run"]:
            return _run_lm_eval(arguments[1:])
        parsed = _parser().parse_args(arguments)
        return int(parsed.work(parsed))
    except LiftEvalError as error:
        sys.stderr.write(f"lift-eval: error: {error}\n")
        return USER_FAULT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lift-eval",
        description="Does fine-tuning a document into an adapter beat reading it? LIFT against ICL, in lm-eval.",
    )
    parser.add_argument("--version", action="version", version=f"lift-eval {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    commands.add_parser("run", help="the same as 'lm_eval run --model lift'", add_help=False)

    recipes = commands.add_parser("recipes", help="list the shipped recipes, show one resolved, compare two")
    recipes.set_defaults(work=_list_recipes)
    actions = recipes.add_subparsers(dest="action", metavar="ACTION")
    show = actions.add_parser("show", help="print a recipe with all its defaults")
    show.add_argument("name", help="a shipped recipe's name or a file")
    show.set_defaults(work=_show_recipe)
    diff = actions.add_parser("diff", help="print the keys in which two recipes differ")
    diff.add_argument("names", nargs=2, metavar="NAME")
    diff.set_defaults(work=_diff_recipes)

    doctor = commands.add_parser("doctor", help="what is installed, which device and precision will be used")
    doctor.set_defaults(work=_doctor)
    return parser


def _run_lm_eval(arguments: Sequence[str]) -> int:
    """Hand over to lm-eval's own command line, with the model set."""
    from lm_eval.__main__ import cli_evaluate

    from lift_eval import _autoload

    _autoload.register()
    named = any(argument == "--model" or argument.startswith("--model=") for argument in arguments)
    sys.argv = ["lm_eval", "run", *([] if named else ["--model", "lift"]), *arguments]
    cli_evaluate()
    return 0


def _list_recipes(_: argparse.Namespace) -> int:
    from lift_eval.recipe import load_recipe, shipped_recipes

    recipes = [load_recipe(name) for name in shipped_recipes()]
    width = max(len(recipe.name) for recipe in recipes)
    for recipe in recipes:
        note = f" [{recipe.reproduces}]" if recipe.reproduces else ""
        _say(f"{recipe.name:{width}}  {recipe.description}{note}")
    return 0


def _show_recipe(parsed: argparse.Namespace) -> int:
    import yaml

    from lift_eval.recipe import load_recipe

    recipe = load_recipe(parsed.name)
    _say(f"# digest {recipe.digest}")
    _say(
        yaml.safe_dump(
            recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100
        ).rstrip()
    )
    return 0


def _diff_recipes(parsed: argparse.Namespace) -> int:
    from lift_eval.recipe import differences, load_recipe

    first, second = (load_recipe(name) for name in parsed.names)
    found = differences(first, second)
    for key, (ours, theirs) in found.items():
        _say(f"{key}: {ours!r} -> {theirs!r}")
    if not found:
        _say("no difference")
    return 0


def _doctor(_: argparse.Namespace) -> int:
    from lift_eval.doctor import examine

    for finding in examine():
        _say(str(finding))
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
