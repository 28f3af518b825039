"""The two stages of training a document, as the samples of each epoch (paper, sections 3.1 to 3.3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lift_eval.document import Document
from lift_eval.prompt import PromptEncoder
from lift_eval.recipe import Recipe
from lift_eval.training.auxiliary import take_turns
from lift_eval.training.contextualized import contextualized_samples, draw_windows
from lift_eval.training.passages import split_paragraphs
from lift_eval.training.samples import Sample
from lift_eval.training.segments import segment_samples, segments


def build_epochs(
    document: Document,
    recipe: Recipe,
    encoder: PromptEncoder,
    pairs: Sequence[tuple[Sample, ...]],
    generator: torch.Generator,
) -> list[list[Sample]]:
    """Build the samples of all epochs: first of segments, then of segments and pairs together.

    Args:
        document: The document.
        recipe: What to do.
        encoder: Of the recipe's prompts.
        pairs: Samples of the document's question-answer pairs, from `encode_pairs`.
        generator: Source of the windows; on the CPU.

    Returns:
        One list for each epoch.
    """
    training = recipe.training
    epochs: list[list[Sample]] = []
    drawn: list[Sample] = []
    for epoch in range(training.epochs):
        joint = epoch >= training.context_epochs
        wanted = training.joint_segments if joint else True
        if wanted and (not drawn or (training.contextualized and training.window_draw == "epoch")):
            drawn = _segment_samples(document, recipe, encoder, generator)
        samples = list(drawn) if wanted else []
        if joint:
            samples += take_turns(pairs, epoch - training.context_epochs)
        epochs.append(samples)
    return epochs


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
