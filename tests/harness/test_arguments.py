"""Arguments of ``--model_args`` and flags of ``lm_eval run``: each is honoured, refused or lm-eval's own."""

from __future__ import annotations

import argparse
import inspect
from typing import Any

import pytest
from lm_eval._cli.run import Run
from lm_eval.models.huggingface import HFLM

from lift_eval.errors import RecipeError
from lift_eval.harness.arguments import OWN_ARGUMENTS, REPLACED_ARGUMENTS, HfArguments, read_arguments
from lift_eval.harness.model import LiftLM
from tests.conftest import ROOT

OF_TRANSFORMERS = {"load_in_4bit", "load_in_8bit"}
"""Arguments that ``hf`` hands on by its ``**kwargs``."""


def documented(title: str) -> dict[str, tuple[str, ...]]:
    """The table of a section of docs/arguments.md: its first column to the others."""
    text = (ROOT / "docs" / "arguments.md").read_text(encoding="utf-8")
    section = text.partition(f"## {title}\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    return {row[0].strip().strip("`"): tuple(cell.strip() for cell in row[1:]) for row in rows}


def test_every_argument_of_hf_is_documented_as_what_becomes_of_it():
    theirs = {
        name
        for name, parameter in inspect.signature(HFLM.__init__).parameters.items()
        if name != "self" and parameter.kind is not parameter.VAR_KEYWORD
    }
    table = documented("Arguments of lm-eval's `hf`")
    assert set(table) == theirs
    refused = {name: instead for name, (fate, instead) in table.items() if fate == "refused"}
    assert refused == {
        name: REPLACED_ARGUMENTS[name] for name in REPLACED_ARGUMENTS if name not in OF_TRANSFORMERS
    }
    honoured = {name for name, (fate, _) in table.items() if fate == "honoured"}
    assert honoured | set(refused) == theirs
    assert honoured == set(HfArguments.model_fields) | {"pretrained", "device"}


def test_our_own_arguments_are_documented():
    table = documented("Our own arguments")
    assert set(table) == {*OWN_ARGUMENTS, "seed"} - {"device"}
    named = set(inspect.signature(LiftLM.__init__).parameters) - {"self", "model_args"}
    assert named == set(OWN_ARGUMENTS)


def test_every_flag_of_lm_eval_run_is_documented_as_what_becomes_of_it():
    parser = Run(argparse.ArgumentParser().add_subparsers())._parser
    theirs = {action.option_strings[0] for action in parser._actions if action.dest != "help"}
    table = documented("Flags of `lm_eval run`")
    assert set(table) == theirs
    assert {fate for fate, _ in table.values()} == {"honoured", "refused", "lm-eval's own"}


@pytest.mark.parametrize("argument", sorted(REPLACED_ARGUMENTS))
def test_an_argument_of_hf_that_is_refused_says_what_to_use(argument):
    with pytest.raises(RecipeError) as caught:
        read_arguments("lora", {argument: "x"})
    assert caught.value.faults == (
        f"'{argument}' is not an argument of model 'lift': {REPLACED_ARGUMENTS[argument]}",
    )


@pytest.mark.parametrize(
    ("argument", "value", "rule"),
    [
        ("max_length", "abc", "must be a valid integer"),
        ("max_length", -5.0, "must be greater than or equal to 1"),
        ("max_length", 0, "must be greater than or equal to 1"),
        ("softmax_dtype", "floatxx", "must be 'float64', 'float32', 'bfloat16' or 'float16'"),
        ("chat_template_args", "foo", "must be a valid dictionary"),
        ("enable_thinking", "maybe", "must be a valid boolean"),
        ("logits_cache", "maybe", "must be a valid boolean"),
        ("trust_remote_code", "maybe", "must be a valid boolean"),
        ("prefix_token_id", "bos", "must be a valid integer"),
        ("max_batch_size", 0, "must be greater than or equal to 1"),
        ("batch_size", "xyz", "must be a positive integer, auto or auto:N"),
        ("batch_size", "0", "must be a positive integer, auto or auto:N"),
        ("batch_size", "auto:x", "must be a positive integer, auto or auto:N"),
        ("batch_size", "4:2", "must be a positive integer, auto or auto:N"),
        ("seed", 12345678901234567890123, "must be less than 9223372036854775808"),
        ("seed", -1.0, "must be greater than or equal to 0"),
        ("seed", "x", "must be a valid integer"),
    ],
)
def test_a_wrong_value_is_told_with_its_rule(argument, value, rule):
    with pytest.raises(RecipeError) as caught:
        read_arguments("lora", {argument: value})
    assert caught.value.faults == (f"'{argument}' {rule}, got {value!r}",)


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        ({"enable_thinking": False}, {"enable_thinking": False}),
        ({"prompt.enable_thinking": False}, {"enable_thinking": False}),
        ({"chat_template_args": {"x": 1}, "enable_thinking": True}, {"x": 1, "enable_thinking": True}),
        ({"prompt.chat_template_args.effort": "low"}, {"effort": "low"}),
        ({}, {}),
    ],
)  # fmt: skip
def test_questions_and_pairs_go_through_the_chat_template_in_the_same_way(arguments, variables):
    recipe, hf = read_arguments("v2", arguments)
    assert recipe.prompt.template_variables == hf.chat_template_args == variables
    assert hf.enable_thinking is None  # lm-eval would ask for a mark at the end of thinking


@pytest.mark.parametrize(("given", "mark"), [("</think>", "</think>"), (151668, 151668), ("151668", 151668)])
def test_the_mark_of_thinking_is_a_text_or_a_token(given, mark):
    recipe, hf = read_arguments("icl", {"think_end_token": given})
    assert (recipe.prompt.think_end, hf.think_end_token) == (mark, None)


def test_faults_of_arguments_and_recipe_come_together():
    with pytest.raises(RecipeError) as caught:
        read_arguments("lora", {"max_length": "x", "peft": "y", "maxlength": 1, "adapter.rank": 0})
    assert len(caught.value.faults) == 4


@pytest.mark.parametrize(("given", "meant"), [(4, 4), ("4", 4), ("auto", "auto"), ("auto:3", "auto"), (1, 1)])
def test_a_batch_size_is_a_number_or_auto(given, meant):
    assert read_arguments("lora", {"batch_size": given})[1].batch_size == meant


@pytest.mark.parametrize(
    ("arguments", "batch"),
    [
        ({"batch_size": "5"}, 5),
        ({"batch_size": 1}, 16),
        ({"batch_size": "auto"}, 16),
        ({"batch_size": 5, "compute.answer_batch": 7}, 7),
    ],
)
def test_the_batch_size_is_that_of_answers_too_where_the_recipe_is_not_told_another(arguments, batch):
    recipe, _ = read_arguments("lora", arguments)
    assert recipe.compute.answer_batch == batch
    assert recipe.digest == read_arguments("lora", {})[0].digest


@pytest.mark.parametrize(
    ("argument", "value", "meant"),
    [
        ("learning_rate", 1e-3, "did you mean 'training.learning_rate'?"),
        ("learning_rte", 1e-3, "did you mean 'training.learning_rate'?"),
        ("rank", 4, "did you mean 'adapter.rank'?"),
        ("epochs", 3, "did you mean 'training.context_epochs' or 'training.joint_epochs'?"),
        ("max_tokens", 100, "did you mean 'auxiliary.max_tokens' or 'prompt.max_tokens'?"),
        ("adapter", "lora", "did you mean 'adapter.type=lora'?"),
        ("sed", 4, "did you mean 'seed'?"),
        ("tokenzier", "x", "did you mean 'tokenizer'?"),
        ("lr", 1e-3, "and a recipe's keys, which 'lift-eval recipes show lora' prints"),
    ],
)
def test_a_key_of_the_recipe_without_its_group_is_told_with_its_whole_name(argument, value, meant):
    with pytest.raises(RecipeError) as caught:
        read_arguments("lora", {argument: value})
    (fault,) = caught.value.faults
    assert fault.startswith(f"unknown argument '{argument}' (value {value!r}); ")
    assert fault.endswith(meant)


def test_a_group_of_the_recipe_may_be_given_as_json():
    nested, _ = read_arguments(
        "lora", {"training": {"learning_rate": 1e-3}, "adapter": {"type": "pissa", "rank": 3}}
    )
    dotted, _ = read_arguments(
        "lora", {"training.learning_rate": 1e-3, "adapter.type": "pissa", "adapter.rank": 3}
    )
    assert nested == dotted


def test_a_list_is_told_by_an_example_that_the_command_line_reads():
    with pytest.raises(RecipeError, match=r"'adapter\.targets' must be a list such as \['a', 'b'\] or"):
        read_arguments("lora", {"adapter.targets": "[q_proj,v_proj]"})
    parsed = Run(argparse.ArgumentParser().add_subparsers())._parser.parse_args(
        ["--tasks", "x", "--model_args", "adapter.targets=['q_proj', 'v_proj']"]
    )
    assert read_arguments("lora", parsed.model_args)[0].adapter.targets == ("q_proj", "v_proj")


def test_a_revision_that_looks_like_a_number_is_a_text():
    assert read_arguments("lora", {"revision": 1234567})[1].revision == "1234567"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"max_length": 300}, "'max_length' must be at most the model's 256 positions, got 300"),
        ({"prefix_token_id": 264}, "'prefix_token_id' must be one of the model's 264 tokens, got 264"),
    ],
)
def test_what_the_model_was_not_made_for_is_refused(arguments, told):
    _, hf = read_arguments("lora", arguments)
    with pytest.raises(RecipeError, match=told):
        hf.check(256, 264)


def test_a_model_without_a_limit_takes_any_length():
    HfArguments(max_length=10**6).check(None, 264)


@pytest.mark.parametrize("made", ["obj", "string"])
def test_an_argument_that_is_a_flag_too_is_refused_where_both_are_given(made):
    def make(flags: dict[str, Any]) -> LiftLM:
        if made == "string":
            return LiftLM.create_from_arg_string("device=cpu,recipe=icl", flags)
        return LiftLM.create_from_arg_obj({"device": "cpu", "recipe": "icl"}, flags)

    with pytest.raises(RecipeError, match="'device' is a flag of lm-eval; write --device cpu"):
        make({"device": "cuda:0"})
    with pytest.raises(RecipeError, match="unknown argument 'max_batchsize'"):
        make({"device": None, "max_batchsize": 4})
