"""The loss of a micro-batch and its gradient, computed without holding many logits at once.

Hidden states are computed for the whole micro-batch. Logits, loss and gradient are computed only where a token is
supervised, a bounded number at a time (`forward`), and of these so few at a time pass through the loss that a
processor's cache holds them. A token is to be predicted as it stands in the sample, or as the teacher expects it
(`teacher`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lift_eval.models.loading import autocast, base_of, body_of
from lift_eval.training.batching import MicroBatch, prefix_row
from lift_eval.training.forward import (
    LOGITS_AT_ONCE,
    inputs_of,
    logits_behind,
    logits_of_columns,
    positions_at_once,
)
from lift_eval.training.prefix_cache import PrefixCache, PrefixError, fill_prefix_cache
from lift_eval.training.shared_prefixes import SharedPrefix
from lift_eval.training.teacher import Lesson, Teacher

LOGITS_IN_CACHE = 2**21
"""Most logits of which a processor computes loss and gradient at a time: 8 MiB in float32."""


def step_gradient(
    model: Any,  # noqa: ANN401
    batches: Sequence[MicroBatch],
    supervised: int,
    teacher: Teacher | None = None,
    document: PrefixCache | None = None,
) -> Tensor:
    """Add the gradient of a step's mean loss to the parameters' gradients.

    Each prefix is read before the first micro-batch behind it, and backpropagated after the last.

    Args:
        model: A causal LM of transformers, with or without an adapter.
        batches: Micro-batches of the step; those behind the same prefix are consecutive.
        supervised: Supervised tokens of the whole step.
        teacher: What the tokens' distributions are learned from; then no prefix has a gradient. None means that the
            tokens themselves are learned.
        document: What has been read of the document already; each frozen prefix is a beginning of it. None means that
            prefixes are read here.

    Returns:
        The mean loss, a scalar without graph, float32: the cross entropy in nats, and the teacher's further terms.

    Raises:
        PrefixError: If the model's keys and values cannot be kept, or a layer has not looked at them.
    """
    loss = torch.zeros((), device=model.device)
    read: list[tuple[SharedPrefix, PrefixCache]] = []
    for batch in batches:
        path = [] if batch.prefix is None else batch.prefix.path
        while read and read[-1][0] not in path:
            read.pop()[1].backpropagate()
        for prefix in path[len(read) :]:
            if document is not None and prefix.frozen:
                cache = document.beginning(prefix.end)
            else:
                cache = read_prefix(model, prefix, behind=read[-1][1] if read else None)
            read.append((prefix, cache))
        loss += accumulate_gradient(
            model, batch.to(model.device), supervised, prefix=read[-1][1] if read else None, teacher=teacher
        )
    while read:
        read.pop()[1].backpropagate()
    return loss


def read_prefix(model: Any, prefix: SharedPrefix, *, behind: PrefixCache | None = None) -> PrefixCache:  # noqa: ANN401
    """Read a prefix under the adapter as it is now.

    Args:
        model: A causal LM of transformers, with or without an adapter.
        prefix: The prefix.
        behind: The prefix before it, if it has one.

    Raises:
        PrefixError: If the model's keys and values cannot be kept.
    """
    base = base_of(model)
    body = body_of(base)
    if body is None:
        raise PrefixError("the code of the model is not known")
    inputs = inputs_of(base, prefix_row(prefix).to(model.device))
    return fill_prefix_cache(base, body, inputs, behind=behind, frozen=prefix.frozen)


def accumulate_gradient(
    model: Any,  # noqa: ANN401 - PreTrainedModel or PeftModel
    batch: MicroBatch,
    supervised: int | Tensor,
    *,
    prefix: PrefixCache | None = None,
    teacher: Teacher | None = None,
    logits_at_once: int = LOGITS_AT_ONCE,
) -> Tensor:
    """Add a micro-batch's share of the gradient of a step's mean loss to the gradients of parameters and prefix.

    Args:
        model: A causal LM of transformers, with or without an adapter.
        batch: On the model's device.
        supervised: Supervised tokens of the whole step; of each document where the rows are of several, shape
            (documents,).
        prefix: Keys and values of the batch's prefix. None means a batch without a prefix.
        teacher: As in `step_gradient`.
        logits_at_once: Most logits that exist at a time; at least those of one position do.

    Returns:
        The micro-batch's share of the mean loss, a scalar without graph, float32; of each document's, shape
        (documents,), where the rows are of several.

    Raises:
        PrefixError: If a layer of the model has not looked at the prefix.
    """
    lesson = None if teacher is None else teacher.lesson(batch)
    with nullcontext() if prefix is None else prefix.before_rows():
        return _backpropagate_in_pieces(model, batch, supervised, lesson, logits_at_once)


def _backpropagate_in_pieces(
    model: Any,  # noqa: ANN401
    batch: MicroBatch,
    supervised: int | Tensor,
    lesson: Lesson | None,
    logits_at_once: int,
) -> Tensor:
    base = base_of(model)
    inputs = inputs_of(base, batch)
    body = body_of(base)
    if body is None:
        with autocast(base.device, base.dtype):
            logits = logits_of_columns(base, inputs, batch)[None]
        return _backpropagate_logits(logits, partial(_loss, batch, lesson, supervised), 0)

    compared = {"output_hidden_states": True} if lesson is not None and lesson.states else {}
    with autocast(base.device, base.dtype):
        output = body(**inputs, **compared)
    hidden = output["last_hidden_state"].flatten(0, 1)[batch.predicting]
    pieces = hidden.detach().split(positions_at_once(base, logits_at_once))
    total = torch.zeros(getattr(supervised, "shape", ()), device=hidden.device)
    start = 0
    for piece in pieces:
        piece.requires_grad_()
        with autocast(base.device, base.dtype):
            logits = logits_behind(base, body, output, piece)
        total += _backpropagate_logits(logits, partial(_loss, batch, lesson, supervised), start)
        start += len(piece)
    if not hidden.requires_grad:  # where the head alone is trained
        return total
    gradient = torch.cat([piece.grad for piece in pieces if piece.grad is not None])
    if not compared:
        hidden.backward(gradient)
        return total
    assert lesson is not None
    distance = lesson.state_distance(output["hidden_states"], batch.predicting) / supervised
    torch.autograd.backward([hidden, distance], [gradient, None])
    return total + distance.detach()


def _backpropagate_logits(logits: Tensor, loss_of: Callable[[Tensor, int], Tensor], start: int) -> Tensor:
    """Backpropagate the loss of consecutive supervised tokens, on a processor as many at a time as its cache holds.

    Args:
        logits: Theirs, shape (1, m, vocabulary).
        loss_of: The loss of some of them and of the number of the first of these.
        start: Number of the first of all.

    Returns:
        The sum of the losses, without graph.
    """
    at_once = LOGITS_IN_CACHE if logits.device.type == "cpu" else LOGITS_AT_ONCE
    rows = max(at_once // logits.shape[-1], 1)
    gradient, losses = torch.empty_like(logits), []
    blocks, places = torch.split(logits.detach(), rows, dim=1), torch.split(gradient, rows, dim=1)
    for block, place in zip(blocks, places, strict=True):
        loss = loss_of(block.requires_grad_(), start)
        place.copy_(torch.autograd.grad(loss.sum(), block)[0])
        losses.append(loss.detach())
        start += block.shape[1]
    logits.backward(gradient)  # type: ignore[no-untyped-call]
    return torch.stack(losses).sum(0)


def _loss(
    batch: MicroBatch, lesson: Lesson | None, supervised: int | Tensor, logits: Tensor, start: int
) -> Tensor:
    """Share of consecutive supervised tokens in the mean loss, of each document where there are several.

    Args:
        batch: The micro-batch.
        lesson: What the teacher says about it. None means that the tokens themselves are learned.
        supervised: As in `accumulate_gradient`.
        logits: Theirs, shape (1, m, vocabulary).
        start: Number of the first of them in the micro-batch.
    """
    if lesson is not None:
        return lesson.cross_entropy(logits, start) / supervised
    flat = logits.float().flatten(0, -2)
    labels = batch.labels[start : start + len(flat)].to(flat.device)
    if isinstance(supervised, int):
        return nn.functional.cross_entropy(flat, labels, reduction="sum") / supervised
    each = nn.functional.cross_entropy(flat, labels, reduction="none")
    documents = batch.documents_of_labels[start : start + len(flat)].to(flat.device)
    return torch.zeros_like(supervised, dtype=each.dtype).index_add(0, documents, each) / supervised
