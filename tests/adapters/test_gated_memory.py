"""Gated Memory against its formula, and as a method of peft."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from peft import PeftConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

from lift_eval.adapters.attach import attach
from lift_eval.adapters.gated_memory import (
    SUPPORTED_ARCHITECTURES,
    GatedMemoryAttention,
    GatedMemoryConfig,
    record_gates,
)
from lift_eval.errors import AdapterError
from lift_eval.recipe import GatedMemorySettings
from tests.adapters.helpers import adapted_model, logits, open_gates, tokens, train, trainable
from tests.tiny_models import ARCHITECTURES, tiny_model

WITH_ATTENTION = [
    (architecture, attention)
    for architecture in ARCHITECTURES
    for attention in ("eager", "sdpa")
    if (architecture, attention) != ("gemma2", "sdpa")  # which transformers does not have
]


def opened(architecture: str = "llama", **model_kwargs):
    model = adapted_model("gated_memory", architecture, **model_kwargs)
    open_gates(model)
    return model


def attention_layers(model: nn.Module) -> list[GatedMemoryAttention]:
    return [module for module in model.modules() if isinstance(module, GatedMemoryAttention)]


# --- The formula ---------------------------------------------------------------------------------------------------


def silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def reference_query(attention: nn.Module, hidden: Tensor) -> Tensor:
    """The query as it enters the rotary embedding, shape (batch, tokens, heads, d)."""
    projection = attention.qkv_proj if hasattr(attention, "qkv_proj") else attention.q_proj
    width = attention.o_proj.in_features
    query = hidden @ projection.weight[:width].T
    if projection.bias is not None:
        query = query + projection.bias[:width]
    query = query.unflatten(-1, (-1, attention.head_dim))
    if hasattr(attention, "q_norm"):
        # Transformers normalises in float32 whatever the type of the model, and Gemma scales in it too.
        norm, single = attention.q_norm, query.float()
        if hasattr(norm, "eps"):
            unit = single * torch.rsqrt(single.pow(2).mean(-1, keepdim=True) + norm.eps)
            query = (unit * (1 + norm.weight.float())).double()
        else:
            unit = single * torch.rsqrt(single.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon)
            query = unit.double() * norm.weight
    return query


def reference_head(cell: nn.Module, head: int, query: Tensor) -> tuple[Tensor, Tensor]:
    """m = W2 SiLU(W1 q) and g = sigmoid(3 (u - 1)), u = w2 SiLU(W3 q), of one head."""

    def linear(name: str, x: Tensor) -> Tensor:
        bias = getattr(cell, f"{name}_bias")
        return x @ getattr(cell, name)[head] + (0 if bias is None else bias[head])

    memory = linear("memory_out", silu(linear("memory_in", query)))
    u = linear("gate_out", silu(linear("gate_in", query)))
    return memory, 1 / (1 + torch.exp(-3 * (u - 1)))


def reference_output(layer: GatedMemoryAttention, args, kwargs) -> tuple[Tensor, Tensor]:
    """Output and gates of one attention layer, head by head, from the base layer's own heads."""
    attention, heads = layer.base_layer, []
    hook = attention.o_proj.register_forward_pre_hook(lambda _, inputs: heads.append(inputs[0].clone()))
    attention(*args, **kwargs)
    hook.remove()
    query = reference_query(attention, kwargs["hidden_states"])
    mixed, gates = [], []
    for head, attended in enumerate(heads[0].split(attention.head_dim, dim=-1)):
        memory, gate = reference_head(layer.gated_memory_cells["default"], head, query[:, :, head])
        mixed.append((1 - gate) * attended + gate * memory)
        gates.append(gate)
    output = torch.cat(mixed, dim=-1) @ attention.o_proj.weight.T
    if attention.o_proj.bias is not None:
        output = output + attention.o_proj.bias
    return output, torch.cat(gates, dim=-1)


