"""Several documents fine-tuned at once: their rows share forward and backward passes, and nothing else.

Each document has its own adapter, loss, clipping, optimizer and schedule, as when it is trained alone; what differs is
rounding.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lift_eval.adapters.stacked import StackedLora
from lift_eval.errors import TrainingError
from lift_eval.recipe import ComputeSettings
from lift_eval.training.batching import MicroBatch
from lift_eval.training.finetune import Course, FinetuneReport
from lift_eval.training.layout import Layout, make_gradient
from lift_eval.training.loss import accumulate_gradient
from lift_eval.training.samples import Sample, supervised_tokens


def finetune_together(
    model: Any,  # noqa: ANN401 - PeftModel
    stack: StackedLora,
    courses: Sequence[Course],
    *,
    compute: ComputeSettings,
    share_prefixes: bool,
    column_cost: float,
) -> list[FinetuneReport | TrainingError]:
    """Fine-tune a document with each course, a step of all of them at a time.

    Args:
        model: The model that the stack was made from; left in evaluation mode, its own weights as they are.
        stack: The documents' adapters.
        courses: The steps of each document, over its weights in the stack; none of its samples has a prefix.
        compute: The recipe's compute group; a micro-batch holds rows of all documents.
        share_prefixes: As in `finetune`.
        column_cost: The model's `column_cost_of`.

    Returns:
        For each document, losses and costs, its seconds by its share of the tokens; or the error for which its training
        was given up, which leaves the others alone.

    Raises:
        AdapterError: If a layer of the model does not see whole rows.
        torch.OutOfMemoryError: If one sample does not fit in memory, even with gradient checkpointing.
    """
    began = time.perf_counter()
    layout = Layout.of(compute, share_prefixes, column_cost, cache_prefixes=False)
    failed: dict[int, TrainingError] = {}
    with ExitStack() as held, layout.training(model), stack.in_place():
        held.callback(stack.zero_grad)
        for course in courses:
            held.enter_context(course)
        for step in _side_by_side([course.steps() for course in courses], failed):
            losses = _make_gradient(model, stack, list(step.values()), list(step), layout)
            for place, (number, samples) in enumerate(step.items()):
                stack.hand_out_gradients(number)
                try:
                    courses[number].update(losses[place], samples)
                except TrainingError as error:
                    failed[number] = error
    seconds = time.perf_counter() - began
    read = sum(course.report.tokens for course in courses) or 1
    return [
        failed.get(number) or course.finish(layout, seconds * course.report.tokens / read)
        for number, course in enumerate(courses)
    ]


def _side_by_side(
    steps: Sequence[Iterator[Sequence[Sample]]], failed: Mapping[int, TrainingError]
) -> Iterator[dict[int, Sequence[Sample]]]:
    """The next step of each document that has one, by its number, until none has."""
    while True:
        following = {
            number: next(steps[number], None) for number in range(len(steps)) if number not in failed
        }
        step = {number: samples for number, samples in following.items() if samples is not None}
        if not step:
            return
        yield step


def _make_gradient(
    model: Any,  # noqa: ANN401
    stack: StackedLora,
    work: Sequence[Sequence[Sample]],
    numbers: Sequence[int],
    layout: Layout,
) -> Tensor:
    """Compute the gradient of each document's mean loss; return the losses, shape (documents at work,)."""
    supervised = torch.tensor([supervised_tokens(samples) for samples in work], device=model.device)
    places = torch.tensor(numbers)

    def gradient(batches: Sequence[MicroBatch]) -> Tensor:
        stack.zero_grad()
        losses = torch.zeros(len(work), device=model.device)
        for batch in batches:
            assert batch.documents is not None
            with stack.serving(places[batch.documents]):
                losses += accumulate_gradient(model, batch.to(model.device), supervised)
        return losses

    everything = [sample for samples in work for sample in samples]
    return make_gradient(model, everything, layout, partial(layout.joint_batches, work), gradient)
