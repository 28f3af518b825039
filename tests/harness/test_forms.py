"""What is said where questions and pairs have different forms."""

from __future__ import annotations

import pytest

from lift_eval.harness.forms import describe_difference
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
