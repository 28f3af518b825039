"""Prefixes: long beginnings are read once, and loss and gradient are those of the samples one by one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from lift_eval.adapters.attach import attach
from lift_eval.models.loading import quantization_config
from lift_eval.recipe import ComputeSettings, PrecisionSettings, TrainingSettings
from lift_eval.training.batching import MicroBatch, micro_batches
from lift_eval.training.finetune import FinetuneReport, finetune
from lift_eval.training.layout import checkpoint_activations
from lift_eval.training.loss import step_gradient
from lift_eval.training.samples import Sample
from lift_eval.training.shared_prefixes import SharedPrefix
from tests.adapters.helpers import settings as adapter_settings
from tests.adapters.helpers import trainable
from tests.tiny_models import tiny_config, tiny_model
from tests.training.samples import NOTHING, mixed_samples, moved_model, reference, tokens
from tests.training.test_out_of_memory import assert_same_training, limit_memory

COST = 1e-3


def cut_prompts() -> list[Sample]:
    """Questions about a document that is cut in its middle: a half for all, a tail for those of equal length."""
    half, tails = tokens(150, 1), [tokens(110, 2), tokens(100, 3), tokens(120, 4)]
    kinds = [0, 1, 0, 2, 1, 0]
    return [
        Sample(torch.cat([half, tails[kind], tokens(5 + kind, 10 + number)]), tokens(3, 30 + number))
        for number, kind in enumerate(kinds)
    ]


def questions(count: int = 6) -> list[Sample]:
    """Questions about a document that all of them share."""
    document = tokens(200, 5)
    return [
        Sample(torch.cat([document, tokens(6 + number % 3, number)]), tokens(4, 50 + number))
        for number in range(count)
    ]


def laid_out(samples: list[Sample], max_tokens: int = 64, column_cost: float = COST) -> list[MicroBatch]:
    return micro_batches(
        samples, max_tokens, share_prefixes=True, cache_prefixes=True, column_cost=column_cost
    )


def prefixes_of(batches: list[MicroBatch]) -> list[SharedPrefix]:
    found = {id(prefix): prefix for batch in batches if batch.prefix for prefix in batch.prefix.path}
    return list(found.values())


def gradient(model: nn.Module, batches: list[MicroBatch], supervised: int) -> tuple[float, dict[str, Tensor]]:
    loss = step_gradient(model, batches, supervised).item()
    gradients = {name: tensor.grad.clone() for name, tensor in trainable(model).items()}
    model.zero_grad()
    return loss, gradients


def assert_exact(model: nn.Module, samples: list[Sample], *, checkpointing: bool = False) -> None:
    """In double precision, so that nothing but rounding is forgiven."""
    expected_loss, expected = reference(model.double(), samples)
    batches = laid_out(samples)
    assert any(batch.prefix for batch in batches)
    model.train()
    if checkpointing:
        checkpoint_activations(model, on=True)
    loss, gradients = gradient(model, batches, sum(sample.supervised for sample in samples))
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    for name, tensor in expected.items():
        assert tensor.abs().max() > 0
        torch.testing.assert_close(gradients[name], tensor, rtol=1e-4, atol=1e-7, msg=name)


# --- exactness -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("checkpointing", [False, True], ids=["stored", "checkpointed"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", ["lora", "dora", "pissa", "gated_memory"])
def test_nested_prefixes_change_nothing_but_rounding(kind: str, attention: str, checkpointing: bool) -> None:
    samples = [*cut_prompts(), *mixed_samples()]
    assert any(prefix.behind for prefix in prefixes_of(laid_out(samples)))
    assert_exact(moved_model(kind, attn_implementation=attention), samples, checkpointing=checkpointing)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["stored", "checkpointed"])
@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "phi3"])
def test_for_every_architecture_that_attends_fully(architecture: str, checkpointing: bool) -> None:
    assert_exact(moved_model("lora", architecture), cut_prompts(), checkpointing=checkpointing)


@pytest.mark.parametrize("kind", ["lora", "gated_memory"])
@pytest.mark.parametrize("architecture", ["gemma2", "gemma3"])
def test_for_gemmas_without_a_sliding_window(architecture: str, kind: str) -> None:
    """With soft-capped scores and logits, norms of queries and keys, and heads wider than hidden / heads."""
    config = tiny_config(architecture)
    config.layer_types = ["full_attention"] * 2
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_config(config).eval()
    model = attach(base, adapter_settings(kind, architecture), seed=0)
    with torch.no_grad():
        for tensor in trainable(model).values():
            tensor.add_(torch.randn(tensor.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    assert_exact(model, cut_prompts())


def test_a_half_precision_base() -> None:
    samples = cut_prompts()
    supervised = sum(sample.supervised for sample in samples)
    model = moved_model(dtype=torch.bfloat16)
    loss, gradients = gradient(model, laid_out(samples), supervised)
    expected_loss, expected = gradient(model, micro_batches(samples, 1, share_prefixes=False), supervised)
    assert loss == pytest.approx(expected_loss, rel=0.01)
    for name, tensor in expected.items():
        assert gradients[name].dtype == torch.float32
        assert (gradients[name] - tensor).norm() < 0.1 * tensor.norm(), name


@pytest.mark.parametrize("kind", ["lora", "gated_memory"])
def test_a_quantized_base(kind: str) -> None:
    samples = cut_prompts()
    supervised = sum(sample.supervised for sample in samples)
    quantization = quantization_config(PrecisionSettings(quantization="nf4"), torch.float32)
    model = attach(tiny_model(), adapter_settings(kind), seed=0, quantization=quantization)
    with torch.no_grad():
        for tensor in trainable(model).values():
            tensor.add_(torch.randn(tensor.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    loss, gradients = gradient(model, laid_out(samples), supervised)
    expected_loss, expected = gradient(model, micro_batches(samples, 1, share_prefixes=False), supervised)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    for name, tensor in expected.items():
        torch.testing.assert_close(gradients[name], tensor, rtol=1e-3, atol=1e-5, msg=name)


# --- the layout ----------------------------------------------------------------------------------------------------


def test_the_first_half_is_a_prefix_and_the_tails_of_equal_questions_are_prefixes_behind_it() -> None:
    batches = laid_out(cut_prompts())
    half, *tails = prefixes_of(batches)
    assert (half.start, half.end) == (0, 150)
    assert sorted((tail.start, tail.end) for tail in tails) == [(150, 250), (150, 260)]
    assert all(tail.behind is half for tail in tails)
    alone = [batch for batch in batches if batch.prefix is half]
    assert [batch.input_ids.shape for batch in alone] == [(1, 120 + 7 + 3)]


def test_questions_behind_a_whole_document_share_a_row() -> None:
    (batch,) = laid_out(questions(), 512, 1e-2)
    assert batch.prefix is not None
    assert batch.prefix.end == 200
    assert len(batch.samples) == 6
    assert batch.input_ids.numel() == sum(sample.tokens - 200 for sample in questions())
    assert batch.attention_mask().shape == (1, 1, batch.input_ids.shape[1], 200 + batch.input_ids.shape[1])


def test_short_beginnings_stay_packed() -> None:
    """A pass of its own is worth more than what a short beginning saves."""
    context = tokens(40)
    samples = [Sample(torch.cat([context, tokens(8, seed)]), tokens(5, seed + 50)) for seed in range(1, 9)]
    (batch,) = laid_out(samples, 1024)
    assert batch.prefix is None
    assert batch.sequence_ids is not None


def test_memory_is_that_of_the_longest_sample() -> None:
    samples = [*cut_prompts(), *questions(30)]
    assert max(batch.tokens for batch in laid_out(samples, 1)) <= max(sample.tokens for sample in samples)
    assert max(batch.tokens for batch in laid_out(samples, 400)) <= 400


@st.composite
def alike(draw: st.DrawFn) -> list[Sample]:
    """Samples whose contexts are put together from few pieces, so that many begin alike."""
    pieces = [
        tokens(length, seed)
        for seed, length in enumerate(draw(st.lists(st.integers(1, 90), min_size=3, max_size=3)))
    ]
    paths = draw(st.lists(st.lists(st.integers(0, 2), max_size=4), max_size=9))
    return [
        Sample(
            torch.cat([NOTHING, *(pieces[piece] for piece in path)]),
            tokens(draw(st.integers(0, 6)), 100 + number),
        )
        for number, path in enumerate(paths)
    ]


@settings(deadline=None, max_examples=80)
@given(samples=alike(), size=st.integers(1, 300), cost=st.sampled_from([0.0, 1e-4, 1e-2]))
def test_every_sample_is_there_once_with_its_own_tokens_before_it(
    samples: list[Sample], size: int, cost: float
) -> None:
    batches = laid_out(samples, size, cost)
    supervised = [sample for sample in samples if sample.supervised]
    longest = max((sample.tokens for sample in supervised), default=0)
    assert sum(len(batch.samples) for batch in batches) == len(supervised)
    found = []
    for batch in batches:
        assert batch.tokens <= max(size, longest)
        before = torch.cat([NOTHING, *(prefix.ids for prefix in (batch.prefix.path if batch.prefix else []))])
        found += [torch.cat([before, seen]).tolist() for seen in seen_by_predictions(batch)]
    wanted = [
        [*sample.context.tolist(), *sample.target.tolist()][:end]
        for sample in supervised
        for end in range(sample.tokens - sample.supervised, sample.tokens)
    ]
    assert sorted(found) == sorted(wanted)
    seen_prefixes = [id(batch.prefix.path[0]) for batch in batches if batch.prefix]
    runs = [
        prefix
        for place, prefix in enumerate(seen_prefixes)
        if place == 0 or seen_prefixes[place - 1] != prefix
    ]
    assert len(runs) == len(set(runs))


def seen_by_predictions(batch: MicroBatch) -> list[Tensor]:
    """The row's tokens that each predicting place sees, in the order of their positions."""
    width = batch.input_ids.shape[1]
    mask = batch.attention_mask()
    seen = []
    for place in batch.predicting.tolist():
        row, column = divmod(place, width)
        columns = (
            torch.arange(width) <= column if mask is None else mask[row, 0, column, mask.shape[-1] - width :]
        )
        if batch.position_ids is not None:
            start = batch.prefix.end if batch.prefix else 0
            positions = batch.position_ids[row, columns].tolist()
            assert positions == list(range(start, start + len(positions)))
        seen.append(batch.input_ids[row, columns])
    return seen