@pytest.mark.parametrize(("architecture", "attention"), WITH_ATTENTION)
def test_every_layer_follows_the_formula(architecture: str, attention: str) -> None:
    model = opened(architecture, attn_implementation=attention, dtype=torch.float64).double()
    seen = []
    for layer in attention_layers(model):
        layer.register_forward_hook(
            lambda layer, args, kwargs, output: seen.append((layer, args, kwargs, output[0])),
            with_kwargs=True,
        )
    with record_gates(model) as record, torch.no_grad():
        model(input_ids=tokens(), use_cache=False)
    assert len(seen) == 2
    for (layer, args, kwargs, output), mean in zip(list(seen), record.means(), strict=True):
        with torch.no_grad():
            expected, gates = reference_output(layer, args, kwargs)
        assert output.dtype == torch.float64
        torch.testing.assert_close(output, expected, atol=1e-6, rtol=1e-6)
        assert mean == pytest.approx(gates.mean().item(), abs=1e-6)
        assert gates.min() < 0.3 < 0.7 < gates.max(), "the gates must differ, or the test shows little"


def test_initial_weights_are_kaiming_uniform_over_three_dimensions() -> None:
    cell = attention_layers(adapted_model("gated_memory"))[0].gated_memory_cells["default"]
    shapes = {name: tuple(tensor.shape) for name, tensor in cell.named_parameters()}
    assert shapes == {
        "memory_in": (4, 8, 16),
        "memory_out": (4, 16, 8),
        "gate_in": (4, 8, 2),
        "gate_out": (4, 2, 1),
    }
    bound = 1 / math.sqrt(8 * 16)
    assert 0.9 * bound < cell.memory_in.abs().max() <= bound


def test_gates_start_almost_closed() -> None:
    model = adapted_model("gated_memory")
    with record_gates(model) as record:
        logits(model, tokens())
    assert record.means() == pytest.approx([1 / (1 + math.exp(3))] * 2, abs=0.01)


def test_biases_only_where_the_query_projection_has_one() -> None:
    biases = {
        architecture: {
            name.rpartition(".")[2]
            for name in trainable(adapted_model("gated_memory", architecture))
            if name.endswith("_bias")
        }
        for architecture in ARCHITECTURES
    }
    # As published, the map from the gate's hidden units to its logit has none.
    assert biases.pop("qwen2") == {"memory_in_bias", "memory_out_bias", "gate_in_bias"}
    assert not any(biases.values())


