"""The largest batches that a recipe makes of a document, as far as its length tells them."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch

from lift_eval.memory.fake_model import bytes_of, trained_parameters
from lift_eval.memory.simulate import gradient_bytes
from lift_eval.models.loading import supports_prefix_sharing
from lift_eval.prompts.contents.registry import CONTENTS
from lift_eval.recipe import ComputeSettings, Recipe, TrainingSettings
from lift_eval.synthesis.base import CHARACTERS_PER_TOKEN
from lift_eval.synthesis.settings import PairPrompt
from lift_eval.training.batching import MicroBatch, micro_batches
from lift_eval.training.finetune import column_cost_of
from lift_eval.training.halves import first_half, halved_samples
from lift_eval.training.prefix_cache import PrefixError
from lift_eval.training.samples import Sample
from lift_eval.training.spans import span_samples
from lift_eval.training.teacher import Teacher

MOST_TOKENS = {"cpu": 2048, "cuda": 16384}
"""Of a micro-batch, by type of device: larger ones take more memory and hardly less time."""


SAFE_SHARE = 0.8
"""Of the free memory; the rest is for what is not foreseen, such as memory that is free in small pieces only."""


QUESTION_TOKENS, ANSWER_TOKENS = 48, 24
"""Lengths that no recipe tells."""


_ENOUGH_SAMPLES = 256


@dataclass(frozen=True)
class Workload:
    """The training of one document, as the largest optimizer step of each kind of epoch.

    Attributes:
        model: From `fake_model`.
        steps: Samples of the largest optimizer step of each kind of epoch.
        teacher: What distributions are learned from. None means that the tokens themselves are learned.
        device: Where the run would be. None means where the model is.
    """

    model: Any
    steps: Sequence[Sequence[Sample]]
    teacher: Teacher | None = None
    device: torch.device | None = None
    _known: dict[object, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        model: Any,  # noqa: ANN401
        *,
        document_tokens: int,
        window: int,
        device: torch.device | None = None,
    ) -> Workload:
        """What a recipe makes of a document, as far as it is known without its text.

        Args:
            recipe: The recipe.
            model: From `fake_model`.
            document_tokens: Tokens of the document.
            window: Most tokens of a prompt with its answer.
            device: Where the run would be. None means where the model is.
        """
        teacher = Teacher(model, model.disable_adapter, recipe.training) if recipe.training.distills else None
        return cls(model, list(largest_steps(recipe, document_tokens, window)), teacher, device)

    def of_documents(self, count: int) -> Workload:
        """The training of so many documents like this one, in one batch."""
        return replace(self, steps=[[*step] * count for step in self.steps], _known={})

    @property
    def optimizer(self) -> int:
        """Bytes of the optimizer's state."""
        return 2 * bytes_of(trained_parameters(self.model))

    def gradient(self, micro_batch_tokens: int, checkpointing: bool) -> int:
        """Most bytes that making a step's gradient takes, in micro-batches of so many tokens."""
        try:
            return self._gradient(micro_batch_tokens, checkpointing, cache_prefixes=self.teacher is None)
        except PrefixError:
            return self._gradient(micro_batch_tokens, checkpointing, cache_prefixes=False)

    def _gradient(self, micro_batch_tokens: int, checkpointing: bool, *, cache_prefixes: bool) -> int:
        share, cost = supports_prefix_sharing(self.model), column_cost_of(self.model)
        most = 0
        for step in self.steps:
            samples = step if share and cache_prefixes else [sample.with_prefix_inlined() for sample in step]
            batches = micro_batches(
                samples,
                micro_batch_tokens,
                share_prefixes=share,
                cache_prefixes=cache_prefixes,
                column_cost=cost,
            )
            kinds: dict[object, list[MicroBatch]] = defaultdict(list)
            for batch in batches:
                kinds[_kind(batch)].append(batch)
            for batch in (max(kind, key=lambda batch: batch.tokens) for kind in kinds.values()):
                several = len(batches) > 1
                path = (
                    tuple((len(prefix.ids), prefix.frozen) for prefix in batch.prefix.path)
                    if batch.prefix
                    else ()
                )
                case = (batch.input_ids.shape, batch.sequence_ids is None, path, several, checkpointing)
                if case not in self._known:
                    self._known[case] = gradient_bytes(
                        self.model,
                        batch,
                        checkpointing=checkpointing,
                        accumulated=several,
                        teacher=self.teacher,
                    )
                most = max(most, self._known[case])
        return most

    def choose(self, compute: ComputeSettings, free: int) -> ComputeSettings:
        """Decide what the recipe leaves open: the largest micro-batches that fit, and checkpointing only if it must be.

        Args:
            compute: The recipe's compute group.
            free: Bytes that are free with the model in memory.

        Returns:
            The group without ``auto``. Where nothing fits, it is what takes least.
        """
        tokens, checkpointing = compute.micro_batch_tokens, compute.gradient_checkpointing
        if "auto" not in (tokens, checkpointing):
            return compute
        sizes = list(self._sizes()) if tokens == "auto" else [int(tokens)]
        modes = (False, True) if checkpointing == "auto" else (bool(checkpointing),)
        size, checkpointed = sizes[-1], modes[-1]
        for mode in modes:
            if (largest := self._largest_fitting(sizes, mode, free)) is not None:
                size, checkpointed = largest, mode
                break
        return compute.model_copy(update={"micro_batch_tokens": size, "gradient_checkpointing": checkpointed})

    def _largest_fitting(self, sizes: Sequence[int], checkpointing: bool, free: int) -> int | None:
        """The largest of descending sizes that fits, by bisection, since each trial is some simulated passes."""
        room = SAFE_SHARE * free - self.optimizer

        def fits(size: int) -> bool:
            return room > 0 and self.gradient(size, checkpointing) <= room

        if fits(sizes[0]):
            return sizes[0]
        if not fits(sizes[-1]):
            return None
        place = bisect_left(range(1, len(sizes) - 1), True, key=lambda place: fits(sizes[place]))
        return sizes[1 + place]

    def _sizes(self) -> Iterator[int]:
        """Sizes of micro-batches worth trying, down to that of the longest sample."""
        longest = _longest(self.steps)
        device = self.device or self.model.device
        size = MOST_TOKENS.get(device.type, max(MOST_TOKENS.values()))
        yield size
        while size > longest:
            size //= 2
            yield size