# --- the loop ------------------------------------------------------------------------------------------------------


def run(
    model: nn.Module, samples: list[Sample], *, share: bool = True, max_tokens: int = 500
) -> FinetuneReport:
    return finetune(
        model,
        [samples] * 3,
        TrainingSettings(learning_rate=1e-2),
        compute=ComputeSettings(micro_batch_tokens=max_tokens),
        share_prefixes=share,
        generator=torch.Generator().manual_seed(0),
    )


def test_training_is_the_same_with_and_without_sharing() -> None:
    ours, theirs = moved_model(), moved_model()
    expected = run(theirs, cut_prompts(), share=False)
    report = run(ours, cut_prompts())
    assert_same_training((ours, report), (theirs, expected))
    assert report.tokens == expected.tokens == 3 * sum(sample.tokens for sample in cut_prompts())


def test_less_is_computed() -> None:
    """Tokens that go through the last layer: in a step each prefix once."""
    model = moved_model()
    seen = limit_memory(model, lambda _: 10**6)
    run(model, cut_prompts())
    assert sum(seen) < 0.6 * 3 * sum(sample.tokens for sample in cut_prompts())


@pytest.mark.parametrize("most", [140, 160, 250])
def test_training_goes_on_where_memory_runs_out(most: int) -> None:
    """A prefix of 150 tokens, tails of 100 and more: what does not fit is not computed by itself."""
    free, limited = moved_model(), moved_model()
    samples = [*questions(30), *(sample for sample in mixed_samples() if sample.tokens < most)]
    expected = run(free, samples, max_tokens=4096)
    limit_memory(limited, lambda checkpointing: 300 if checkpointing else most)
    report = run(limited, samples, max_tokens=4096)
    assert_same_training((limited, report), (free, expected))
    assert report.gradient_checkpointing == (most < 200)


def test_cached_prefixes_are_given_up_last() -> None:
    """Their keys and values are kept beside the activations of rows."""
    free, limited = moved_model(), moved_model()
    expected = run(free, questions())
    seen: list[int] = []

    def check(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0].shape[1])
        if inputs[0].shape[1] == 200:  # the prefix
            raise torch.OutOfMemoryError

    limited.get_base_model().base_model.layers[-1].register_forward_pre_hook(check)
    report = run(limited, questions(), max_tokens=1)
    assert_same_training((limited, report), (free, expected))
    assert report.gradient_checkpointing
    assert seen[:2] == [200, 200]
    assert 200 not in seen[2:]


def test_a_model_of_unknown_code_packs_rows_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = moved_model(), moved_model()
    expected = run(theirs, cut_prompts(), share=False)
    monkeypatch.setattr("lift_eval.training.loss.body_of", lambda _: None)
    assert_same_training((ours, run(ours, cut_prompts())), (theirs, expected))
