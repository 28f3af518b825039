"""Halves: random chunks of the document, of which the second half is learned and the teacher reads both."""

from __future__ import annotations

import pytest
import torch

from lift_eval.document import Document
from lift_eval.prompts.prompt import PromptEncoder
from lift_eval.recipe import load_recipe
from lift_eval.training.halves import draw_halves, halved_samples
from lift_eval.training.pair_samples import PairSamples
from lift_eval.training.samples import Sample
from lift_eval.training.stages import build_epochs
from tests.tiny_models import tiny_tokenizer


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("length", [20, 21])
def test_a_chunk_is_cut_in_two_and_every_start_is_drawn(length):
    ids = torch.arange(100)
    halves = draw_halves(100, length, 1, generator())
    for sample in halved_samples(ids, halves) + halved_samples(
        ids, draw_halves(100, length, 1, generator(1))
    ):
        whole = torch.cat([sample.teacher_context, sample.target]).tolist()
        assert whole == list(range(whole[0], whole[0] + length))
        assert len(sample.context) == 0
        assert 0 <= sample.supervised - len(sample.teacher_context) <= 1
    starts = {first.start for seed in range(40) for first, _ in draw_halves(100, length, 1, generator(seed))}
    assert starts == set(range(100 - length + 1))


def test_there_are_as_many_chunks_as_segments():
    assert len(draw_halves(100, 20, 10, generator())) == 9


@pytest.mark.parametrize("tokens", [2, 3, 5])
def test_a_short_document_is_one_chunk_with_something_to_learn(tokens):
    (sample,) = halved_samples(torch.arange(tokens), draw_halves(tokens, 20, 10, generator()))
    assert torch.cat([sample.teacher_context, sample.target]).tolist() == list(range(tokens))
    assert sample.supervised > 0


def test_each_epoch_draws_anew_and_the_seed_decides():
    recipe = load_recipe(
        "ddcd", {"training": {"segment_tokens": 20, "stride_tokens": 10, "context_epochs": 3}}
    )
    encoder = PromptEncoder(tiny_tokenizer(), recipe.prompt, 4096)
    document = Document("".join(f"{number}, " for number in range(60)))

    def epochs(seed: int) -> list[list[list[int]]]:
        pairs = PairSamples(document, (), encoder, recipe.auxiliary)
        made = build_epochs(document, recipe, encoder, pairs, generator(seed))
        return [[_ids(sample) for sample in epoch] for epoch in made]

    first = epochs(0)
    assert len({str(epoch) for epoch in first}) == 3
    assert first == epochs(0) != epochs(1)


def _ids(sample: Sample) -> list[int]:
    return [*sample.teacher_context.tolist(), *sample.target.tolist()]
