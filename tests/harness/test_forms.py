"""What is said where questions and pairs have different forms."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lift_eval.distribution.groups import Group, Request
from lift_eval.document import Document
from lift_eval.errors import RecipeError
from lift_eval.harness.forms import TaskForms, describe_difference, describe_missing
from lift_eval.prompts.form import TaskForm
from lift_eval.recipe import load_recipe

CHAT = {"prompt.chat_template": True}
SYSTEM = "You are a helpful assistant."


@pytest.mark.parametrize(
    ("recipe", "overrides", "chat_template", "system"),
    [
        ("tiny", {}, False, None),
        ("tiny", {**CHAT, "prompt.system": "Be brief."}, True, "Be brief."),
        ("llama3_musique", {}, True, SYSTEM),
        ("lora", {}, True, "Be brief."),  # no pair is trained, and the recipe asks for no form
        ("icl", {}, True, None),
    ],
)
def test_nothing_is_said_of_one_form_or_of_a_recipe_without_any(recipe, overrides, chat_template, system):
    loaded = load_recipe(recipe, overrides)
    assert describe_difference(loaded, chat_template=chat_template, system=system) is None


@pytest.mark.parametrize(
    ("recipe", "chat_template", "system", "told"),
    [
        (
            "tiny", True, None,
            "recipe 'tiny' trains pairs as plain text, and lm-eval puts questions through the chat template: "
            "prompt.chat_template=true goes with --apply_chat_template",
        ),
        (
            "llama3_musique", True, None,
            f"recipe 'llama3_musique' trains pairs through the chat template with the system message {SYSTEM!r}, and "
            "lm-eval puts questions through the chat template: prompt.system with --system_instruction",
        ),
        (
            "longbench_icl", False, None,
            "recipe 'longbench_icl' is for questions put through the chat template with the system message "
            f"{SYSTEM!r}, and lm-eval puts questions as plain text: prompt.chat_template=true goes with "
            "--apply_chat_template, prompt.system with --system_instruction",
        ),
    ],
)  # fmt: skip
def test_different_forms_are_told_with_what_to_say(recipe, chat_template, system, told):
    assert describe_difference(load_recipe(recipe), chat_template=chat_template, system=system) == told


DOCUMENT = Document("The lamp was lit by Ann. " * 20)
FORM = TaskForm(f"{DOCUMENT.text}\n\x02question\x03")


def group(*tasks: str) -> Group:
    return Group(DOCUMENT, (), tuple(Request(task, 0, ("prompt", {})) for task in tasks))


def test_a_task_whose_questions_are_put_alike_has_a_form():
    forms = TaskForms()
    for task, form in (("alike", FORM), ("alike", FORM), ("changing", FORM), ("changing", TaskForm("other"))):
        forms.note(task, DOCUMENT, form)
    forms.note("unknown", DOCUMENT, None)
    assert forms.given_to(group("alike", "changing", "unknown")).forms == {"alike": FORM}


def test_pairs_of_a_task_without_a_form_are_told_and_demonstrations_refused():
    known, unknown = replace(group("alike"), forms={"alike": FORM}), group("changing")
    pairs = {"training.joint_epochs": 1, "auxiliary.strategy": "sentences"}
    assert describe_missing([known], load_recipe("lora", pairs)) is None
    assert describe_missing([unknown], load_recipe("lora")) is None  # trains no pairs
    told = describe_missing([known, unknown], load_recipe("lora", pairs))
    assert "own prompt: the prompts of changing hold" in str(told)
    shown = [{"passage": "By the sea.", "question": "Where?", "answer": "by the sea"}]
    with pytest.raises(RecipeError, match=r"'prompt\.demonstrations' cannot be put as its task does"):
        describe_missing([unknown], load_recipe("icl", {"prompt.demonstrations": shown}))
