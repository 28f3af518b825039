"""Questions and pairs have the same form, unless somebody asks for two."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lm_eval.api.instance import Instance

from lift_eval.distribution.groups import Group, Request
from lift_eval.document import Document
from lift_eval.errors import RecipeError
from lift_eval.harness.documents import Documents
from lift_eval.harness.flags import noting
from lift_eval.harness.forms import (
    TaskForms,
    check_forms,
    describe_difference,
    describe_missing,
    follow_recipe,
)
from lift_eval.harness.grouping import group_requests
from lift_eval.prompts.form import TaskForm
from lift_eval.recipe import load_recipe
from tests.tiny_models import save_checkpoint, tiny_tokenizer

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
            "trains pairs as plain text, but questions are asked through the chat template",
        ),
        (
            "llama3_musique", True, None,
            f"trains pairs through the chat template with the system message {SYSTEM!r}, but questions are asked "
            "through the chat template",
        ),
        (
            "longbench_icl", False, None,
            "is made for questions through the chat template with the system message "
            f"{SYSTEM!r}, but questions are asked as plain text",
        ),
    ],
)  # fmt: skip
def test_different_forms_are_told(recipe, chat_template, system, told):
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
    assert "own prompt: the prompts of changing contain" in str(told)
    shown = [{"passage": "By the sea.", "question": "Where?", "answer": "by the sea"}]
    with pytest.raises(RecipeError, match=r"'prompt\.demonstrations' cannot have the form of the task"):
        describe_missing([unknown], load_recipe("icl", {"prompt.demonstrations": shown}))


def test_pairs_of_another_form_than_the_questions_are_refused_unless_they_are_asked_for(caplog):
    recipe = load_recipe("tiny", {**CHAT, "auxiliary.prompts": ["test"]})
    with pytest.raises(
        RecipeError, match=r"chat template, but questions are asked as plain text, so training and"
    ):
        check_forms("generate_until", [group("task")], recipe, chat_template=False, chosen=False)
    check_forms(
        "generate_until", [Group(None, (), ())], recipe, chat_template=False, chosen=False
    )  # trains none
    check_forms("generate_until", [group("task")], recipe, chat_template=False, chosen=True)
    assert "trains pairs through the chat template, but questions are asked as plain text" in caplog.text


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[bool, str]:
    """Checkpoints with and without a chat template."""
    folders = {}
    for has_template in (True, False):
        folder = save_checkpoint(tmp_path_factory.mktemp("model"))
        tiny_tokenizer(chat_template=has_template).save_pretrained(folder)
        folders[has_template] = str(folder)
    return folders


@pytest.mark.parametrize(
    ("recipe", "has_template", "arguments", "asked"),
    [
        ("lora", True, {}, (True, None)),
        ("lora", False, {}, (False, None)),
        ("lora", True, {"prompt.chat_template": False}, (False, None)),
        ("smollm2", True, {}, (False, None)),  # its demonstrations are plain text
        ("loogle_icl", True, {}, (False, None)),
        ("longbench_icl", True, {}, (True, SYSTEM)),
        ("no such recipe", True, {}, (False, None)),  # left for the model to report
    ],
)
def test_lm_eval_asks_in_the_recipes_form(models, recipe, has_template, arguments, asked, caplog):
    run = {
        "model": "lift", "model_args": {"pretrained": models[has_template], "recipe": recipe, **arguments},
        "apply_chat_template": False, "system_instruction": None, "fewshot_as_multiturn": None,
    }  # fmt: skip
    with noting(run):
        follow_recipe(run)
    assert (run["apply_chat_template"], run["system_instruction"]) == asked
    assert run["fewshot_as_multiturn"] is (asked[0] or None)
    by_default = asked[0] and recipe == "lora"
    assert ("plain text unless --apply_chat_template is given, so scores differ" in caplog.text) is by_default


def test_a_prompt_without_the_document_has_a_form_and_one_with_a_part_of_it_has_none():
    text = (
        "The mill of Kirmoor stands where two streams meet, and its door is painted yellow every spring. " * 3
    )
    row = {"context": text, "question": "What is the capital of France?"}
    prompts = {
        "forgetting": f"Question: {row['question']}\nAnswer:",
        "part": f"{text[: len(text) // 2]}\n\nQuestion: {row['question']}\nAnswer:",
    }
    instances = [
        Instance("generate_until", row, (prompt, {}), 0, metadata=(task, 0, 1))
        for task, prompt in prompts.items()
    ]
    documents = Documents("context", closed_book=False)
    (found,) = group_requests("generate_until", instances, documents, TaskForms(), None, 16)
    assert list(found.forms) == ["forgetting"]
