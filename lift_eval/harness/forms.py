"""The form of questions, which is lm-eval's, and that of pairs: the same, or a message where they differ."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from lift_eval.distribution.groups import Group
from lift_eval.document import Document
from lift_eval.errors import RecipeError
from lift_eval.harness.arguments import ARGUMENTS
from lift_eval.harness.flags import noted_flags
from lift_eval.prompts.form import TaskForm
from lift_eval.recipe import Recipe

logger = logging.getLogger(__name__)


class TaskForms:
    """The prompts of a run's tasks.

    A task has one for each document, if all questions about the document are put alike but for the question itself. A
    prompt that also holds a question's choices, or examples that change, is none that other questions can be put in.
    """

    def __init__(self) -> None:
        self._found: dict[Document, dict[str, set[TaskForm | None]]] = {}

    def note(self, task: str, document: Document, form: TaskForm | None) -> None:
        """Note the form of a question. None means that it is not known."""
        self._found.setdefault(document, {}).setdefault(task, set()).add(form)

    def given_to(self, group: Group) -> Group:
        """A group with the forms of its tasks."""
        if group.document is None:
            return group
        alike = {
            task: form
            for task, forms in self._found.get(group.document, {}).items()
            if len(forms) == 1 and (form := next(iter(forms))) is not None
        }
        return replace(group, forms=alike)


def warn_of_forms(kind: str, groups: Sequence[Group], recipe: Recipe, *, chat_template: bool) -> None:
    """Log where pairs are put in another form than questions.

    Args:
        kind: ``generate_until``, ``loglikelihood`` or ``loglikelihood_rolling``.
        groups: The run's requests of that kind.
        recipe: The recipe.
        chat_template: Whether lm-eval puts questions through the chat template.

    Raises:
        RecipeError: If the recipe has demonstrations that cannot be put in a task's form.
    """
    system = noted_flags().system_instruction
    told = describe_difference(recipe, chat_template=chat_template, system=system)
    missing = None if kind == "loglikelihood_rolling" else describe_missing(groups, recipe)
    for line in (told, missing):
        if line is not None:
            logger.warning("%s", line)


def describe_missing(groups: Sequence[Group], recipe: Recipe) -> str | None:
    """Say which tasks' prompts are not known, where pairs would be trained in them.

    Raises:
        RecipeError: If the recipe has demonstrations, which are put as the task puts its questions.
    """
    about = [group for group in groups if group.document is not None]
    missing = sorted({one.task for group in about for one in group.requests if one.task not in group.forms})
    if not missing:
        return None
    why = (
        f"the prompts of {', '.join(missing)} hold no field of their rows that is named as a question, or more that "
        "changes from one question to the next"
    )
    if recipe.prompt.demonstrations:
        raise RecipeError(
            f"recipe '{recipe.name}'", [f"'prompt.demonstrations' cannot be put as its task does: {why}"]
        )
    trained = recipe.trains and recipe.auxiliary.asks_as_task
    return f"pairs are trained in the recipe's own prompt: {why}" if trained else None


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
    trains_pairs = recipe.trains and recipe.auxiliary.strategy != "none" and not recipe.auxiliary.asks_as_task
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
