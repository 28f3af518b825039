"""The two stages of training a document, as the samples of each epoch (paper, sections 3.1 to 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain, repeat

import torch

from lift_eval.document import Document
from lift_eval.prompts.prompt import PromptEncoder
from lift_eval.recipe import Recipe
from lift_eval.training.contextualized import (
    Windows,
    contextualized_samples,
    draw_windows,
    frozen_recitations,
)
from lift_eval.training.finetune import step_samples
from lift_eval.training.halves import draw_halves, halved_samples
from lift_eval.training.pair_samples import PairSamples
from lift_eval.training.samples import Sample
from lift_eval.training.segments import segment_ranges, segment_samples, segments
from lift_eval.training.spans import draw_spans, span_samples
from lift_eval.training.stream import stream_samples


def overlaps(recipe: Recipe) -> bool:
    """Whether training starts before all pairs are there.

    With a server, unless the learning rate follows a schedule that must know the number of steps. Whether the pairs
    come from the server or from the store makes no difference to what is trained in which order.
    """
    return recipe.auxiliary.in_background and recipe.training.schedule == "constant"


def trained_text(document: Document, recipe: Recipe) -> str:
    """The text that is cut into segments."""
    return document.training_text if recipe.training.title_line else document.text


def document_ids(document: Document, recipe: Recipe, encoder: PromptEncoder) -> torch.Tensor:
    """Token ids of the text that is cut into segments, shape (n,), int64, without special tokens."""
    return torch.tensor(encoder.plain_ids(trained_text(document, recipe)), dtype=torch.int64)


def read_once(document: Document, recipe: Recipe, encoder: PromptEncoder) -> torch.Tensor | None:
    """Token ids of a document that is read once for all steps, shape (n,). None means that it is not."""
    return document_ids(document, recipe, encoder) if recipe.training.samples == "spans" else None


def build_epochs(
    document: Document,
    recipe: Recipe,
    encoder: PromptEncoder,
    pairs: PairSamples,
    generator: torch.Generator,
) -> Iterator[Iterable[Sample]]:
    """Build the samples of each epoch: first of segments, then of segments and pairs together.

    Args:
        document: The document.
        recipe: What to do.
        encoder: Of the recipe's prompts.
        pairs: The document's pairs.
        generator: Source of windows, halves and spans; on the CPU.

    Yields:
        A list for each epoch. Where training overlaps with the making of pairs, and an optimizer step does not need
        all of them, the first joint epoch is an iterator that takes the pairs in their order as they arrive. Where
        each step has windows of its own, a list for each step. Of a stream, a list for each pass over a chunk.
    """
    training = recipe.training
    if training.freezes_context:
        ids = document_ids(document, recipe, encoder)
        yield from _build_steps(ids, recipe, encoder, pairs, generator)
        return
    draw = partial(draw_windows, window_tokens=training.window_tokens, generator=generator)
    if training.samples == "stream":
        for sample in stage_segments(document, recipe, encoder, draw):
            yield from repeat([sample], training.context_epochs)
        yield from (list(pairs.epoch(joint)) for joint in range(training.joint_epochs))
        return
    draws = {"halves": stage_halves, "spans": stage_spans}.get(training.samples)
    draws_anew = draws is not None or (training.contextualized and training.window_draw == "epoch")
    drawn: list[Sample] = []
    for epoch in range(training.epochs):
        joint = epoch - training.context_epochs
        wanted = training.joint_segments if joint >= 0 else True
        if wanted and (draws_anew or not drawn):
            drawn = (
                draws(document, recipe, encoder, generator)
                if draws is not None
                else stage_segments(document, recipe, encoder, draw)
            )
        segment_part = drawn if wanted else []
        pair_part = pairs.epoch(joint) if joint >= 0 else ()
        samples = chain(segment_part, pair_part)
        arriving = joint == 0 and overlaps(recipe) and training.samples_per_step != "all"
        yield samples if arriving else list(samples)


def _build_steps(
    ids: torch.Tensor,
    recipe: Recipe,
    encoder: PromptEncoder,
    pairs: PairSamples,
    generator: torch.Generator,
) -> Iterator[Iterable[Sample]]:
    """Build the samples of each step: all segments of a step stand behind the windows drawn for it."""
    training = recipe.training
    ellipsis, instruction = _around(recipe, encoder)
    parts = segments(ids, training.segment_tokens, training.stride_tokens)
    for epoch in range(training.epochs):
        joint = epoch - training.context_epochs
        recited = parts if joint < 0 or training.joint_segments else []
        pair_part = pairs.epoch(joint) if joint >= 0 else iter(())
        arriving = joint == 0 and overlaps(recipe) and training.samples_per_step != "all"
        asked = [] if arriving else list(pair_part)
        everything = range(len(recited) + len(asked))
        for step in step_samples(everything, training.samples_per_step, generator):
            yield [
                *frozen_recitations(
                    ids,
                    [recited[number] for number in step if number < len(recited)],
                    windows=draw_windows(len(ids), training.window_tokens, generator),
                    ellipsis=ellipsis,
                    instruction=instruction,
                ),
                *(asked[number - len(recited)] for number in step if number >= len(recited)),
            ]
        if arriving:
            yield pair_part


def _around(recipe: Recipe, encoder: PromptEncoder) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids of the ellipsis between two windows, and of the instruction behind them."""
    texts = (recipe.prompt.ellipsis, recipe.training.recite_instruction)
    ellipsis, instruction = (torch.tensor(encoder.plain_ids(text), dtype=torch.int64) for text in texts)
    return ellipsis, instruction


def stage_segments(
    document: Document, recipe: Recipe, encoder: PromptEncoder, draw: Callable[[int], Windows]
) -> list[Sample]:
    """One sample of each segment or chunk of a document.

    Args:
        document: The document.
        recipe: What to do.
        encoder: Of the recipe's prompts.
        draw: Draws windows for a segment of a document of so many tokens; called in the order of the segments.
    """
    training = recipe.training
    length, stride = training.segment_tokens, training.stride_tokens
    strategy = recipe.auxiliary.method
    if strategy.own_segments:  # one longer than a segment is sliced like a document
        texts = strategy.segment_texts(document, recipe.auxiliary)
        encoded = [torch.tensor(encoder.plain_ids(text)) for text in texts]
        return [sample for each in encoded for sample in segment_samples(each, length, stride)]
    ids = document_ids(document, recipe, encoder)
    if training.samples == "stream":
        return stream_samples(ids, length, stride)
    if not training.contextualized:
        return segment_samples(ids, length, stride)
    ellipsis, instruction = _around(recipe, encoder)
    return contextualized_samples(
        ids,
        length,
        stride,
        windows=[draw(len(ids)) for _ in segment_ranges(len(ids), length, stride)],
        ellipsis=ellipsis,
        instruction=instruction,
    )


def stage_halves(
    document: Document, recipe: Recipe, encoder: PromptEncoder, generator: torch.Generator
) -> list[Sample]:
    """The samples of an epoch of random chunks, cut in two."""
    ids, training = document_ids(document, recipe, encoder), recipe.training
    return halved_samples(
        ids, draw_halves(len(ids), training.segment_tokens, training.stride_tokens, generator)
    )


def stage_spans(
    document: Document, recipe: Recipe, encoder: PromptEncoder, generator: torch.Generator
) -> list[Sample]:
    """The samples of an epoch of random spans, which is one optimizer step."""
    ids, training = document_ids(document, recipe, encoder), recipe.training
    return span_samples(
        ids, draw_spans(len(ids), training.segment_tokens, int(training.samples_per_step), generator)
    )
