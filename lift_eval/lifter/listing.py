"""What a document is trained on, sample by sample, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import zip_longest

import torch

from lift_eval.document import Document, document_seed
from lift_eval.errors import DocumentError
from lift_eval.prompts.form import TaskForm
from lift_eval.prompts.prompt import PromptEncoder
from lift_eval.recipe import Recipe
from lift_eval.synthesis.replies import Pair
from lift_eval.training.contextualized import Windows, draw_windows
from lift_eval.training.halves import draw_halves, halved_samples
from lift_eval.training.pair_samples import PairSamples
from lift_eval.training.samples import Sample
from lift_eval.training.segments import segment_ranges
from lift_eval.training.spans import draw_spans, span_samples
from lift_eval.training.stages import document_ids, stage_segments


@dataclass(frozen=True)
class ListedSample:
    """A training sample and where it comes from.

    Attributes:
        kind: ``segment``, ``contextualized``, ``half``, ``span`` or ``pair``.
        index: Number of the segment or pair, from 0.
        sample: The sample, without a frozen prefix.
        segment: Range of the document's tokens that is learned; None for pairs, and for a strategy's own segments,
            which are encoded apart.
        windows: Ranges of the windows in front; None without.
        teacher: Range of what only a teacher reads in front; None without.
    """

    kind: str
    index: int
    sample: Sample
    segment: slice | None = None
    windows: Windows | None = None
    teacher: slice | None = None


def list_samples(
    document: Document,
    recipe: Recipe,
    encoder: PromptEncoder,
    pairs: Iterable[Pair],
    windows: Sequence[Windows] | None = None,
    forms: Sequence[TaskForm] = (),
) -> Iterator[ListedSample]:
    """List the training samples of a document: its segments as in the first epoch, then each pair in each prompt.

    Args:
        document: The document.
        recipe: What to do.
        encoder: Of the recipe's prompts.
        pairs: The document's pairs; those that do not fit their prompt are left out.
        windows: Windows of the segments, in order, in place of those that the recipe's seed draws; surplus ones are
            not used. None to draw them.
        forms: The task's prompts, in which pairs are trained.

    Raises:
        DocumentError: If windows are missing or do not lie in the document.
    """
    training, auxiliary = recipe.training, recipe.auxiliary
    if not recipe.trains:
        return
    if training.context_epochs or training.joint_segments:
        yield from _segments(document, recipe, encoder, windows)
    if auxiliary.strategy != "none":
        once = auxiliary.model_copy(update={"prompts": tuple(dict.fromkeys(auxiliary.prompts_in_turn))})
        made = PairSamples(document, (), encoder, once, forms)
        for index, pair in enumerate(pairs):
            yield from (ListedSample("pair", index, sample) for sample in made.samples(pair))


def _segments(
    document: Document, recipe: Recipe, encoder: PromptEncoder, windows: Sequence[Windows] | None
) -> Iterator[ListedSample]:
    training = recipe.training
    if training.samples == "halves":
        yield from _halves(document, recipe, encoder)
        return
    if training.samples == "spans":
        yield from _spans(document, recipe, encoder)
        return
    used: list[Windows] = []
    ranges: list[slice] = []
    if not recipe.auxiliary.method.own_segments:
        tokens = len(document_ids(document, recipe, encoder))
        streams = training.samples == "stream"
        learned = training.stride_tokens if streams else training.segment_tokens
        ranges = segment_ranges(tokens, learned, training.stride_tokens)
        if training.contextualized and windows is not None:
            _check_windows(windows, len(ranges), tokens)
    given = None if windows is None else iter(windows)
    draw = _draw(document, recipe)

    def note(tokens: int) -> Windows:
        used.append(next(given) if given else draw(tokens))
        return used[-1]

    samples = stage_segments(document, recipe, encoder, note)
    kind = "contextualized" if training.contextualized else "segment"
    for index, (sample, segment, drawn) in enumerate(zip_longest(samples, ranges, used)):
        yield ListedSample(kind, index, sample, segment, drawn)


def _halves(document: Document, recipe: Recipe, encoder: PromptEncoder) -> Iterator[ListedSample]:
    training, generator = recipe.training, torch.Generator().manual_seed(document_seed(recipe.seed, document))
    ids = document_ids(document, recipe, encoder)
    halves = draw_halves(len(ids), training.segment_tokens, training.stride_tokens, generator)
    samples = halved_samples(ids, halves)
    for index, (sample, (first, second)) in enumerate(zip(samples, halves, strict=True)):
        yield ListedSample("half", index, sample, second, teacher=first)


def _spans(document: Document, recipe: Recipe, encoder: PromptEncoder) -> Iterator[ListedSample]:
    training, generator = recipe.training, torch.Generator().manual_seed(document_seed(recipe.seed, document))
    ids = document_ids(document, recipe, encoder)
    spans = draw_spans(len(ids), training.segment_tokens, int(training.samples_per_step), generator)
    for index, (sample, span) in enumerate(zip(span_samples(ids, spans), spans, strict=True)):
        yield ListedSample("span", index, sample.with_prefix_inlined(), span)


def _draw(document: Document, recipe: Recipe) -> Callable[[int], Windows]:
    """Draws windows as the first epoch or step does: in a step all segments share them."""
    generator = torch.Generator().manual_seed(document_seed(recipe.seed, document))
    draw = partial(draw_windows, window_tokens=recipe.training.window_tokens, generator=generator)
    return cache(draw) if recipe.training.freezes_context else draw


def _check_windows(windows: Sequence[Windows], segments: int, tokens: int) -> None:
    if len(windows) < segments:
        raise DocumentError(
            f"each of the document's {segments} segments needs windows, got {len(windows)}; give one line for each"
        )
    for number, pair in enumerate(windows[:segments]):
        for window in pair:
            if not 0 <= window.start <= window.stop <= tokens:
                raise DocumentError(
                    f"windows of segment {number} must be ranges of the document's {tokens} tokens, got "
                    f"[{window.start}, {window.stop}]"
                )
