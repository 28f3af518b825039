"""Recipes: what is loaded, what wins over what, and what a wrong one is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lift_eval.errors import RecipeError
from lift_eval.files import MAX_BYTES
from lift_eval.recipe import (
    LoraSettings,
    PissaSettings,
    Recipe,
    baseline_of,
    default_recipe,
    differences,
    load_recipe,
    settings_keys,
    shipped_recipes,
)

LORA = "adapter: {type: lora, rank: 4}\n"


@pytest.fixture
def write(tmp_path: Path):
    """Write a recipe file and return its path."""

    def write(text: str, name: str = "mine.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def faults(path: Path | str, **overrides: object) -> tuple[str, ...]:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, {key.replace("__", "."): value for key, value in overrides.items()})
    assert "\n" not in str(caught.value)
    return caught.value.faults


# --- what is loaded ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_loads_and_survives_its_own_dump(name, write):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.description
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe
    dumped = write(yaml.safe_dump(recipe.model_dump(mode="json")))
    assert load_recipe(dumped).digest == recipe.digest


def test_the_quick_start_and_its_baseline_hold_the_published_settings():
    lora, icl = load_recipe("lora"), load_recipe("icl")
    assert lora.adapter == LoraSettings(rank=128, alpha=256, dropout=0, targets="auto", init="gaussian")
    training = lora.training
    assert (training.segment_tokens, training.stride_tokens, training.samples_per_step) == (2048, 768, "all")
    assert (training.learning_rate, training.betas, training.eps) == (2e-4, (0.9, 0.98), 1e-8)
    assert (training.weight_decay, training.max_grad_norm, training.schedule) == (0.0, 1.0, "linear")
    assert (training.context_epochs, training.joint_epochs, training.warmup_steps) == (8, 0, 0)
    assert lora.trains
    assert not icl.trains
    assert lora.prompt == icl.prompt
    assert lora.prompt.max_tokens == 7800


def test_a_number_with_an_exponent_and_no_dot_is_a_number(write):
    """YAML 1.1 reads 2e-4 as a text."""
    assert load_recipe(write(LORA + "training: {learning_rate: 2e-4}")).training.learning_rate == 2e-4


def test_a_recipe_does_not_change_after_construction():
    with pytest.raises(ValueError, match="frozen"):
        load_recipe("lora").training.learning_rate = 1.0  # type: ignore[misc]


# --- what wins -----------------------------------------------------------------------------------------------------


def test_precedence_is_defaults_then_base_then_file_then_overrides(write):
    write(
        "extends: lora\nname: base\ntraining: {learning_rate: 1, weight_decay: 0.5, warmup_steps: 2}\n",
        "base.yaml",
    )
    mine = write("extends: base.yaml\ntraining: {learning_rate: 2, weight_decay: 0.25}\n")
    recipe = load_recipe(mine, {"training.learning_rate": 3})
    assert recipe.training.learning_rate == 3
    assert recipe.training.weight_decay == 0.25
    assert recipe.training.warmup_steps == 2
    assert recipe.training.context_epochs == 8
    assert recipe.name == "mine"


def test_a_base_is_found_beside_the_file_that_names_it(write, monkeypatch, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    write(LORA + "seed: 7\n", "base.yaml")
    assert load_recipe(write("extends: base.yaml\n")).seed == 7


@pytest.mark.parametrize("order", [1, -1])
def test_another_adapter_type_starts_the_group_anew_whatever_the_order(write, order):
    overrides = list({"adapter.rank": 8, "adapter.type": "pissa"}.items())[::order]
    assert load_recipe("lora", dict(overrides)).adapter == PissaSettings(rank=8)
    assert load_recipe(write("extends: lora\nadapter: {type: pissa}")).adapter == PissaSettings()


def test_the_same_adapter_type_keeps_the_rest_of_the_group(write):
    adapter = load_recipe(write("extends: lora\nadapter: {type: lora, rank: 8}")).adapter
    assert adapter == LoraSettings(rank=8, alpha=256)


# --- the digest ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [{"name": "x"}, {"description": "x"}, {"reproduces": "x"},
     {"compute.micro_batch_tokens": 1}, {"compute.answer_batch": 1}],
    ids=str,
)  # fmt: skip
def test_names_and_layout_are_not_in_the_digest(change):
    assert load_recipe("lora", change).digest == load_recipe("lora").digest


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"adapter.rank": 1}, {"training.learning_rate": 1}, {"prompt.max_tokens": 1},
     {"precision.dtype": "bfloat16"}, {"prompt.bos": True}],
    ids=str,
)  # fmt: skip
def test_what_decides_results_is_in_the_digest(change):
    assert load_recipe("lora", change).digest != load_recipe("lora").digest


def test_the_digest_does_not_depend_on_how_a_value_is_written(write):
    one = write("adapter: {type: lora, rank: 4, alpha: 8}\ntraining: {learning_rate: 0.0002}\n", "one.yaml")
    two = write("training: {learning_rate: 2.0e-4}\nadapter: {alpha: 8.0, type: lora, rank: 4}\n", "two.yaml")
    assert load_recipe(one).digest == load_recipe(two).digest


def test_differences_name_the_keys_and_both_values():
    changed = load_recipe(
        "lora", {"training.learning_rate": 1.0, "compute.answer_batch": 1, "adapter.type": "pissa"}
    )
    found = differences(load_recipe("lora"), changed)
    assert found["training.learning_rate"] == (2e-4, 1.0)
    assert found["adapter.type"] == ("lora", "pissa")
    assert found["adapter.init"] == ("gaussian", None)
    assert "compute.answer_batch" not in found


# --- what a wrong recipe is told -----------------------------------------------------------------------------------


def test_all_faults_are_reported_together(write):
    path = write(
        "adapter: {type: lora, rnk: 4, dropout: 2}\n"
        "training: {learning_rat: 1, learning_rate: -1, stride_tokens: 4096, schedule: sometimes,"
        " context_epochs: many}\n"
        "prompt: {template: '{{ document }} {{ quesiton }}'}\n"
        "sed: 1\n"
    )
    found = " | ".join(faults(path))
    for expected in (
        "unknown key 'adapter.rnk' (value 4); did you mean 'adapter.rank'?",
        "'adapter.dropout' must be less than 1, got 2",
        "unknown key 'training.learning_rat' (value 1); did you mean 'training.learning_rate'?",
        "'training.learning_rate' must be greater than 0, got -1",
        "'training.stride_tokens' must not exceed 'training.segment_tokens' (2048)",
        "'training.schedule' must be 'constant', 'linear' or 'cosine', got 'sometimes'",
        "'training.context_epochs' must be a valid integer, got 'many'",
        "'prompt.template' must be a Jinja template of document, question, title",
        "unknown key 'sed' (value 1); did you mean 'seed'?",
    ):
        assert expected in found
    assert len(faults(path)) == 9
    with pytest.raises(RecipeError, match=r"\(9 faults\): "):
        load_recipe(path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("training: {learning-rate: 3}", "unknown key 'training.learning-rate' (value 3); did you mean"),
        ("training.learning_rate: 3", "unknown key 'training.learning_rate' (value 3); write it as nested groups"),
        ("adapter: lora", "'adapter' must be a group of keys, got 'lora'"),
        ("adapter: {type: lorra}", "'adapter' must be a group whose 'type' is one of none, lora, pissa, gated_memory"),
        ("adapter: {rank: 4}", "'adapter' must be a group whose 'type' is one of"),
        ("adapter: {type: lora, init: [1]}", "'adapter.init' must be a valid boolean or a valid string, got [1]"),
        (
            "adapter: {type: lora, targets: 5}",
            "'adapter.targets' must be a list such as ['a', 'b'] or 'all-linear' or 'auto', got 5",
        ),
        ("training: 3", "'training' must be a group of keys, got 3"),
        ("training: {samples_per_step: few}", "'training.samples_per_step' must be a valid integer or 'all', got"),
        ("training: {learning_rate: .inf}", "'training.learning_rate' must be a finite number, got inf"),
        ("auxiliary: {prompts: []}", "'auxiliary.prompts' must be a list of 1 or more, got []"),
        ("prompt: {template: '{{ document'}", "'prompt.template' must be a Jinja template that parses"),
        ("prompt: {template: '{{ question }}'}", "'prompt.template' must be a Jinja template of document, question"),
        ("prompt: {closed_book_template: '{{ document }}'}", "'prompt.closed_book_template' must be a Jinja"),
    ],
)  # fmt: skip
def test_one_fault_is_told_once_by_the_key_that_a_person_wrote(write, text, told):
    path = write(text if "adapter" in text else f"{LORA}{text}\n")
    assert [fault for fault in faults(path) if fault.startswith(told)]
    assert len([fault for fault in faults(path) if "epochs" not in fault]) == 1


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({"adapter.type": "none"}, "'adapter.type: none' has nothing to train, got 8 epochs"),
        ({"training.context_epochs": 0}, "adapter 'lora' needs 'training.context_epochs' or 'training.joint_epochs'"),
        ({"auxiliary.strategy": "passages"}, "'auxiliary.strategy: passages' needs 'training.joint_epochs'"),
        ({"training.joint_epochs": 1, "training.joint_segments": False}, "'training.joint_segments: false' needs an"),
        (
            {
                "training.joint_epochs": 1,
                "training.contextualized": True,
                "auxiliary.strategy": "paragraphs",
            },
            "'auxiliary.strategy: paragraphs' trains whole paragraphs",
        ),
        ({"decoding.source": "checkpoint", "decoding.temperature": 0.5}, "'decoding.temperature' needs"),
        ({"training.warmup": "per_stage"}, "'training.warmup: per_stage' needs 'training.schedule: constant'"),
        ({"training.objective": "distillation"}, "'training.objective: distillation' needs 'training.samples: halves'"),
        (
            {"training.samples": "halves", "training.contextualized": True},
            "'training.samples: halves' needs 'training.contextualized: false', got true",
        ),
        (
            {
                "training.samples": "halves",
                "training.joint_epochs": 1,
                "auxiliary.strategy": "paragraphs",
            },
            "'auxiliary.strategy: paragraphs' trains whole paragraphs, so it needs 'training.samples: segments', got",
        ),
        (
            {
                "training.samples": "halves",
                "training.objective": "distillation",
                "training.joint_epochs": 1,
                "auxiliary": {"strategy": "passages", "prompts": ["closed_book", "task"]},
            },
            "'training.objective: distillation' needs 'auxiliary.prompts' of closed_book or task_closed_book",
        ),
        (
            {
                "training.samples": "halves",
                "training.objective": "distillation",
                "training.joint_epochs": 1,
                "auxiliary": {"strategy": "passages", "prompts": ["closed_book"], "encoding": "joint"},
            },
            "'training.objective: distillation' needs 'auxiliary.encoding: separate'",
        ),
    ],
)  # fmt: skip
def test_parts_must_agree_and_another_fault_does_not_hide_that(overrides, told):
    for more in ({}, {"prompt.max_tokens": 0}):
        with pytest.raises(RecipeError) as caught:
            load_recipe("lora", {**overrides, **more})
        assert any(fault.startswith(told) for fault in caught.value.faults)
        assert len(caught.value.faults) == 1 + len(more)


def test_every_known_key_is_told_to_a_mistyped_neighbour():
    for key in settings_keys():
        if "." in key and not key.startswith(("adapter.", "decoding.cache.")):
            (fault,) = faults("lora", **{f"{key}x".replace(".", "__"): 0})
            assert f"'{key}x'" in fault
            assert "did you mean" in fault


def test_an_unknown_name_and_a_missing_file_say_what_to_do():
    assert "did you mean 'lora'?" in faults("lroa")[0]
    assert "the file does not exist" in faults("lora.yml")[0]


def test_a_recipe_must_not_extend_itself(write):
    write("extends: two.yaml\n", "one.yaml")
    write("extends: three.yaml\n", "two.yaml")
    cycle = write("extends: one.yaml\n", "three.yaml")
    assert "'extends' leads back to this one" in faults(cycle)[0]
    assert "'extends' must be a recipe's name or path" in faults(write("extends: [lora]\n"))[0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: &x {b: 1}\nc: *x\n", "YAML aliases are not allowed"),
        ("seed: " + "[" * 40 + "]" * 40, "must be nested at most 16 deep"),
        ("seed: 1\nseed: 2\n", "key 'seed' is given twice"),
        ("training: {warmup_steps: 1, warmup_steps: 2}\n", "key 'warmup_steps' is given twice"),
        ("training: {\n", "is not YAML"),
        ("seed: !!python/object/apply:os.system ['true']\n", "is not YAML"),
        ("- lora\n", "must be a mapping of keys to values, got list"),
        ("1: 2\n", "must be a mapping of keys to values"),
        ("#" * MAX_BYTES + "\n", f"must be at most {MAX_BYTES} bytes"),
    ],
    ids=lambda value: value[:20],
)
def test_a_file_from_anyone_is_read_with_bounds(write, text, told):
    assert told in faults(write(text))[0]


def test_a_file_that_is_not_utf8_is_refused(tmp_path):
    path = tmp_path / "latin.yaml"
    path.write_bytes("description: Grüße".encode("latin-1"))
    assert "must be UTF-8, byte 15" in faults(path)[0]


def test_an_empty_file_is_a_recipe_of_defaults_and_so_lacks_an_adapter(write):
    assert faults(write(""))[0].startswith("'adapter.type: none' has nothing to train")


def test_how_questions_are_put_does_not_decide_the_adapter():
    asked = load_recipe("lora", {"prompt.document": "none", "decoding.max_new_tokens": 7})
    trained_otherwise = load_recipe("lora", {"prompt.max_tokens": 100})
    assert asked.digest != load_recipe("lora").digest
    assert asked.training_digest == load_recipe("lora").training_digest
    assert trained_otherwise.training_digest != load_recipe("lora").training_digest


def test_a_model_without_a_named_recipe_gets_the_one_that_suits_it(tmp_path: Path) -> None:
    models = (None, "smollm2", "gemma3-270m", "some/model", tmp_path)
    usual = [default_recipe(model) for model in models]
    assert usual == ["tiny", "smollm2", "lora", "lora", "lora"]
    assert [baseline_of(name) for name in ("tiny", "smollm2", "lora")] == ["tiny_icl", "smollm2_icl", "icl"]
