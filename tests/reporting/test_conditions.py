"""Every setting that changes what is asked, trained or scored is compared, or is what a report compares."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lift_eval.distribution.cluster import ClusterSettings
from lift_eval.recipe import load_recipe, settings_keys
from lift_eval.reporting.comparison import compare
from lift_eval.reporting.conditions import COMPARED, CONDITIONS, NEUTRAL
from lift_eval.reporting.experiment import Experiment
from lift_eval.reporting.provenance import recipe_differences
from tests.reporting.helpers import rows, write_run

RECIPE = load_recipe("tiny").model_dump(mode="json")


def lm_eval_flags() -> list[str]:
    from lm_eval._cli.run import Run

    parser = Run(argparse.ArgumentParser().add_subparsers())._parser
    return [action.option_strings[0] for action in parser._actions if action.dest != "help"]


def model_arguments() -> list[str]:
    from lift_eval.harness.arguments import OWN_ARGUMENTS, HfArguments

    return [f"{name}=" for name in (*OWN_ARGUMENTS, *HfArguments.model_fields, "seed")]


def recipe_keys() -> list[str]:
    return [*dict.fromkeys(settings_keys()), *(f"workers.{name}" for name in ClusterSettings.model_fields)]


def holders(setting: str) -> list[str]:
    """The lists that a setting or its group stands in."""
    names = {setting, setting.partition(".")[0]}
    lists: dict[str, set[str]] = {"compared": set(COMPARED), "neutral": set(NEUTRAL)}
    lists |= {condition.name: set(condition.settings) for condition in CONDITIONS}
    return [name for name, settings in lists.items() if names & settings]


@pytest.mark.parametrize("source", [recipe_keys, lm_eval_flags, model_arguments])
def test_every_setting_is_a_condition_or_compared_or_changes_nothing(source: Any) -> None:
    unplaced = {setting: found for setting in source() if len(found := holders(setting)) != 1}
    assert not unplaced, "say in reporting/conditions.py what these settings do"


def test_no_setting_is_listed_that_does_not_exist() -> None:
    known = {*recipe_keys(), *lm_eval_flags(), *model_arguments()}
    known |= {key.partition(".")[0] for key in recipe_keys()}
    listed = {*COMPARED, *NEUTRAL, *(setting for condition in CONDITIONS for setting in condition.settings)}
    assert listed <= known


# ------------------------------------------------------------------------------------------- each change makes a note


def other(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, (int, float)) else f"{value or ''} other"


def with_key(recipe: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The recipe with another value of one key."""
    changed = copy.deepcopy(dict(recipe))
    *groups, last = key.split(".")
    group = changed
    for name in groups:
        group = group[name]
    group[last] = other(group.get(last))
    return changed


def lift(**changes: Any) -> dict[str, Any]:
    """What our model class recorded, with changes."""
    return {"recipe": RECIPE, "pretrained": "bundled", "window": 8192, "dtype": "float32", **changes}


def config(**changes: Any) -> dict[str, Any]:
    """A results file's ``config`` with changes."""
    return {"config": {"model": "lift", "model_args": {}, "random_seed": 0, "lift": lift(), **changes}}


def argument(**given: Any) -> dict[str, Any]:
    return config(model_args=given)


def task(**settings: Any) -> dict[str, Any]:
    return {"configs": {"task": {"task": "task", **settings}}}


CHAT = {"chat_template": "{{ messages }}"}
EXAMPLES = {"n-shot": {"task": 3}}
# What a setting leaves in a results file, on top of what both runs share.
TRACES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "pretrained=": ({}, config(lift=lift(pretrained="another"))),
    "subfolder=": ({}, argument(subfolder="other")),
    "gguf_file=": ({}, argument(gguf_file="other.gguf")),
    "revision=": ({}, config(model_revision="other")),
    "tokenizer=": ({}, argument(tokenizer="other")),
    "document_field=": ({}, argument(document_field="text")),
    "max_length=": ({}, config(lift=lift(window=100))),
    "prefix_token_id=": ({}, argument(prefix_token_id=1)),
    "chat_template_args=": (CHAT, argument(chat_template_args={"x": 1})),
    "enable_thinking=": (CHAT, argument(enable_thinking=True)),
    "prompt.enable_thinking": (
        CHAT,
        config(lift=lift(recipe=with_key(RECIPE, "prompt.enable_thinking"))),
    ),
    "think_end_token=": ({}, argument(think_end_token="</think>")),
    "prompt.chat_template_args": (
        CHAT,
        config(lift=lift(recipe=with_key(RECIPE, "prompt.chat_template_args.x"))),
    ),
    "softmax_dtype=": ({}, argument(softmax_dtype="float64")),
    "judge=": ({}, {"data": [{**row, "judge": "gpt"} for row in rows(2, 2)]}),
    "precision.dtype": ({}, config(lift=lift(dtype="bfloat16"))),
    "--apply_chat_template": ({}, CHAT),
    "--system_instruction": ({}, {"system_instruction": "Be brief."}),
    "--num_fewshot": ({}, EXAMPLES),
    "--fewshot_as_multiturn": (EXAMPLES, {"fewshot_as_multiturn": True}),
    "--seed": (EXAMPLES | config(fewshot_seed=1), config(fewshot_seed=2)),
    "--gen_kwargs": ({}, {"generation": {"do_sample": True}}),
    "--metadata": ({}, {"data": [{**row, "prompt_style": "closed_book"} for row in rows(2, 2)]}),
    "prompt.style": ({}, {"data": [{**row, "prompt_style": "closed_book"} for row in rows(2, 2)]}),
    "--limit": ({}, config(limit=5.0)),
    "--include_path": ({}, {"versions": {"task": 2}}),
}
SETTINGS = [(condition.name, setting) for condition in CONDITIONS for setting in condition.settings]


