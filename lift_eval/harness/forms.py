"""The form of questions, which is lm-eval's, and that of pairs: the same unless somebody asks for two.

A form is whether texts go through the chat template, and with which system message.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from lm_eval.utils import simple_parse_args_string

from lift_eval.distribution.groups import Group
from lift_eval.document import Document
from lift_eval.errors import LiftEvalError, RecipeError
from lift_eval.harness.arguments import ARGUMENTS
from lift_eval.harness.flags import noted_flags
from lift_eval.models.gguf import locate
from lift_eval.models.loading import BUNDLED, load_tokenizer
from lift_eval.prompts.form import TaskForm
from lift_eval.recipe import PromptSettings, Recipe, default_recipe, load_recipe

logger = logging.getLogger(__name__)

CHAT_BY_DEFAULT = (
    "questions use the chat template, since the tokenizer has one; lm-eval's own models use plain text unless "
    "--apply_chat_template is given, so scores differ from theirs; for plain text set prompt.chat_template=false"
)
WAYS_OUT = (
    "so training and test do not match; ask in the recipe's form, or set prompt.chat_template in the model arguments "
    "to use two forms on purpose"
)


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


def follow_recipe(arguments: dict[str, Any]) -> None:
    """Let lm-eval ask its questions in the recipe's form, where its own flags do not choose one.

    Args:
        arguments: Of ``simple_evaluate``; changed in place. Faults in them are left for the model to report, which
            finds all of them.
    """
    with suppress(LiftEvalError):
        prompt, is_default = _form_of(arguments)
        if prompt.chat_template and not arguments["apply_chat_template"]:
            arguments["apply_chat_template"] = True
            if arguments["fewshot_as_multiturn"] is None:  # what lm-eval makes of its own flag
                arguments["fewshot_as_multiturn"] = True
            if is_default:
                logger.warning("%s", CHAT_BY_DEFAULT)
        arguments["system_instruction"] = arguments["system_instruction"] or prompt.system


def _form_of(arguments: Mapping[str, Any]) -> tuple[PromptSettings, bool]:
    """The settings of a run's prompts, and whether its chat template is used because the tokenizer has one."""
    if not isinstance(arguments["model"], str):
        return arguments["model"].recipe.prompt, False
    given = arguments["model_args"] or {}
    given = simple_parse_args_string(given) if isinstance(given, str) else given
    pretrained = given.get("pretrained")
    overrides = {key: value for key, value in given.items() if key.partition(".")[0] == "prompt"}
    prompt = load_recipe(given.get("recipe") or default_recipe(pretrained), overrides).prompt
    if prompt.chat_template is not None:
        return prompt, False
    named = str(given.get("tokenizer") or pretrained or BUNDLED)
    file = None if given.get("tokenizer") else given.get("gguf_file")
    revision, subfolder = str(given.get("revision") or "main"), str(given.get("subfolder") or "")
    tokenizer = load_tokenizer(
        locate(named, file, revision, subfolder),
        revision,
        subfolder=subfolder,
        trust_remote_code=bool(given.get("trust_remote_code")),
    )
    return prompt.settled(has_template=bool(tokenizer.chat_template)), bool(tokenizer.chat_template)


def check_forms(
    kind: str, groups: Sequence[Group], recipe: Recipe, *, chat_template: bool, chosen: bool
) -> None:
    """Refuse a run that trains pairs in another form than it asks questions, and log other differences.

    Args:
        kind: ``generate_until``, ``loglikelihood`` or ``loglikelihood_rolling``.
        groups: The run's requests of that kind.
        recipe: The recipe, settled.
        chat_template: Whether lm-eval puts questions through the chat template.
        chosen: Whether the model arguments choose the form of pairs, so that a difference is meant.

    Raises:
        RecipeError: If pairs and questions have different forms and nobody asked for it, or if the recipe has
            demonstrations that cannot be put in a task's form.
    """
    system = noted_flags().system_instruction
    difference = describe_difference(recipe, chat_template=chat_template, system=system)
    about_documents = any(group.document is not None for group in groups)
    if difference and _trains_own_form(recipe) and about_documents and not chosen:
        raise RecipeError(f"recipe '{recipe.name}'", [f"{difference}, {WAYS_OUT}"])
    missing = None if kind == "loglikelihood_rolling" else describe_missing(groups, recipe)
    for line in (difference and f"recipe '{recipe.name}' {difference}", missing):
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
        f"the prompts of {', '.join(missing)} contain no question field of their rows, or differ in more than the "
        "question"
    )
    if recipe.prompt.demonstrations:
        raise RecipeError(
            f"recipe '{recipe.name}'",
            [f"'prompt.demonstrations' cannot have the form of the task: {why}"],
        )
    trained = recipe.trains and recipe.auxiliary.asks_as_task
    return f"pairs are trained in the recipe's own prompt: {why}" if trained else None


def describe_difference(recipe: Recipe, *, chat_template: bool, system: str | None) -> str | None:
    """Say that questions are asked in another form than the recipe says.

    Args:
        recipe: The recipe, settled.
        chat_template: Whether lm-eval puts questions through the chat template.
        system: lm-eval's system message, if any.

    Returns:
        What the recipe does and what lm-eval does. None means that the forms are equal, or that the recipe neither
        trains pairs in its own form nor asks for a form.
    """
    ours, theirs = (bool(recipe.prompt.chat_template), recipe.prompt.system), (chat_template, system)
    trains = _trains_own_form(recipe)
    if ours == theirs or not (trains or any(ours)):
        return None
    verb = "trains pairs" if trains else "is made for questions"
    return f"{verb} {_in_words(*ours)}, but questions are asked {_in_words(*theirs)}"


def _trains_own_form(recipe: Recipe) -> bool:
    """Whether pairs are trained in a form that the recipe decides, and not in the task's."""
    return recipe.trains and recipe.auxiliary.strategy != "none" and not recipe.auxiliary.asks_as_task


def refuse_scoring(recipe: Recipe, tasks: Sequence[str]) -> None:
    """Refuse a recipe that lets a model think, or reads prompts in its own way, where a task scores given answers.

    A text that is scored as a whole has no prompt, so no recipe is refused for it.

    Args:
        recipe: The recipe.
        tasks: Names of tasks that score given answers.

    Raises:
        RecipeError: If the recipe is for answers that are generated.
    """
    if recipe.prompt.enable_thinking:
        fault = (
            f"enable_thinking=True works for generated answers only, but {', '.join(tasks)} scores given ones; set "
            "it to False"
        )
        raise RecipeError(ARGUMENTS, [fault])
    if not recipe.decoding.reads_plainly:
        fault = (
            f"'decoding.cache' and 'decoding.adapter: decoding_only' need generated answers, but {', '.join(tasks)} "
            "scores given ones; set decoding.cache.type=none and decoding.adapter=always"
        )
        raise RecipeError(ARGUMENTS, [fault])


def _in_words(chat_template: bool, system: str | None) -> str:
    form = "through the chat template" if chat_template else "as plain text"
    return f"{form} with the system message {system!r}" if system else form
