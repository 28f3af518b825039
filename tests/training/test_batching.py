"""Micro-batches: whatever the layout, the loss and the gradient of a step are those of its samples one by one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lift_eval.models.loading import supports_prefix_sharing
from lift_eval.training.batching import micro_batches
from lift_eval.training.loss import accumulate_gradient
from lift_eval.training.samples import Sample
from tests.adapters.helpers import trainable
from tests.training.samples import NOTHING, mixed_samples, moved_model, reference, tokens

FULL = ("llama", "qwen2", "qwen3", "phi3")
SLIDING = ("mistral", "gemma2", "gemma3")


def step(model, samples, max_tokens, *, share):
    supervised = sum(sample.supervised for sample in samples)
    total = 0.0
    for batch in micro_batches(samples, max_tokens, share_prefixes=share):
        total += accumulate_gradient(model, batch, supervised).item()
    gradients = {name: tensor.grad.clone() for name, tensor in trainable(model).items()}
    model.zero_grad()
    return total, gradients


@pytest.mark.parametrize(
    ("architecture", "attention"),
    [
        (name, kind)
        for name in FULL + SLIDING
        for kind in ("sdpa", "eager")
        if (name, kind) != ("gemma2", "sdpa")
    ],
)
def test_loss_and_gradient_do_not_depend_on_the_layout(architecture, attention):
    model = moved_model("lora", architecture, attn_implementation=attention).double()
    samples = mixed_samples()
    loss, gradients = reference(model, samples)
    assert supports_prefix_sharing(model) == (architecture in FULL)
    layouts = {(size, share) for size in (1, 64, 10_000) for share in (False, supports_prefix_sharing(model))}
    for size, share in sorted(layouts):
        found, found_gradients = step(model, samples, size, share=share)
        assert found == pytest.approx(loss, rel=1e-6), (size, share)
        for name, gradient in gradients.items():
            assert gradient.abs().max() > 0
            torch.testing.assert_close(found_gradients[name], gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["pissa", "gated_memory"])
def test_the_same_holds_for_the_other_adapters(kind):
    model = moved_model(kind).double()
    loss, gradients = reference(model, mixed_samples())
    for share in (False, True):
        found, found_gradients = step(model, mixed_samples(), 100, share=share)
        assert found == pytest.approx(loss, rel=1e-6)
        for name, gradient in gradients.items():
            torch.testing.assert_close(found_gradients[name], gradient, rtol=1e-4, atol=1e-6)


def test_logits_exist_for_supervised_positions_only():
    model = moved_model()
    rows: list[int] = []
    head = model.get_base_model().get_output_embeddings()
    handle = head.register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0].shape[:-1].numel()))
    samples = mixed_samples()
    supervised = sum(sample.supervised for sample in samples)
    step(model, samples, 1, share=False)
    assert sum(rows) == supervised
    rows.clear()
    step(model, [Sample(tokens(500), tokens(3)), Sample(tokens(500, 1), tokens(3, 1))], 10_000, share=False)
    assert rows == [6]
    rows.clear()
    packed = [sample for sample in samples if len(sample.context) >= 24]
    step(model, packed, 10_000, share=True)
    assert rows == [sum(sample.supervised for sample in packed)]
    handle.remove()


def test_a_packed_row_holds_the_common_beginning_once():
    context = tokens(100)
    samples = [Sample(torch.cat([context, tokens(4, seed)]), tokens(2, seed + 50)) for seed in range(1, 6)]
    (packed,) = micro_batches(samples, 10_000, share_prefixes=True)
    assert packed.input_ids.shape == (1, 100 + 5 * 6)
    assert packed.position_ids is not None
    assert int(packed.position_ids.max()) == 105
    assert [batch.input_ids.shape for batch in micro_batches(samples, 10_000, share_prefixes=False)] == [
        (5, 106)
    ]


def test_equal_contexts_share_all_but_the_token_that_predicts():
    samples = [Sample(tokens(40), tokens(3, seed)) for seed in (1, 2)]
    (packed,) = micro_batches(samples, 10_000, share_prefixes=True)
    assert packed.input_ids.shape == (1, 39 + 2 * 4)


@settings(deadline=None, max_examples=80)
@given(
    shapes=st.lists(st.tuples(st.integers(0, 24), st.integers(0, 12), st.booleans()), max_size=12),
    size=st.integers(1, 150),
    share=st.booleans(),
)
def test_every_supervised_token_is_trained_once_within_the_size(shapes, size, share):
    samples = [
        Sample(torch.cat([tokens(18, 99) if shared else NOTHING, tokens(context, seed)]), tokens(target, seed + 50))
        for seed, (context, target, shared) in enumerate(shapes)
    ]  # fmt: skip
    batches = micro_batches(samples, size, share_prefixes=share)
    wanted = sorted(
        int(token) for sample in samples for token in sample.target[len(sample.target) - sample.supervised :]
    )
    assert sorted(label for batch in batches for label in batch.labels.tolist()) == wanted
    assert sum(len(batch.samples) for batch in batches) == sum(1 for sample in samples if sample.supervised)
    longest = max((sample.tokens for sample in samples), default=0)
    for batch in batches:
        assert batch.input_ids.numel() <= size or (
            len(batch.samples) == 1 and batch.input_ids.numel() <= longest
        )
        assert batch.predicting.tolist() == sorted(set(batch.predicting.tolist()))
        assert batch.labels.shape == batch.predicting.shape


def test_samples_with_nothing_to_predict_are_left_out():
    assert (
        micro_batches([Sample(NOTHING, tokens(1)), Sample(tokens(5), NOTHING)], 100, share_prefixes=True)
        == []
    )
