"""How wide packed rows grow: as wide as they pay, side by side, and exact all the same."""

from __future__ import annotations

import math

import pytest
import torch

from lift_eval.training.batching import micro_batches
from lift_eval.training.loss import accumulate_gradient
from lift_eval.training.samples import Sample
from tests.adapters.helpers import trainable
from tests.training.samples import moved_model, reference, tokens


def questions(count: int, beginning: int, seed: int = 0) -> list[Sample]:
    """Short samples of several lengths that begin alike."""
    shared = tokens(beginning, 1000 + seed)
    return [
        Sample(torch.cat([shared, tokens(5 + number % 7, seed + number)]), tokens(2 + number % 4, number))
        for number in range(count)
    ]


@pytest.mark.parametrize("cost", [1e-4, 1e-3, 1e-2])
def test_packed_rows_are_as_wide_as_pays(cost):
    samples = questions(60, 32)
    batches = micro_batches(samples, 100_000, share_prefixes=True, column_cost=cost)
    widest = 32 + math.sqrt(32**2 + 32 / cost)
    packed = [batch for batch in batches if batch.sequence_ids is not None]
    assert packed
    assert all(batch.input_ids.shape[1] <= widest for batch in packed)
    assert sum(len(batch.samples) for batch in batches) == 60
    if cost < 1e-3:
        assert max(batch.input_ids.shape[1] for batch in packed) > 300


def test_where_columns_are_dear_samples_stay_apart():
    (batch,) = micro_batches(questions(5, 32), 100_000, share_prefixes=True, column_cost=1.0)
    assert batch.sequence_ids is None
    assert batch.input_ids.shape[0] == 5


def test_a_sample_that_shares_little_does_not_spoil_the_packed_row_of_others():
    deep, shallow = questions(4, 200, seed=1), questions(1, 200, seed=2)
    shallow = [Sample(torch.cat([deep[0].context[:20], one.context[20:]]), one.target) for one in shallow]
    batches = micro_batches(deep + shallow, 10_000, share_prefixes=True)
    assert sorted(len(batch.samples) for batch in batches) == [1, 4]


def test_several_packed_rows_side_by_side_give_the_loss_and_gradient_of_the_samples_alone():
    model = moved_model()
    samples = [*questions(9, 30), *questions(7, 44, seed=50)]
    batches = micro_batches(samples, 10_000, share_prefixes=True, column_cost=4e-3)
    assert any(batch.sequence_ids is not None and len(batch.input_ids) > 1 for batch in batches)
    assert any((batch.sequence_ids == -1).any() for batch in batches if batch.sequence_ids is not None)
    loss, gradients = reference(model, samples)
    supervised = sum(sample.supervised for sample in samples)
    found = sum(accumulate_gradient(model, batch, supervised).item() for batch in batches)
    assert found == pytest.approx(loss, rel=1e-5)
    for name, tensor in trainable(model).items():
        torch.testing.assert_close(tensor.grad, gradients[name], rtol=1e-4, atol=1e-6)