def _kind(batch: MicroBatch) -> object:
    """What tells micro-batches apart of which the one with most tokens takes most memory."""
    if batch.prefix is None:
        return "whole"
    # A batch counts what stands before it among its tokens only where that has a gradient.
    return batch.prefix.end if batch.prefix.frozen else "behind a prefix"


def _longest(steps: Iterable[Iterable[Sample]]) -> int:
    return max(sample.tokens for samples in steps for sample in samples)


def longest_inlined(steps: Iterable[Iterable[Sample]]) -> int:
    """Tokens of the longest sample, its prefix included."""
    return _longest((sample.with_prefix_inlined() for sample in samples) for samples in steps)


class Kind(NamedTuple):
    """Samples of an epoch that are alike.

    Attributes:
        samples: Enough of them to see how they are laid out, or all.
        number: How many there are.
    """

    samples: list[Sample]
    number: int


class Epochs(NamedTuple):
    """Epochs that are alike.

    Attributes:
        number: How many there are; not whole where prompts take turns.
        kinds: The samples of one.
    """

    number: float
    kinds: list[Kind]

    @property
    def samples(self) -> list[Sample]:
        """Of all kinds."""
        return [sample for kind in self.kinds for sample in kind.samples]


def largest_steps(recipe: Recipe, document_tokens: int, window: int) -> Iterator[list[Sample]]:
    """The samples of the largest optimizer step of each kind of epoch."""
    for epochs in alike_epochs(recipe, document_tokens, window):
        yield _largest(epochs.samples, recipe.training.samples_per_step)


def alike_epochs(recipe: Recipe, document_tokens: int, window: int) -> Iterator[Epochs]:
    """The epochs that a recipe makes of a document, as far as they are known without its text.

    Args:
        recipe: The recipe.
        document_tokens: Tokens of the document.
        window: Most tokens of a prompt with its answer.
    """
    training, auxiliary = recipe.training, recipe.auxiliary
    segments = _segments(training, document_tokens, window)
    if training.context_epochs:
        yield Epochs(training.context_epochs, [segments])
    if not training.joint_epochs:
        return
    joint = [segments] if training.joint_segments else []
    if auxiliary.strategy == "none":
        yield Epochs(training.joint_epochs, joint)
        return
    prompts = auxiliary.prompts_in_turn
    for prompt in prompts:
        pairs = _pairs(recipe, prompt, document_tokens, window)
        yield Epochs(training.joint_epochs / len(prompts), [*joint, pairs])


def _segments(training: TrainingSettings, document_tokens: int, window: int) -> Kind:
    """The samples of the text itself."""
    length = max(min(training.segment_tokens, document_tokens), 2)
    count = 1 + max(math.ceil((document_tokens - length) / training.stride_tokens), 0)
    enough = min(count, _ENOUGH_SAMPLES)
    instruction = len(training.recite_instruction) // CHARACTERS_PER_TOKEN
    windows = min(training.window_tokens, document_tokens) + instruction if training.contextualized else 0
    if training.freezes_context:
        # The same windows for all segments are read once, and so is the document of a pair.
        return Kind([sample([0] * windows, length, frozen=windows - max(instruction, 1))] * enough, count)
    if training.samples == "halves":
        return Kind([halved(length)] * enough, count)
    if training.samples == "spans":
        # The document is read in the pass here, and once for all steps in the run: both hold it beside the rows.
        read = torch.zeros(max(min(document_tokens, window), length), dtype=torch.int64)
        last = slice(len(read) - length, len(read))
        count = int(training.samples_per_step)
        return Kind(span_samples(read, [last] * min(count, _ENOUGH_SAMPLES)), count)
    if training.samples == "stream":
        chunk = min(training.stride_tokens, length)
        return Kind([sample([0] * (length - chunk), chunk)], count)
    return Kind([sample(context, length) for context in alike(count, windows, 0)], count)