def notes(folder: Path, shared: Mapping[str, Any], change: Mapping[str, Any]) -> list[str]:
    """Notes of a run beside one that lacks the change."""
    for name, changes in (("A", shared), ("B", {**shared, **change})):
        options = {"data": rows(2, 2), **config(model_revision="main"), **changes}
        data = options.pop("data")
        write_run(folder / name, {"task": [0, 1, 0, 1]}, data, **options)
    columns = [{"label": "S", "task": "task", "metric": "exact_match"}]
    experiment = {
        "title": "T",
        "baseline": "A",
        "rows": [{"name": name, "results": name} for name in ("A", "B")],
        "columns": columns,
        "path": folder / "experiment.yaml",
    }
    return list(compare(Experiment.model_validate(experiment)).cell("B", "S").notes)


@pytest.mark.parametrize(("name", "setting"), SETTINGS, ids=[setting for _, setting in SETTINGS])
def test_another_value_of_a_condition_is_noted(tmp_path: Path, name: str, setting: str) -> None:
    if setting in TRACES:
        shared, change = TRACES[setting]
    else:
        shared, change = {}, config(lift=lift(recipe=with_key(RECIPE, setting)))
    assert any(note.startswith(f"{name}: ") for note in notes(tmp_path, shared, change))


@pytest.mark.parametrize(
    ("shared", "change", "note"),
    [
        (task(), task(description="Be brief."), "task setting description: Be brief. (A: not set)"),
        (task(doc_to_text="Q: {{q}}"), task(doc_to_text="{{q}}?"), "task setting doc_to_text: {{q}}? (A: Q: {{q}})"),
        (task(), task(metadata={"documents": 3}), "metadata documents: 3 (A: not set)"),
    ],
)  # fmt: skip
def test_another_task_under_the_same_name_is_noted(
    tmp_path: Path, shared: dict[str, Any], change: dict[str, Any], note: str
) -> None:
    assert notes(tmp_path, shared, change) == [note]


@pytest.mark.parametrize(
    "change",
    [
        task(metadata={"data_dir": "elsewhere", "version": 1.0}),
        task(dataset_kwargs={"data_files": "elsewhere.jsonl"}),
        task(fewshot_config={"sampler": "first_n"}),
        argument(batch_size=8, device="cpu", store="off"),
        config(lift=lift(recipe=with_key(with_key(RECIPE, "compute.answer_batch"), "decoding.max_new_tokens"))),
    ],
)  # fmt: skip
def test_what_changes_nothing_is_not_noted(tmp_path: Path, change: dict[str, Any]) -> None:
    assert notes(tmp_path, task(dataset_kwargs={}), change) == []


def test_where_in_memory_a_function_lay_is_not_noted(tmp_path: Path) -> None:
    first, second = (
        task(fewshot_config={"doc_to_text": f"<function f at {at}>"}) for at in ("0x7f1", "0x7f2")
    )
    assert notes(tmp_path, EXAMPLES | first, second) == []


@pytest.mark.parametrize(
    "key", [key for key in settings_keys() if key.startswith(("training.", "auxiliary."))]
)
def test_what_is_compared_stands_in_the_table_of_recipes(key: str) -> None:
    assert list(recipe_differences({"A": RECIPE, "B": with_key(RECIPE, key)})) == [key]


# ----------------------------------------------------------------------------- the form of questions and of training


def with_chat(*, pairs: bool, questions: bool) -> dict[str, Any]:
    recipe = copy.deepcopy(RECIPE)
    recipe["prompt"]["chat_template"] = pairs
    return config(lift=lift(recipe=recipe)) | (CHAT if questions else {})


@pytest.mark.parametrize(
    "shared", [with_chat(pairs=True, questions=True), with_chat(pairs=False, questions=False)]
)
def test_pairs_and_questions_of_one_form_need_no_note(tmp_path: Path, shared: dict[str, Any]) -> None:
    assert notes(tmp_path, shared, {}) == []


def test_pairs_of_another_form_than_the_questions_are_noted(tmp_path: Path) -> None:
    """Both runs trained with the template; the second was asked without it."""
    found = notes(tmp_path, with_chat(pairs=True, questions=False) | CHAT, {"chat_template": None})
    assert any(note.startswith("chat template of the questions: off (A: on") for note in found)
    assert "form of the trained pairs: chat template (questions: plain text)" in found


def test_where_no_pair_is_trained_the_form_of_pairs_says_nothing(tmp_path: Path) -> None:
    recipe = load_recipe("tiny_icl").model_dump(mode="json")
    recipe["prompt"]["chat_template"] = True
    assert notes(tmp_path, {}, config(lift=lift(recipe=recipe))) == []
