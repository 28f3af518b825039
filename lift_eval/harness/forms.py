"""The message where the form of questions (lm-eval's) and the form of pairs (the recipe's) differ."""

from __future__ import annotations

from collections.abc import Sequence

from lift_eval.errors import RecipeError
from lift_eval.harness.arguments import ARGUMENTS
from lift_eval.recipe import Recipe


def describe_difference(recipe: Recipe, *, chat_template: bool, system: str | None) -> str | None:
    """Say that questions are put in another form than the recipe says.

    Args:
        recipe: The recipe.
        chat_template: Whether lm-eval puts questions through the chat template.
        system: lm-eval's system message, if any.

    Returns:
        One line. None means that the forms are equal, or that the recipe neither trains pairs nor asks for a form.
    """
    ours, theirs = (recipe.prompt.chat_template, recipe.prompt.system), (chat_template, system)
    trains_pairs = recipe.trains and recipe.auxiliary.strategy != "none"
    if ours == theirs or not (trains_pairs or any(ours)):
        return None
    advice = [] if ours[0] == theirs[0] else ["prompt.chat_template=true goes with --apply_chat_template"]
    advice += [] if ours[1] == theirs[1] else ["prompt.system with --system_instruction"]
    verb = "trains pairs" if trains_pairs else "is for questions put"
    return (
        f"recipe '{recipe.name}' {verb} {_in_words(*ours)}, and lm-eval puts questions {_in_words(*theirs)}: "
        f"{', '.join(advice)}"
    )


def refuse_thinking(recipe: Recipe, tasks: Sequence[str]) -> None:
    """Refuse a recipe that lets a model think where its task scores given answers, which leaves no place for it.

    Args:
        recipe: The recipe.
        tasks: Names of tasks that score given answers.

    Raises:
        RecipeError: If the recipe says that the model shall think.
    """
    if recipe.prompt.enable_thinking:
        fault = (
            f"enable_thinking=True is for answers that are generated, and {', '.join(tasks)} scores given ones; set it "
            "to False"
        )
        raise RecipeError(ARGUMENTS, [fault])


def _in_words(chat_template: bool, system: str | None) -> str:
    form = "through the chat template" if chat_template else "as plain text"
    return f"{form} with the system message {system!r}" if system else form
