"""A first pass over a few tokens: whatever a model's code cannot do is known before a document is trained."""

from __future__ import annotations

import logging
import math
from typing import Any

import torch

from lift_eval.answering.decoding import Decoding
from lift_eval.answering.generate import answer
from lift_eval.answering.reading import Reading
from lift_eval.answering.shared_prefix import MIN_SHARED_TOKENS
from lift_eval.errors import CheckpointError
from lift_eval.models.faults import first_line
from lift_eval.models.loading import base_of, supports_prefix_sharing
from lift_eval.training.batching import micro_batches
from lift_eval.training.finetune import column_cost_of
from lift_eval.training.loss import step_gradient
from lift_eval.training.samples import Sample
from lift_eval.training.spans import span_samples
from lift_eval.training.teacher import Teacher

logger = logging.getLogger(__name__)

TEXT = "One two three, four five. "


def rehearse(
    model: Any,  # noqa: ANN401
    tokenizer: Any,  # noqa: ANN401
    *,
    trains: bool,
    teacher: Teacher | None = None,
    freezes: bool = False,
    reading: Reading | None = None,
) -> None:
    """Answer two short prompts and, where documents are trained, make one gradient; nothing is left of it.

    Args:
        model: A causal language model, adapted to nothing yet; with its adapter where documents are trained.
        tokenizer: Its tokenizer.
        trains: Whether documents are fine-tuned.
        teacher: What they are learned from. None means the text alone.
        freezes: Whether samples stand behind a frozen prefix.
        reading: How the prompts are read. None means as usual.

    Raises:
        CheckpointError: If the model fails, or if what it computes is not finite.
    """
    name = type(base_of(model)).__name__
    words = list(tokenizer(TEXT, add_special_tokens=False)["input_ids"])
    # Two texts that begin alike, long enough to be read as such.
    texts = [words * (MIN_SHARED_TOKENS // len(words) + 1) + words[:more] for more in (1, len(words))]
    devices = list(range(torch.cuda.device_count()))
    try:
        with torch.random.fork_rng(devices=devices):
            loss = _learn(model, texts, teacher, freezes=freezes) if trains else 0.0
            answer(model, tokenizer, texts, Decoding(2), batch=2, reading=reading)
    except Exception as error:
        # A model's code may raise anything, and it may come with the checkpoint.
        logger.debug("the first pass has failed", exc_info=True)
        doing = "trained and asked" if trains else "asked"
        raise CheckpointError(
            f"{name} cannot be {doing}, since it fails on a short test text: {first_line(error)}; use another "
            f"model{', or other adapter.targets' if trains else ''}"
        ) from error
    if not math.isfinite(loss):
        raise CheckpointError(
            f"{name} must compute finite numbers before it is trained, got a loss of {loss} on a short test text; "
            "check the weights, or use precision.dtype=float32 and no quantization"
        )


def _learn(model: Any, texts: list[list[int]], teacher: Teacher | None, *, freezes: bool) -> float:  # noqa: ANN401
    """The loss of two samples, whose gradient is made and dropped."""
    ids = [torch.tensor(text) for text in texts]
    samples = [
        *(span_samples(each, [slice(len(each) - 2, len(each))])[0] for each in ids if freezes),
        *(Sample(each[:-1], each[-1:]) for each in ids if not freezes),
    ]
    most = sum(sample.tokens for sample in samples)
    model.train()
    try:
        batches = micro_batches(
            samples, most, share_prefixes=supports_prefix_sharing(model), column_cost=column_cost_of(model)
        )
        return float(step_gradient(model, batches, len(samples), teacher))
    finally:
        model.zero_grad(set_to_none=True)
        model.eval()
