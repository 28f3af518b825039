"""The samples of each epoch and step, with windows of a document, an epoch or a step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest
import torch

from lift_eval.document import Document
from lift_eval.prompts.prompt import PromptEncoder
from lift_eval.recipe import Recipe, load_recipe
from lift_eval.synthesis.replies import Pair
from lift_eval.training.pair_samples import PairSamples
from lift_eval.training.samples import Sample
from lift_eval.training.stages import build_epochs
from tests.tiny_models import tiny_tokenizer

DOCUMENT = Document("".join(f"{number}, " for number in range(120)), "Numbers")
PAIRS = [Pair(f"What follows {number}?", str(number + 1), "") for number in range(7)]
ELLIPSIS = 3


def recipe(**training: object) -> Recipe:
    return load_recipe(
        "llama3_loogle",
        {
            "training": {
                "segment_tokens": 50, "stride_tokens": 30, "window_tokens": 60, "context_epochs": 1,
                "joint_epochs": 2, "samples_per_step": 4, **training,
            },
            "prompt": {"max_tokens": 300, "truncate": "document", "question_tokens": 130},
            "auxiliary.prompts": ["test", "closed_book"],
        },
    )  # fmt: skip


def epochs(settings: Recipe, pairs: Iterable[Pair] = PAIRS, seed: int = 0) -> Iterator[Iterable[Sample]]:
    encoder = PromptEncoder(tiny_tokenizer(), settings.prompt, 4096)
    freezes = settings.training.freezes_context
    samples = PairSamples(DOCUMENT, pairs, encoder, settings.auxiliary, freezes=freezes)
    return build_epochs(DOCUMENT, settings, encoder, samples, torch.Generator().manual_seed(seed))


def lists(settings: Recipe, seed: int = 0) -> list[list[Sample]]:
    return [list(epoch) for epoch in epochs(settings, seed=seed)]


def text(ids: torch.Tensor) -> str:
    return str(tiny_tokenizer().decode(ids))


def multiset(samples: Iterable[Sample]) -> list[list[int]]:
    return sorted(sample.target.tolist() for sample in samples)


def test_steps_hold_what_the_epochs_hold():
    by_epoch, by_step = lists(recipe(window_draw="epoch")), lists(recipe(window_draw="step"))
    assert max(map(len, by_step)) == 4
    flat = [sample for step in by_step for sample in step]
    start = 0
    for epoch in by_epoch:
        assert multiset(flat[start : start + len(epoch)]) == multiset(epoch)
        start += len(epoch)
    assert start == len(flat)


@pytest.mark.parametrize("size", [4, "all"])
def test_segments_of_a_step_share_windows_and_those_of_steps_differ(size):
    prefixes = []
    for step in lists(recipe(window_draw="step", samples_per_step=size)):
        shared = {text(sample.prefix) for sample in step if "recite" in text(sample.context)}
        assert len(shared) <= 1
        prefixes += shared
    assert len(prefixes) > 2
    assert len(set(prefixes)) == len(prefixes)
    assert all("..." in prefix for prefix in prefixes)


def test_a_whole_sample_is_one_that_is_drawn_by_epoch_but_for_its_windows():
    instruction = recipe().training.recite_instruction
    for settings in (recipe(window_draw="epoch"), recipe(window_draw="step")):
        first = [sample.with_prefix_inlined() for epoch in lists(settings)[:1] for sample in epoch]
        for sample in first:
            assert len(sample.prefix) == 0
            assert text(sample.context).endswith(instruction)
            assert len(sample.context) == 60 + ELLIPSIS + len(instruction)


def test_without_an_instruction_the_last_token_of_the_windows_is_the_samples_own():
    step = lists(recipe(window_draw="step", recite_instruction=""))[0]
    assert all(len(sample.context) == 1 for sample in step)
    assert all(len(sample.prefix) == 60 + ELLIPSIS - 1 for sample in step)


def test_the_document_is_the_prefix_of_pairs_in_the_real_prompt_and_of_no_other():
    settings = recipe(window_draw="step")
    frozen = [sample for step in lists(settings) for sample in step if "Question" in text(sample.context)]
    whole = [
        sample
        for epoch in lists(recipe(window_draw="epoch"))
        for sample in epoch
        if "Question" in text(sample.context)
    ]
    assert sorted(text(sample.with_prefix_inlined().context) for sample in frozen) == sorted(
        text(sample.context) for sample in whole
    )
    (document,) = {text(sample.prefix) for sample in frozen if len(sample.prefix)}
    assert document.startswith("The article Numbers")
    assert "..." in document
    assert not any("What follows" in text(sample.prefix) for sample in frozen)
    assert 0 < sum(len(sample.prefix) > 0 for sample in frozen) < len(frozen)


def test_the_seed_decides_windows_and_order():
    settings = recipe(window_draw="step")

    def all_text(seed: int) -> list[list[str]]:
        return [
            [text(sample.with_prefix_inlined().context) for sample in step] for step in lists(settings, seed)
        ]

    assert all_text(0) == all_text(0)
    assert all_text(0) != all_text(1)


def test_steps_on_segments_come_before_pairs_that_are_still_being_made(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    settings = recipe(window_draw="step").model_copy(
        update={"auxiliary": recipe().auxiliary.model_copy(update={"generator": "openai:some"})}
    )
    asked = []

    def arriving() -> Iterator[Pair]:
        for pair in PAIRS:
            asked.append(pair)
            yield pair

    seen: list[int] = []
    for epoch in epochs(settings, arriving()):
        if not isinstance(epoch, list):
            seen.append(len(asked))
            assert len(list(epoch)) == len(PAIRS)
    assert seen == [0]
    assert len(asked) == len(PAIRS)


@pytest.mark.parametrize(("title_line", "first"), [(True, "Numbers\n0, 1"), (False, "0, 1")])
def test_the_title_is_trained_on_as_a_line_where_the_recipe_says_so(title_line, first):
    segments = lists(recipe(contextualized=False, title_line=title_line))[0]
    assert text(segments[0].target).startswith(first)
