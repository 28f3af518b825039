"""The two stages of training a document, as the samples of each epoch (paper, sections 3.1 to 3.3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

import torch

from lift_eval.document import Document
from lift_eval.prompt import PromptEncoder
from lift_eval.recipe import Recipe
from lift_eval.training.auxiliary import PairSamples
from lift_eval.training.contextualized import contextualized_samples, draw_windows
from lift_eval.training.passages import split_paragraphs
from lift_eval.training.samples import Sample
from lift_eval.training.segments import segment_samples, segments


def overlaps(recipe: Recipe) -> bool:
    """Whether training starts before all pairs are there.

    With a server, unless the learning rate follows a schedule that must know the number of steps. Whether the pairs
    come from the server or from the store makes no difference to what is trained in which order.
    """
    return recipe.auxiliary.in_background and recipe.training.schedule == "constant"


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
        generator: Source of the windows; on the CPU.

    Yields:
        A list for each epoch. Where training overlaps with the making of pairs, and an optimizer step does not need
        all of them, the first joint epoch is an iterator that takes the pairs in their order as they arrive.
    """
    training = recipe.training
    drawn: list[Sample] = []
    for epoch in range(training.epochs):
        joint = epoch - training.context_epochs
        wanted = training.joint_segments if joint >= 0 else True
        if wanted and (not drawn or (training.contextualized and training.window_draw == "epoch")):
            drawn = _segment_samples(document, recipe, encoder, generator)
        segment_part = drawn if wanted else []
        pair_part = pairs.epoch(joint) if joint >= 0 else ()
        samples = chain(segment_part, pair_part)
        arriving = joint == 0 and overlaps(recipe) and training.samples_per_step != "all"
        yield samples if arriving else list(samples)


def _segment_samples(
    document: Document, recipe: Recipe, encoder: PromptEncoder, generator: torch.Generator
) -> list[Sample]:
    training = recipe.training
    length, stride = training.segment_tokens, training.stride_tokens
    if recipe.auxiliary.strategy == "paragraphs":
        # Segments are the paragraphs; one longer than a segment is sliced like a document.
        paragraphs = split_paragraphs(document.text, recipe.auxiliary.paragraph_name)
        ids = [torch.tensor(encoder.plain_ids(text)) for _, text in paragraphs]
        return [sample for each in ids for sample in segment_samples(each, length, stride)]
    document_ids = torch.tensor(encoder.plain_ids(document.training_text))
    if not training.contextualized:
        return segment_samples(document_ids, length, stride)
    count = len(segments(document_ids, length, stride))
    return contextualized_samples(
        document_ids,
        length,
        stride,
        windows=[draw_windows(len(document_ids), training.window_tokens, generator) for _ in range(count)],
        ellipsis=torch.tensor(encoder.plain_ids(recipe.prompt.ellipsis)),
        instruction=torch.tensor(encoder.plain_ids(training.recite_instruction)),
    )
