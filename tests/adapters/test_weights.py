"""Base weights trained as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lift_eval.adapters.attach import attach
from lift_eval.adapters.state import AdapterState
from lift_eval.document import Document
from lift_eval.errors import AdapterError, RecipeError
from lift_eval.lifter.lifter import Lifter
from lift_eval.models.loading import autocast, quantization_config
from lift_eval.recipe import PrecisionSettings, WeightsSettings, load_recipe
from tests.adapters.helpers import logits, tokens, train, trainable
from tests.tiny_models import tiny_model, tiny_tokenizer

PROJECTIONS = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def trained_layers(model: nn.Module) -> set[str]:
    """Names of the trained layers in the base model."""
    ends = (name.partition(".ln_tuning_layers")[0] for name in trainable(model))
    return {name.removeprefix("base_model.model.") for name in ends}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {(layer, name) for layer in (0, 1) for name in PROJECTIONS}),
        ({"targets": ("down_proj",), "layers": (0.5, 1.0)}, {(1, "down_proj")}),
        ({"targets": ("up_proj", "down_proj"), "layers": (0.0, 0.6)}, {(0, "up_proj"), (0, "down_proj")}),
        ({"targets": ("1.mlp.up_proj", "lm_head")}, {(1, "up_proj"), (None, "lm_head")}),
    ],
)
def test_names_and_depth_choose_the_layers(
    settings: dict[str, Any], expected: set[tuple[int | None, str]]
) -> None:
    names = trained_layers(attach(tiny_model(), WeightsSettings(**settings), seed=0))
    assert {(_number(name), name.rpartition(".")[2]) for name in names} == expected


def _number(name: str) -> int | None:
    return next((int(part) for part in name.split(".") if part.isdigit()), None)


def test_training_is_that_of_the_bare_model() -> None:
    """The same losses, weights and logits as when the model's own parameters are handed to the optimizer."""
    bare, inputs = tiny_model().requires_grad_(False), tokens()
    for name, parameter in bare.named_parameters():
        parameter.requires_grad_(name.endswith("down_proj.weight"))
    model = attach(tiny_model(), WeightsSettings(targets=("down_proj",)), seed=0)
    assert train(model, inputs, steps=3) == train(bare, inputs, steps=3)
    assert torch.equal(logits(model, inputs), logits(bare, inputs))


def test_a_bf16_base_is_trained_in_float32_and_starts_as_itself() -> None:
    inputs = tokens()
    base = tiny_model(dtype=torch.bfloat16)
    with autocast(base.device, base.dtype):
        expected = logits(base, inputs)
    model = attach(base, WeightsSettings(), seed=0)
    initial = AdapterState.capture(model)
    with autocast(base.device, base.dtype):
        assert torch.equal(logits(model, inputs), expected)
    train(model, inputs, steps=1, learning_rate=1e-6)
    steps = {name: tensor - initial.tensors[name] for name, tensor in trainable(model).items()}
    assert all(tensor.abs().max() > 0 for tensor in steps.values()), "bfloat16 would round such steps off"
    with model.disable_adapter(), autocast(base.device, base.dtype):
        assert torch.equal(logits(model, inputs), expected), "the base's own weights must stay"


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_a_quantized_base_is_refused(quantization: str) -> None:
    asked = quantization_config(PrecisionSettings(quantization=quantization), torch.float32)
    with pytest.raises(
        AdapterError, match=r"must be in 16 or 32 bits, got [48]; set precision.quantization=none"
    ):
        attach(tiny_model(), WeightsSettings(), seed=0, quantization=asked)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"targets": ("up_prj",)},
            "must name linear layers of LlamaForCausalLM, got 'up_prj'; did you mean 'up_proj'",
        ),
        ({"targets": ("embed_tokens",)}, "must name linear layers of LlamaForCausalLM, got 'embed_tokens'"),
        (
            {"layers": (0.9, 1.0)},
            r"'adapter.layers' must hold a layer .* got \[0.9, 1.0\]; set a wider range",
        ),
    ],
)
def test_what_names_no_layer_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(AdapterError, match=message):
        attach(tiny_model(), WeightsSettings(**settings), seed=0)


def test_a_range_goes_upwards() -> None:
    with pytest.raises(
        RecipeError, match=r"'adapter\.layers' must go from a share of the depth to a larger one"
    ):
        load_recipe("ett", {"adapter.layers": [1, 0.2]})


@pytest.mark.parametrize("name", ["ett", "raw_finetuning"])
def test_trained_weights_are_kept_and_found_again(tmp_path: Path, name: str) -> None:
    document, questions = (
        Document("The lamp was lit by Ann at nine. " * 8, "Lamp"),
        ["Who lit the lamp?", "When?"],
    )
    changes = {
        "training": {"context_epochs": 3, "learning_rate": 1e-2, "segment_tokens": 64, "stride_tokens": 64}
    }
    recipe = load_recipe(name, {**changes, "precision.dtype": "float32", "decoding.max_new_tokens": 8})

    def run() -> tuple[list[str], dict[str, torch.Tensor], bool]:
        tool = Lifter(tiny_model(), tiny_tokenizer(), recipe, store=tmp_path)
        with tool.lift(document) as lifted:
            answers = lifted.answer(questions)
            weights = {name: tensor.detach().clone() for name, tensor in trainable(tool.model).items()}
            return answers, weights, bool(lifted.record.reused_seconds)

    answers, weights, reused = run()
    assert not reused
    again, reloaded, reused = run()
    assert reused
    assert again == answers
    assert all(torch.equal(reloaded[name], tensor) for name, tensor in weights.items())