@pytest.mark.parametrize(
    ("lm_head_rank", "expected"), [(0, 68_561_920), (2, 68_561_920 + 2 * (4096 + 128_256))]
)
def test_number_of_parameters_on_llama_3_8b(lm_head_rank: int, expected: int) -> None:
    config = LlamaConfig(
        vocab_size=128_256,
        hidden_size=4096,
        intermediate_size=14_336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
        model = attach(model, GatedMemorySettings(lm_head_rank=lm_head_rank), seed=0)
    assert sum(tensor.numel() for tensor in trainable(model).values()) == expected


# --- Running the model ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_disabled_adapter_gives_the_base_logits_exactly(architecture: str) -> None:
    inputs = tokens()
    expected = logits(tiny_model(architecture), inputs)
    model = opened(architecture)
    assert not torch.allclose(logits(model, inputs), expected)
    with model.disable_adapter():
        assert torch.equal(logits(model, inputs), expected)


@pytest.mark.parametrize(("architecture", "attention"), WITH_ATTENTION)
def test_generation_is_the_same_cached_uncached_and_left_padded(architecture: str, attention: str) -> None:
    model = opened(architecture, attn_implementation=attention)
    prompts = [tokens(1, 30, seed=1)[0], tokens(1, 11, seed=2)[0]]
    padded = torch.full((2, 30), 258)
    mask = torch.zeros_like(padded)
    for row, prompt in enumerate(prompts):
        padded[row, 30 - len(prompt) :] = prompt
        mask[row, 30 - len(prompt) :] = 1
    options = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False}
    batch = model.generate(input_ids=padded, attention_mask=mask, **options)[:, 30:]
    for row, prompt in enumerate(prompts):
        single = {"input_ids": prompt[None], "attention_mask": torch.ones_like(prompt)[None]}
        cached = model.generate(**single, **options)[0, len(prompt) :]
        uncached = model.generate(**single, use_cache=False, **options)[0, len(prompt) :]
        assert cached.tolist() == uncached.tolist() == batch[row].tolist()


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "phi3"])
def test_gradient_checkpointing_gives_the_same_gradients(architecture: str) -> None:
    inputs, gradients = tokens(), []
    for checkpointing in (False, True):
        model = opened(architecture).train()
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model(input_ids=inputs, labels=inputs).loss.backward()
        gradients.append({name: tensor.grad for name, tensor in trainable(model).items()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


def test_nothing_stays_behind_after_a_forward_pass_not_even_a_failed_one() -> None:
    model = opened()
    inputs = tokens()
    expected = logits(model, inputs)
    attention = attention_layers(model)[1].base_layer
    fault = attention.k_proj.register_forward_hook(
        lambda *_: (_ for _ in ()).throw(MemoryError("out of memory"))
    )
    with pytest.raises(MemoryError):
        logits(model, inputs)
    fault.remove()
    for layer in attention_layers(model):
        assert not layer.base_layer.q_proj._forward_hooks
        assert not layer.base_layer.o_proj._forward_pre_hooks
    assert torch.equal(logits(model, inputs), expected)


def test_bf16_base_keeps_the_memory_in_float32() -> None:
    model = opened(dtype=torch.bfloat16)
    assert {tensor.dtype for tensor in trainable(model).values()} == {torch.float32}
    assert logits(model, tokens()).dtype == torch.bfloat16


def test_autocast_computes_the_memory_in_bf16_and_still_trains_all_of_it() -> None:
    model, inputs = opened(dtype=torch.bfloat16), tokens()
    before = {name: tensor.detach().clone() for name, tensor in trainable(model).items()}
    seen = []
    attention_layers(model)[0].gated_memory_cells["default"].register_forward_hook(
        lambda _module, _inputs, output: seen.append(output[0].dtype)
    )
    with torch.autocast("cpu", torch.bfloat16):
        train(model, inputs)
    assert set(seen) == {torch.bfloat16}
    assert not any(torch.equal(tensor, before[name]) for name, tensor in trainable(model).items())


def test_gates_of_padding_do_not_count() -> None:
    model = opened()
    prompt = tokens(1, 9)
    padded = torch.cat([torch.full((1, 5), 258), prompt], dim=1)
    mask = torch.cat([torch.zeros(1, 5), torch.ones(1, 9)], dim=1).long()
    with record_gates(model) as alone:
        model(input_ids=prompt)
    with record_gates(model) as beside_padding:
        model(input_ids=padded, attention_mask=mask)
    assert beside_padding.means() == pytest.approx(alone.means(), abs=1e-6)


def test_gates_are_those_of_all_passes_inside_the_block() -> None:
    model = opened()
    first, second = tokens(1, 10, seed=1), tokens(1, 10, seed=2)
    means = []
    for inputs in ([first], [second], [first, second]):
        with record_gates(model) as record:
            for batch in inputs:
                model(input_ids=batch)
        model(input_ids=first)  # outside: not recorded
        means.append(record.means())
    assert means[2] == pytest.approx([(a + b) / 2 for a, b in zip(means[0], means[1], strict=True)], abs=1e-6)
    assert means[0] != means[1]


def test_gates_need_a_pass_and_a_gated_memory() -> None:
    with record_gates(opened()) as record, pytest.raises(AdapterError, match="no gate was recorded"):
        record.means()
    with pytest.raises(AdapterError, match="LlamaForCausalLM does not have"), record_gates(tiny_model()):
        pass


# --- As a method of peft -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_saved_and_loaded_adapter_gives_identical_logits(architecture: str, tmp_path: Path) -> None:
    model, inputs = opened(architecture), tokens()
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(tiny_model(architecture), tmp_path)
    assert torch.equal(logits(loaded, inputs), logits(model, inputs))
    config = PeftConfig.from_pretrained(tmp_path)
    assert isinstance(config, GatedMemoryConfig)
    assert (config.memory_expansion, config.lm_head_rank, config.lm_head_alpha) == (2, 2, 4.0)


def test_saved_file_holds_the_adapter_and_nothing_else(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    model = opened("gemma2")  # with tied embeddings
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert sum(tensor.numel() for tensor in saved.values()) == sum(
        t.numel() for t in trainable(model).values()
    )


def test_adapters_can_be_switched_and_deleted() -> None:
    model, inputs = opened(), tokens()
    first = logits(model, inputs)
    model.add_adapter("other", GatedMemoryConfig(task_type="CAUSAL_LM"))
    assert torch.equal(logits(model, inputs), first)
    model.set_adapter("other")
    assert not torch.allclose(logits(model, inputs), first)
    assert all(".other" in name for name in trainable(model))
    model.set_adapter("default")
    model.delete_adapter("other")
    assert torch.equal(logits(model, inputs), first)


def test_unloading_gives_the_base_back_and_merging_is_refused() -> None:
    model, inputs = opened(), tokens()
    with pytest.raises(AdapterError, match="cannot be merged"):
        model.merge_and_unload()
    assert torch.equal(logits(model.unload(), inputs), logits(tiny_model(), inputs))


@pytest.mark.parametrize("architecture", ["gemma2", "gemma3"])
def test_tied_embeddings_stay_tied_and_unchanged(architecture: str) -> None:
    model = adapted_model("gated_memory", architecture)
    before = model.get_input_embeddings().weight.clone()
    train(model, tokens())
    assert model.get_base_model().lm_head.weight is model.get_input_embeddings().weight
    assert torch.equal(model.get_input_embeddings().weight, before)


# --- Which models --------------------------------------------------------------------------------------------------


def test_unsupported_architecture_names_what_was_looked_for() -> None:
    config = AutoConfig.for_model("gpt2", n_layer=1, n_head=2, n_embd=8, vocab_size=16)
    model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(AdapterError) as caught:
        attach(model, GatedMemorySettings(), seed=0)
    advice = "use adapter.type=lora or adapter.type=pissa"
    for part in ("q_proj or qkv_proj", "o_proj", "'gpt2'", advice, *SUPPORTED_ARCHITECTURES):
        assert part in str(caught.value)
    with pytest.raises(AdapterError, match="got GPT2Attention with c_attn, c_proj"):
        get_peft_model(model, GatedMemoryConfig(target_modules=["attn"]))


def test_a_similar_architecture_works_by_naming_its_attention() -> None:
    config = AutoConfig.for_model(
        "granite",
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        vocab_size=264,
        pad_token_id=258,
    )
    model = get_peft_model(
        AutoModelForCausalLM.from_config(config), GatedMemoryConfig(target_modules=["self_attn"])
    )
    open_gates(model)
    inputs = tokens()
    adapted = logits(model, inputs)
    with model.disable_adapter():
        assert not torch.allclose(logits(model, inputs), adapted)


def test_vision_tower_of_gemma_3_is_left_alone() -> None:
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    vision = {**text, "image_size": 28, "patch_size": 14}
    config = AutoConfig.for_model(
        "gemma3", text_config={**text, "head_dim": 16, "vocab_size": 264}, vision_config=vision
    )
    with torch.device("meta"):
        model = attach(AutoModelForCausalLM.from_config(config), GatedMemorySettings(), seed=0)
    names = [name for name, module in model.named_modules() if isinstance(module, GatedMemoryAttention)]
    assert len(names) == 2
    assert not any("vision" in name for name in names)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"memory_expansion": 0}, "'memory_expansion' must be 1 or more, got 0"),
        ({"lm_head_rank": -1}, r"'lm_head_rank' must be 0 \(no LoRA\) or more, got -1"),
        ({"lm_head_alpha": 0.0}, "'lm_head_alpha' must be above 0, got 0.0"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(AdapterError, match=message):
        GatedMemoryConfig(**arguments)