def _pairs(recipe: Recipe, kind: PairPrompt, document_tokens: int, window: int) -> Kind:
    """The samples of the pairs, all in the same one of the recipe's prompts."""
    training, auxiliary = recipe.training, recipe.auxiliary
    passages = auxiliary.method.passages(auxiliary, document_tokens)
    count = passages * auxiliary.pairs if auxiliary.method.several else passages
    closed_book = auxiliary.leaves_document_out(kind)
    shown = document_tokens
    if kind == "passage":
        shown = min(auxiliary.method.passage_tokens(auxiliary), document_tokens)
        shown += auxiliary.reply_tokens if auxiliary.rewrite_request else 0
    prompt = _prompt(recipe, shown, window, closed_book=closed_book)
    frozen = prompt[0] - QUESTION_TOKENS if training.freezes_context and not closed_book else 0
    contexts = alike(count, *prompt)
    answer = auxiliary.reply_tokens if auxiliary.method.converses else ANSWER_TOKENS
    if auxiliary.loss_on == "text":
        pairs = [sample([], prompt[0] + answer) for _ in contexts]
    else:
        pairs = [sample(context, answer, frozen=max(frozen, 0)) for context in contexts]
    if training.distills:
        shown = min(auxiliary.method.passage_tokens(auxiliary), document_tokens)
        # Once, so that each simulated pass has a teacher's.
        read = torch.zeros(shown + prompt[0], dtype=torch.int64)
        pairs = [replace(pair, teacher_context=read, once=True) for pair in pairs]
    return Kind(pairs, count)


def _largest(samples: list[Sample], per_step: int | str) -> list[Sample]:
    most = _ENOUGH_SAMPLES if per_step == "all" else min(int(per_step), _ENOUGH_SAMPLES)
    return sorted(samples, key=lambda sample: -sample.tokens)[:most]


def sample(context: Sequence[int], target: int, *, frozen: int = 0) -> Sample:
    """A sample of any tokens, of whose context so many are a frozen prefix."""
    ids = torch.tensor(context, dtype=torch.int64)
    return Sample(ids[frozen:], torch.zeros(target, dtype=torch.int64), ids[:frozen])


def halved(length: int) -> Sample:
    """A sample of any tokens of a chunk, cut in two."""
    cut = first_half(length)
    return halved_samples(torch.zeros(length, dtype=torch.int64), [(slice(cut), slice(cut, length))])[0]


def alike(count: int, length: int, shared: int) -> list[list[int]]:
    """Token ids that begin alike; as many as are asked for, or enough of them."""
    return [[0] * shared + [1 + number] * (length - shared) for number in range(min(count, _ENOUGH_SAMPLES))]


def _prompt(recipe: Recipe, document_tokens: int, window: int, *, closed_book: bool) -> tuple[int, int]:
    """Tokens of a prompt about the document, and how many of them all its prompts begin with."""
    if closed_book:
        return QUESTION_TOKENS, QUESTION_TOKENS // 2
    whole = document_tokens + QUESTION_TOKENS
    answer = recipe.decoding.max_new_tokens
    most = min(recipe.prompt.max_tokens - answer * recipe.prompt.max_tokens_with_answer, window - answer)
    length = max(min(whole, most), 2)
    # Where all of the prompt is cut, each question moves the cut.
    moves = whole > most and recipe.prompt.truncate == "prompt"
    return length, length // 2 if moves else max(length - QUESTION_TOKENS, 0)


def largest_questions(recipe: Recipe, document_tokens: int, window: int) -> list[list[int]]:
    """Prompts of as many questions as are decoded at once."""
    content = CONTENTS[recipe.prompt.document]
    if content.fills_window:
        prompt = recipe.prompt.model_copy(update={"max_tokens": window, "max_tokens_with_answer": False})
        recipe = recipe.model_copy(update={"prompt": prompt})
    shown = content.most_tokens(recipe.prompt, document_tokens)
    length, shared = _prompt(recipe, shown, window, closed_book=content.closed_book)
    return alike(recipe.compute.answer_batch, length, shared if content.begins_alike else 0)


def largest_requests(recipe: Recipe, document_tokens: int) -> list[list[int]]:
    """One batch of requests for question-answer pairs."""
    settings = recipe.auxiliary
    strategy = settings.method
    shown = min(strategy.passage_tokens(settings), document_tokens)
    asked = len(settings.request_template) // CHARACTERS_PER_TOKEN
    if strategy.converses and not strategy.message:  # a message is answered in the place of its request
        asked = max(asked, settings.reply_tokens)
    return alike(min(strategy.passages(settings, document_tokens), settings.batch), shown + asked, 0)
