"""What the floor counts of a step."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lift_eval.adapters.attach import attach
from lift_eval.models.loading import BUNDLED, load_tokenizer
from lift_eval.recipe import LoraSettings
from lift_eval.training.samples import Sample
from tests.tiny_models import tiny_model

sys.path.insert(0, str(Path(__file__).parents[2] / "perf"))  # its scripts import each other from there

import bench_floor
import bench_training
from account import Shape
from common.floor import Reading, floor


def sample(context: list[int], target: list[int]) -> Sample:
    return Sample(torch.tensor(context, dtype=torch.int64), torch.tensor(target, dtype=torch.int64))


def test_what_samples_begin_with_is_read_once_and_the_last_token_never() -> None:
    alike = [sample([1, 2, 3], [4, 5]), sample([1, 2, 6], [7])]
    # 1 2 3 4 and 6; 3 and 4 predict 4 and 5, 6 predicts 7
    assert Reading.of(alike) == Reading(5, 1 + 2 + 3 + 4 + 3, 3, 3 + 4 + 3)


def test_a_text_without_context_predicts_from_each_of_its_tokens() -> None:
    assert Reading.of([sample([], [1, 2, 3])]) == Reading(2, 3, 2, 3)


@pytest.fixture(scope="module")
def model() -> Any:
    return attach(tiny_model(), LoraSettings(rank=4, targets="all-linear"), seed=0)


def test_the_floor_is_below_the_account_of_each_sample_by_itself(model: Any) -> None:
    apart = [sample(list(range(n, n + 90)), list(range(10))) for n in (1, 2)]
    least = floor(model, [apart])
    assert 0.5 * Shape.of(model).training(apart) < least < Shape.of(model).training(apart)
    assert floor(model, [apart, apart]) == 2 * least  # weights change with each step
    assert floor(model, [[*apart, *apart]]) == least


def test_the_account_comes_down_to_the_floor_where_all_is_supervised(model: Any) -> None:
    """But for the first layer's gradients, and the last token."""
    whole = [sample([], [n % 200 for n in range(2000)])]
    assert Shape.of(model).training(whole) == pytest.approx(floor(model, [whole]), rel=0.1)


def test_the_published_recipe_takes_few_operations_more_than_any_exact_implementation_of_it() -> None:
    """At its full size, on the shape of Llama-3-8B; each stage's first epoch."""
    model, recipe = bench_floor.adapted("llama-3-8b")
    epochs = bench_training.epochs_of(recipe, load_tokenizer(str(BUNDLED)), 24_000)
    for epoch in (epochs[0], epochs[recipe.training.context_epochs]):
        ours, least = bench_floor.operations(model, [epoch])
        assert least < ours < 1.05 * least
