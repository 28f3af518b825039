"""A forward pass in two parts: hidden states of a whole micro-batch, then logits where they are needed.

With a vocabulary of 128,000 the logits of an 8,192-token row take 4 GiB in float32, and their gradient as much. The
hidden states are small, so they are computed for the whole micro-batch, and logits a bounded number at a time.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lift_eval.models.loading import body_of
from lift_eval.training.batching import MicroBatch

LOGITS_AT_ONCE = 2**26
"""Most logits that exist at a time: 256 MiB in float32."""


def inputs_of(base: Any, batch: MicroBatch) -> dict[str, Any]:  # noqa: ANN401
    """The arguments of a forward pass over a micro-batch."""
    mask = batch.attention_mask()
    if mask is not None and base.config._attn_implementation == "eager":
        # Eager attention adds its mask to the scores; SDPA takes a boolean one.
        lowest = torch.finfo(base.dtype).min
        mask = torch.zeros(mask.shape, dtype=base.dtype, device=mask.device).masked_fill(~mask, lowest)
    positions = {} if batch.position_ids is None else {"position_ids": batch.position_ids}
    return {"input_ids": batch.input_ids, "attention_mask": mask, "use_cache": False, **positions}


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


def logits_of_columns(base: Any, inputs: dict[str, Any], batch: MicroBatch) -> Tensor:  # noqa: ANN401
    """The logits at the predicting positions, taken from the logits of whole columns."""
    width = batch.input_ids.shape[1]
    if "logits_to_keep" not in inspect.signature(base.forward).parameters:
        logits: Tensor = base(**inputs).logits
        return logits.flatten(0, 1)[batch.predicting]
    columns, place = torch.unique(batch.predicting % width, return_inverse=True)
    logits = base(**inputs, logits_to_keep=columns).logits
    return logits[batch.predicting // width, place]


def logits_behind(base: Any, body: Any, output: Any, hidden: Tensor) -> Tensor:  # noqa: ANN401
    """The logits of some hidden states, from all that the model has after its body.

    Args:
        base: The model without peft's wrapper.
        body: The part of it that computes hidden states; it is not run.
        output: What the body has returned.
        hidden: Of what it has returned, the hidden states of some tokens, shape (n, channels).

    Returns:
        Shape (1, n, vocabulary).
    """
    with _returning(body, output, hidden[None]):
        # Some models ask the body's input for the number of tokens.
        logits: Tensor = base(inputs_embeds=hidden[None], use_cache=False).logits
    return logits


def self_information(base: Any, ids: Tensor, window: int) -> Tensor:  # noqa: ANN401
    """The negative log-likelihood of each token but the first, behind half a window or all the tokens before it.

    Args:
        base: The model without peft's wrapper, in evaluation mode.
        ids: Token ids, shape (n,), int64, with n of 2 or more.
        window: Most tokens of a forward pass, 2 or more.

    Returns:
        Shape (n - 1,), float32, in nats, on the CPU.
    """
    body, found, known, step = body_of(base), [], 1, max(window // 2, 1)
    for start in range(0, len(ids), step):
        row = ids[start : start + window].to(base.device)
        if start + len(row) <= known:
            break
        first, following = known - 1 - start, ids[known : start + len(row)].to(base.device)
        if body is None:
            logits: Iterable[Tensor] = [base(input_ids=row[None], use_cache=False).logits[0, first:-1]]
        else:
            output = body(input_ids=row[None], use_cache=False)
            parts = torch.split(output["last_hidden_state"][0, first:-1], positions_at_once(base))
            logits = (logits_behind(base, body, output, part)[0] for part in parts)
        place = 0
        for part in logits:
            expected = following[place : place + len(part)]
            found.append(nn.functional.cross_entropy(part.float(), expected, reduction="none").cpu())
            place += len(part)
        known = start + len(row)
    return torch.cat(found)


def positions_at_once(base: Any, logits_at_once: int = LOGITS_AT_ONCE) -> int:  # noqa: ANN401
    """Most positions whose logits exist at a time; at least one."""
    return max(logits_at_once // int(base.config.get_text_config().vocab_size), 1)
