"""LoRA and PiSSA from a recipe's settings."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from peft.tuners.lora import LoraLayer

from lift_eval.adapters.attach import attach
from lift_eval.adapters.lora import INITS, inputs_uncast
from lift_eval.errors import AdapterError
from lift_eval.recipe import LoraSettings, PissaSettings
from tests.adapters.helpers import logits, tokens, train, trainable
from tests.tiny_models import ARCHITECTURES, tiny_model


def lora_layers(model) -> dict[str, LoraLayer]:
    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}


def product(layer: LoraLayer) -> torch.Tensor:
    return layer.scaling["default"] * layer.lora_B["default"].weight @ layer.lora_A["default"].weight


def test_settings_reach_peft() -> None:
    adapter = LoraSettings(rank=4, alpha=6, dropout=0.25, targets=("q_proj", "down_proj"), rslora=True)
    model = attach(tiny_model(), adapter, seed=0)
    layers = lora_layers(model)
    assert len(layers) == 4
    assert {name.rpartition(".")[2] for name in layers} == {"q_proj", "down_proj"}
    for layer in layers.values():
        assert layer.r["default"] == 4
        assert layer.scaling["default"] == 6 / 2  # alpha / sqrt(rank)
        assert layer.lora_dropout["default"].p == 0.25
        # Gaussian with standard deviation 1 / rank.
        assert layer.lora_A["default"].weight.std().item() == pytest.approx(0.25, rel=0.3)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_all_linear_is_every_linear_layer_but_the_output_embedding(architecture: str) -> None:
    model = attach(tiny_model(architecture), LoraSettings(rank=2, alpha=2, targets="all-linear"), seed=0)
    names = {name.rpartition(".")[2] for name in lora_layers(model)}
    fused = {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}
    apart = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert names == (fused if architecture == "phi3" else apart)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_auto_is_the_attention_where_its_layers_have_the_usual_names_else_every_layer(
    architecture: str,
) -> None:
    names = {
        name.rpartition(".")[2]
        for name in lora_layers(attach(tiny_model(architecture), LoraSettings(rank=2), seed=0))
    }
    fused = {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}
    assert names == (fused if architecture == "phi3" else {"q_proj", "k_proj", "v_proj", "o_proj"})


@pytest.mark.parametrize("init", [True, *INITS, "pissa_niter_4"])
def test_every_initialisation_starts_at_the_base_and_trains(init: bool | str) -> None:
    inputs = tokens()
    expected = logits(tiny_model(), inputs)
    model = attach(tiny_model(), LoraSettings(rank=4, alpha=4, init=init), seed=0)
    torch.testing.assert_close(logits(model, inputs), expected, atol=1e-4, rtol=0)
    before = {name: tensor.detach().clone() for name, tensor in trainable(model).items()}
    train(model, inputs)
    assert not any(torch.equal(tensor, before[name]) for name, tensor in trainable(model).items())


@pytest.mark.parametrize("init", ["guassian", "eva", "loftq", "pissa_niter_", "pissa_niter_x"])
def test_unknown_initialisation_is_refused(init: str) -> None:
    model = tiny_model()
    with pytest.raises(
        AdapterError, match=f"'adapter.init' must be true, false, one of .*gaussian.*got '{init}'"
    ):
        attach(model, LoraSettings(init=init), seed=0)
    assert not lora_layers(model), "a refused adapter must leave no trace"


def test_target_that_matches_nothing_is_named_even_if_others_match() -> None:
    with pytest.raises(AdapterError, match="LlamaForCausalLM, got 'q_prj'; did you mean 'q_proj'"):
        attach(tiny_model(), LoraSettings(targets=("o_proj", "q_prj")), seed=0)
    with pytest.raises(
        AdapterError,
        match=r"got 'q_proj'; did you mean 'qkv_proj'\?; adapter\.targets=all-linear fits every model",
    ):
        attach(tiny_model("phi3"), PissaSettings(targets=("q_proj", "o_proj")), seed=0)
    with pytest.raises(AdapterError, match="got 'self_attn'"):
        attach(tiny_model(), LoraSettings(targets=("self_attn",)), seed=0)


@pytest.mark.parametrize("alpha", [4, 8])
def test_pissa_takes_the_principal_singular_vectors_out_of_the_weight(alpha: float) -> None:
    model = attach(tiny_model(), PissaSettings(rank=4, alpha=alpha, targets=("q_proj",)), seed=0)
    base = tiny_model().get_submodule("model.layers.0.self_attn.q_proj").weight
    layer = model.get_submodule("base_model.model.model.layers.0.self_attn.q_proj")
    values = torch.linalg.svdvals(base)
    torch.testing.assert_close(product(layer) + layer.base_layer.weight, base, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.svdvals(product(layer))[:4], values[:4], atol=1e-4, rtol=0)
    torch.testing.assert_close(
        torch.linalg.svdvals(layer.base_layer.weight)[:4], values[4:8], atol=1e-4, rtol=0
    )


def test_fast_pissa_is_close_to_the_exact_one() -> None:
    exact, fast = (
        attach(tiny_model(), PissaSettings(rank=4, alpha=4, iterations=n, targets=("q_proj",)), seed=0)
        for n in (None, 16)
    )
    for one, other in zip(lora_layers(exact).values(), lora_layers(fast).values(), strict=True):
        values, approximate = (torch.linalg.svdvals(product(layer))[:4] for layer in (one, other))
        torch.testing.assert_close(approximate, values, rtol=0.02, atol=0)


@pytest.mark.parametrize(
    ("adapter", "uncast"),
    [
        (LoraSettings(rank=4), True),
        (LoraSettings(rank=4, dropout=0.5), False),
        (LoraSettings(rank=4, dora=True), False),
    ],
    ids=["lora", "dropout", "dora"],
)
def test_layers_take_16_bit_inputs_as_they_are_where_that_changes_no_bit(adapter: Any, uncast: bool) -> None:
    model = attach(tiny_model(dtype=torch.bfloat16), adapter, seed=0).train()
    layer = next(iter(lora_layers(model).values()))
    with torch.no_grad():
        for parameter in trainable(model).values():
            parameter.add_(0.1)
    seen: list[set[torch.dtype]] = []
    gradients = []
    layer.lora_A["default"].register_forward_pre_hook(lambda _, inputs: seen[-1].add(inputs[0].dtype))
    for within in (nullcontext(), inputs_uncast(model), nullcontext()):
        seen.append(set())
        torch.manual_seed(0)
        with within, torch.autocast("cpu", torch.bfloat16):
            model(input_ids=tokens()).logits.float().logsumexp(-1).mean().backward()
        gradients.append([parameter.grad.clone() for parameter in trainable(model).values()])
        model.zero_grad()
    assert seen == [{torch.float32}, {torch.bfloat16 if uncast else torch.float32}, {torch.float32}]
    for plain, ours, again in zip(*gradients, strict=True):
        assert torch.equal(plain, ours)
        assert torch.equal(plain, again)
