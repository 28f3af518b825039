"""Frozen prefixes: the values of the ordinary sample, and the gradient without what flows through the prefix."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from lift_eval.adapters.attach import attach
from lift_eval.models.loading import supports_prefix_sharing
from lift_eval.recipe import ComputeSettings, TrainingSettings
from lift_eval.training.batching import MicroBatch, micro_batches
from lift_eval.training.finetune import FinetuneReport, finetune
from lift_eval.training.loss import step_gradient
from lift_eval.training.samples import Sample, by_prefix, tokens_read
from tests.adapters.helpers import settings, trainable
from tests.tiny_models import tiny_config
from tests.training.samples import mixed_samples, moved_model, reference, tokens
from tests.training.test_out_of_memory import assert_same_training, limit_memory

FULL = ("llama", "qwen2", "qwen3", "phi3")


def frozen_samples() -> list[Sample]:
    """Segments behind windows of 40 tokens, questions behind a document of 25, and samples without a prefix."""
    windows, document, instruction = tokens(40, 50), tokens(25, 51), tokens(4, 52)
    return [
        Sample(instruction, tokens(30, 1), windows),
        Sample(instruction, tokens(30, 2), windows),
        Sample(instruction, tokens(11, 3), windows),
        *(
            Sample(tokens(5 + seed % 3, seed), tokens(3, seed + 20), document.clone())
            for seed in range(4, 10)
        ),
        *mixed_samples()[:4],
    ]


def whole(samples: list[Sample]) -> list[Sample]:
    return [sample.with_prefix_inlined() for sample in samples]


@contextmanager
def detached_before(model: nn.Module, place: int) -> Iterator[None]:
    """Cut the gradient of keys and values at the first places of every row, where a projection returns them."""

    def cut(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        return torch.cat([output[:, :place].detach(), output[:, place:]], dim=1)

    names = ("k_proj", "v_proj", "qkv_proj")
    handles = [
        module.register_forward_hook(cut)
        for name, module in model.named_modules()
        if name.rpartition(".")[2] in names
    ]
    assert handles
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def detaching_reference(model: nn.Module, samples: list[Sample]) -> tuple[float, dict[str, Tensor]]:
    """`reference`, each sample whole, but for the gradient through its prefix."""
    total, sums = 0.0, {}
    supervised = sum(sample.supervised for sample in samples)
    for sample in samples:
        with detached_before(model, len(sample.prefix)):
            loss, gradients = reference(model, [sample.with_prefix_inlined()])
        share = sample.supervised / supervised
        total += loss * share
        for name, gradient in gradients.items():
            sums[name] = sums.get(name, 0) + gradient * share
    return total, sums


def gradient(model: nn.Module, batches: list[MicroBatch], supervised: int) -> tuple[float, dict[str, Tensor]]:
    total = step_gradient(model, batches, supervised).item()
    gradients = {name: tensor.grad.clone() for name, tensor in trainable(model).items()}
    model.zero_grad()
    return total, gradients


def step(
    model: nn.Module, samples: list[Sample], max_tokens: int = 10_000
) -> tuple[float, dict[str, Tensor]]:
    batches = micro_batches(samples, max_tokens, share_prefixes=True)
    return gradient(model, batches, sum(sample.supervised for sample in samples))


def assert_exact(model: nn.Module, samples: list[Sample], max_tokens: int = 10_000) -> None:
    loss, gradients = step(model, samples, max_tokens)
    expected_loss, expected = detaching_reference(model, samples)
    assert loss == pytest.approx(reference(model, whole(samples))[0], rel=1e-6)
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    for name, tensor in expected.items():
        torch.testing.assert_close(gradients[name], tensor, rtol=1e-4, atol=1e-6, msg=name)


# --- exactness -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_tokens", [1, 70, 10_000])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", ["lora", "pissa", "gated_memory"])
def test_values_are_those_of_whole_samples_and_only_the_prefix_has_no_gradient(kind, attention, max_tokens):
    assert_exact(moved_model(kind, attn_implementation=attention), frozen_samples(), max_tokens)


@pytest.mark.parametrize("architecture", FULL)
def test_for_every_architecture_that_attends_fully(architecture):
    assert_exact(moved_model("lora", architecture), frozen_samples())


@pytest.mark.parametrize("architecture", ["gemma2", "gemma3"])
def test_for_gemmas_without_a_sliding_window(architecture):
    """With soft-capped scores and logits, norms of queries and keys, and heads wider than hidden / heads."""
    config = tiny_config(architecture)
    config.layer_types = ["full_attention"] * 2
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    model = attach(AutoModelForCausalLM.from_config(config).eval(), settings("lora", architecture), seed=0)
    assert supports_prefix_sharing(model)
    assert_exact(model, frozen_samples())


def test_the_prefix_has_a_gradient_that_is_left_out():
    """Without a difference the tests above would say nothing."""
    model = moved_model()
    _, frozen = step(model, frozen_samples())
    _, full = reference(model, whole(frozen_samples()))
    assert max((frozen[name] - full[name]).abs().max() / full[name].abs().max() for name in full) > 0.05


def test_keys_and_values_are_those_of_the_adapter_as_it_is():
    model = moved_model()
    before = step(model, frozen_samples())[0]
    with torch.no_grad():
        for tensor in trainable(model).values():
            tensor.mul_(3)
    assert step(model, frozen_samples())[0] != pytest.approx(before, rel=1e-3)
    assert_exact(model, frozen_samples())


def test_a_half_precision_base():
    model = moved_model(dtype=torch.bfloat16)
    loss, gradients = step(model, frozen_samples())
    assert loss == pytest.approx(reference(moved_model(), whole(frozen_samples()))[0], rel=0.03)
    assert {tensor.dtype for tensor in gradients.values()} == {torch.float32}


# --- the layout ----------------------------------------------------------------------------------------------------


def test_samples_behind_one_prefix_stand_together_and_short_ones_share_a_row():
    batches = micro_batches(frozen_samples(), 10_000, share_prefixes=True)
    prefixes = [None if batch.prefix is None else batch.prefix.end for batch in batches]
    assert prefixes[0] == 40
    assert sorted(set(prefixes), key=lambda p: p or 0) == [None, 25, 40]
    assert [p for place, p in enumerate(prefixes) if place == 0 or prefixes[place - 1] != p].count(25) == 1
    questions = [batch for batch in batches if batch.prefix is not None and batch.prefix.end == 25]
    assert sum(len(batch.samples) for batch in questions) == 6
    assert sum(len(batch.input_ids) for batch in questions) < 6
    assert all(batch.input_ids.shape[1] <= 25 for batch in questions)


def test_a_row_holds_only_what_is_the_samples_own():
    sample = frozen_samples()[0]
    (batch,) = micro_batches([sample], 10_000, share_prefixes=True)
    assert batch.input_ids.tolist() == [[*sample.context.tolist(), *sample.target.tolist()]]
    assert batch.position_ids.tolist() == [list(range(40, 74))]
    assert batch.attention_mask().shape == (1, 1, 34, 74)


def test_a_prefix_is_counted_once():
    samples = frozen_samples()
    assert [len(group) for _, group in by_prefix(samples)] == [3, 6, 4]
    assert tokens_read(samples) == sum(sample.tokens for sample in samples) + 40 + 25
    assert tokens_read(whole(samples)) == sum(sample.tokens + len(sample.prefix) for sample in samples)


def test_a_sample_behind_a_prefix_needs_a_token_of_its_own_before_the_target():
    with pytest.raises(ValueError, match="needs a context"):
        Sample(tokens(0), tokens(3), tokens(5))


# --- the loop ------------------------------------------------------------------------------------------------------


def run(
    model: nn.Module, samples: list[Sample], *, share: bool = True, checkpointing: bool = False
) -> FinetuneReport:
    return finetune(
        model,
        [samples] * 3,
        TrainingSettings(learning_rate=1e-2),
        compute=ComputeSettings(micro_batch_tokens=4096, gradient_checkpointing=checkpointing),
        share_prefixes=share,
        generator=torch.Generator().manual_seed(0),
    )


@pytest.mark.parametrize("kind", ["lora", "gated_memory"])
def test_checkpointing_changes_memory_only(kind):
    """transformers takes the cache from layers whose activations are computed anew."""
    plain, checkpointed = moved_model(kind), moved_model(kind)
    expected = run(plain, frozen_samples())
    assert_same_training(
        (checkpointed, run(checkpointed, frozen_samples(), checkpointing=True)), (plain, expected)
    )


@pytest.mark.parametrize("most", [45, 60])
def test_micro_batches_are_halved_until_they_fit(most):
    free, limited = moved_model(), moved_model()
    expected = run(free, frozen_samples())
    seen = limit_memory(limited, lambda _: most)
    report = run(limited, frozen_samples())
    assert_same_training((limited, report), (free, expected))
    assert max(seen) > most
    assert report.micro_batch_tokens < 4096


@pytest.mark.parametrize("architecture", ["mistral", "gemma2", "gemma3"])
def test_a_model_with_sliding_windows_trains_whole_samples_and_says_so(architecture, caplog):
    ours, theirs = moved_model("lora", architecture), moved_model("lora", architecture)
    with caplog.at_level(logging.WARNING):
        report = run(ours, frozen_samples(), share=supports_prefix_sharing(ours))
    assert [
        record.message for record in caplog.records if "is read again with every sample" in record.message
    ]
    expected = run(theirs, whole(frozen_samples()), share=supports_prefix_sharing(theirs))
    assert_same_training((ours, report), (theirs, expected))
    assert (report.supervised, report.tokens) == (expected.supervised, expected.tokens)


def test_a_model_that_fills_no_cache_trains_whole_samples(caplog):
    ours, theirs = moved_model(), moved_model()
    for layer in ours.get_base_model().base_model.layers:
        attention = layer.self_attn
        attention.forward = forgetting(attention.forward)
    with caplog.at_level(logging.WARNING):
        report = run(ours, frozen_samples())
    assert len([record for record in caplog.records if "0 of 2 layers" in record.message]) == 1
    assert_same_training((ours, report), (theirs, run(theirs, whole(frozen_samples()))))


def forgetting(forward):
    """An attention that has an argument for the cache and never looks at it."""

    def without_cache(*args: object, past_key_values: object = None, **kwargs: object) -> object:
        return forward(*args, past_key_values=None, **kwargs)

    return without_cache


def test_samples_without_a_prefix_are_trained_as_before():
    assert [len(prefix) for prefix, _ in by_prefix(mixed_samples())] == [0]
    assert run(moved_model(), mixed_samples()).tokens == 3 * sum(sample.tokens for sample in mixed_samples())
