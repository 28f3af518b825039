"""The loss of a micro-batch and its gradient, computed without holding many logits at once.

With a vocabulary of 128,000 the logits of an 8,192-token row take 4 GiB in float32, and their gradient as much. The
hidden states are small, so they are computed for the whole micro-batch. Logits, loss and gradient are computed only
where a token is supervised, a bounded number at a time.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lift_eval.models.loading import autocast, base_of
from lift_eval.training.batching import MicroBatch, prefix_row
from lift_eval.training.prefix_cache import PrefixCache, PrefixError, fill_prefix_cache
from lift_eval.training.shared_prefixes import SharedPrefix

LOGITS_AT_ONCE = 2**26
"""Most logits that exist at a time: 256 MiB in float32."""


def step_gradient(model: Any, batches: Sequence[MicroBatch], supervised: int) -> Tensor:  # noqa: ANN401
    """Add the gradient of a step's mean loss to the parameters' gradients.

    Each prefix is read before the first micro-batch behind it, and backpropagated after the last.

    Args:
        model: A causal LM of transformers, with or without an adapter.
        batches: Micro-batches of the step; those behind the same prefix are consecutive.
        supervised: Supervised tokens of the whole step.

    Returns:
        The mean cross entropy, a scalar without graph, float32, in nats.

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
            read.append((prefix, read_prefix(model, prefix, behind=read[-1][1] if read else None)))
        loss += accumulate_gradient(
            model, batch.to(model.device), supervised, prefix=read[-1][1] if read else None
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
    body = _body(base)
    if body is None:
        raise PrefixError("the code of the model is not known")
    inputs = _inputs(base, prefix_row(prefix).to(model.device))
    return fill_prefix_cache(base, body, inputs, behind=behind, frozen=prefix.frozen)


def accumulate_gradient(
    model: Any,  # noqa: ANN401 - PreTrainedModel or PeftModel
    batch: MicroBatch,
    supervised: int,
    *,
    prefix: PrefixCache | None = None,
    logits_at_once: int = LOGITS_AT_ONCE,
) -> Tensor:
    """Add a micro-batch's share of the gradient of a step's mean loss to the gradients of parameters and prefix.

    Args:
        model: A causal LM of transformers, with or without an adapter.
        batch: On the model's device.
        supervised: Supervised tokens of the whole step.
        prefix: Keys and values of the batch's prefix. None means a batch without a prefix.
        logits_at_once: Most logits that exist at a time; at least those of one position do.

    Returns:
        The micro-batch's share of the mean cross entropy, a scalar without graph, float32, in nats.

    Raises:
        PrefixError: If a layer of the model has not looked at the prefix.
    """
    with nullcontext() if prefix is None else prefix.before_rows():
        return _backpropagate_in_pieces(model, batch, supervised, logits_at_once)


def _backpropagate_in_pieces(
    model: Any,  # noqa: ANN401
    batch: MicroBatch,
    supervised: int,
    logits_at_once: int,
) -> Tensor:
    base = base_of(model)
    inputs = _inputs(base, batch)
    body = _body(base)
    if body is None:
        with autocast(base.device, base.dtype):
            loss = _cross_entropy(_logits_of_columns(base, inputs, batch), batch.labels) / supervised
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    with autocast(base.device, base.dtype):
        output = body(**inputs)
    hidden = output["last_hidden_state"].flatten(0, 1)[batch.predicting]
    pieces = hidden.detach().split(max(logits_at_once // base.config.get_text_config().vocab_size, 1))
    total = torch.zeros((), device=hidden.device)
    start = 0
    for piece in pieces:
        piece.requires_grad_()
        labels = batch.labels[start : start + len(piece)].to(hidden.device)
        start += len(piece)
        with autocast(base.device, base.dtype), _returning(body, output, piece[None]):
            # The body is not run; some models ask its input for the number of tokens.
            loss = (
                _cross_entropy(base(inputs_embeds=piece[None], use_cache=False).logits, labels) / supervised
            )
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    if hidden.requires_grad:  # not where the head alone is trained
        hidden.backward(torch.cat([piece.grad for piece in pieces if piece.grad is not None]))
    return total


def _inputs(base: Any, batch: MicroBatch) -> dict[str, Any]:  # noqa: ANN401
    mask = batch.attention_mask()
    if mask is not None and base.config._attn_implementation == "eager":
        # Eager attention adds its mask to the scores; SDPA takes a boolean one.
        lowest = torch.finfo(base.dtype).min
        mask = torch.zeros(mask.shape, dtype=base.dtype, device=mask.device).masked_fill(~mask, lowest)
    positions = {} if batch.position_ids is None else {"position_ids": batch.position_ids}
    return {"input_ids": batch.input_ids, "attention_mask": mask, "use_cache": False, **positions}


def _body(base: nn.Module) -> Any:  # noqa: ANN401 - a PreTrainedModel
    """The part of a model that computes hidden states. None means that it is not known (a checkpoint's own code)."""
    if not type(base).__module__.startswith("transformers.models."):
        return None
    body = base.get_decoder()  # type: ignore[operator]  # of PreTrainedModel
    return body if isinstance(body, PreTrainedModel) and body is not base else None


@contextmanager
def _returning(body: nn.Module, output: Any, hidden: Tensor) -> Iterator[None]:  # noqa: ANN401 - a ModelOutput
    """Let the body of a model return hidden states that were computed before.

    The model's forward pass then runs only the layers after the body: the output embedding with its adapters, and the
    scaling or soft-capping of logits, which differ between architectures.
    """
    replaced = vars(body).get("forward")
    given = type(output)(**{**output, "last_hidden_state": hidden})
    body.forward = lambda *_, **__: given
    try:
        yield
    finally:
        if replaced is None:
            del body.forward
        else:
            body.forward = replaced


def _logits_of_columns(base: Any, inputs: dict[str, Any], batch: MicroBatch) -> Tensor:  # noqa: ANN401
    """The logits at the predicting positions, taken from the logits of whole columns."""
    width = batch.input_ids.shape[1]
    if "logits_to_keep" not in inspect.signature(base.forward).parameters:
        logits: Tensor = base(**inputs).logits
        return logits.flatten(0, 1)[batch.predicting]
    columns, place = torch.unique(batch.predicting % width, return_inverse=True)
    logits = base(**inputs, logits_to_keep=columns).logits
    return logits[batch.predicting // width, place]


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits.float().flatten(0, -2), labels, reduction="sum")
