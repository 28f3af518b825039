"""Listed samples are those that training takes."""

from __future__ import annotations

import pytest
import torch

from lift_eval.document import Document, document_seed
from lift_eval.errors import DocumentError
from lift_eval.lifter.listing import ListedSample, list_samples
from lift_eval.prompts.prompt import PromptEncoder
from lift_eval.recipe import Recipe, load_recipe
from lift_eval.synthesis.replies import Pair
from lift_eval.training.contextualized import Windows
from lift_eval.training.pair_samples import PairSamples
from lift_eval.training.samples import Sample
from lift_eval.training.stages import build_epochs
from tests.tiny_models import tiny_tokenizer

DOCUMENT = Document("".join(f"{number}, " for number in range(120)), "Numbers")
PARAGRAPHS = Document("\n\n".join(f"Paragraph {number}: It rained." for number in range(1, 5)))
PAIRS = [Pair("What follows 3?", "4"), Pair("What follows 8?", "9")]
SMALL = {"segment_tokens": 50, "stride_tokens": 30, "window_tokens": 60}


def recipe(name: str = "llama3_loogle", **training: object) -> Recipe:
    return load_recipe(
        name, {"training": {**SMALL, **training}, "prompt.chat_template": False, "prompt.system": None}
    )


def encoder(settings: Recipe) -> PromptEncoder:
    return PromptEncoder(tiny_tokenizer(), settings.prompt, 4096)


def listed(
    settings: Recipe, document: Document = DOCUMENT, windows: list[Windows] | None = None
) -> list[ListedSample]:
    return list(list_samples(document, settings, encoder(settings), PAIRS, windows))


def trained(settings: Recipe, document: Document) -> list[Sample]:
    """The samples of the last stage's first epoch."""
    tool = encoder(settings)
    pairs = PairSamples(document, PAIRS, tool, settings.auxiliary)
    generator = torch.Generator().manual_seed(document_seed(settings.seed, document))
    epochs = list(build_epochs(document, settings, tool, pairs, generator))
    return [sample.with_prefix_inlined() for sample in epochs[settings.training.context_epochs]]


def ids(samples: list[Sample]) -> list[tuple[list[int], list[int]]]:
    return sorted((sample.context.tolist(), sample.target.tolist()) for sample in samples)


@pytest.mark.parametrize(
    ("name", "document"),
    [
        ("llama3_loogle", DOCUMENT),
        ("llama3_loogle_no_context", DOCUMENT),
        ("llama3_passage_retrieval", PARAGRAPHS),
        ("v2", DOCUMENT),
    ],
)
def test_listed_samples_are_those_that_are_trained(name: str, document: Document) -> None:
    settings = recipe(name)
    assert ids([one.sample for one in listed(settings, document)]) == ids(trained(settings, document))


def test_segments_of_a_step_are_listed_behind_the_same_windows() -> None:
    windows = {str(one.windows) for one in listed(recipe(window_draw="step")) if one.windows}
    assert len(windows) == 1


def test_listed_halves_are_those_of_the_first_epoch() -> None:
    small = {"segment_tokens": 50, "stride_tokens": 30, "context_epochs": 2}
    settings = load_recipe("ddcd", {"training": small})
    tool = encoder(settings)
    generator = torch.Generator().manual_seed(document_seed(settings.seed, DOCUMENT))
    pairs = PairSamples(DOCUMENT, (), tool, settings.auxiliary)
    first = next(iter(build_epochs(DOCUMENT, settings, tool, pairs, generator)))
    tokens = torch.tensor(tool.plain_ids(DOCUMENT.text))
    shown = listed(settings)
    assert {one.kind for one in shown} == {"half"}
    assert ids([one.sample for one in shown]) == ids(list(first))
    for one in shown:
        assert one.segment is not None
        assert one.teacher is not None
        assert one.sample.target.tolist() == tokens[one.segment].tolist()
        assert one.teacher.stop == one.segment.start


def test_a_pair_is_listed_once_in_each_prompt() -> None:
    settings = load_recipe("tiny")
    pairs = [one.index for one in listed(settings) if one.kind == "pair"]
    assert pairs == [0, 0, 1, 1]


def test_segments_and_windows_are_ranges_of_the_document() -> None:
    settings = recipe()
    tokens = torch.tensor(encoder(settings).plain_ids(DOCUMENT.training_text))
    segments = [one for one in listed(settings) if one.kind == "contextualized"]
    assert [one.segment.start for one in segments[:3] if one.segment] == [0, 30, 60]
    for one in segments:
        assert one.windows is not None
        front, back = one.windows
        assert one.sample.target.tolist() == tokens[one.segment].tolist()
        assert one.sample.context[: front.stop - front.start].tolist() == tokens[front].tolist()
        after = front.stop - front.start + len("...")
        assert one.sample.context[after:][: back.stop - back.start].tolist() == tokens[back].tolist()


def test_given_windows_replace_those_that_are_drawn() -> None:
    settings = recipe()
    count = sum(one.kind == "contextualized" for one in listed(settings))
    given = [
        (slice(number, number), slice(0, 10)) for number in range(count + 2)
    ]  # surplus ones are for tails
    assert [one.windows for one in listed(settings, windows=given) if one.windows] == given[:count]


@pytest.mark.parametrize(
    ("windows", "said"),
    [
        ([(slice(0, 5), slice(5, 10))], "segments needs windows, got 1"),
        ([(slice(0, 5), slice(5, 10_000))] * 40, r"windows of segment 0 must be ranges .* got \[5, 10000\]"),
        ([(slice(5, 0), slice(5, 10))] * 40, r"got \[5, 0\]"),
    ],
)
def test_windows_that_do_not_fit_are_refused(windows: list[Windows], said: str) -> None:
    with pytest.raises(DocumentError, match=said):
        listed(recipe(), windows=windows)


def test_nothing_is_listed_where_nothing_is_trained() -> None:
    assert listed(load_recipe("icl")) == []
