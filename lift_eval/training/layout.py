"""How a step's samples are laid out on the machine, and what is done where memory runs out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lift_eval.adapters.lora import inputs_uncast
from lift_eval.recipe import ComputeSettings
from lift_eval.training.batching import MicroBatch, joint_micro_batches, micro_batches
from lift_eval.training.prefix_cache import PrefixError
from lift_eval.training.samples import Sample

logger = logging.getLogger(__name__)

MOST_TOKENS = 8192
"""Most tokens of a micro-batch where the recipe leaves them open."""


@dataclass
class Layout:
    """How a step's samples are laid out on the machine; it shrinks where memory runs out, and stays shrunk.

    Attributes:
        max_tokens: Most tokens of a micro-batch.
        checkpointing: Whether activations are computed anew in the backward pass.
        share_prefixes: Whether the model can take the mask of a packed row.
        column_cost: The model's `column_cost_of`.
        reads_once: Whether the model can read cached prefixes; if not, samples are trained whole.
        cache_prefixes: Whether there is memory for the keys and values of prefixes with a gradient.
    """

    max_tokens: int
    checkpointing: bool
    share_prefixes: bool
    column_cost: float
    reads_once: bool = True
    cache_prefixes: bool = True

    @classmethod
    def of(
        cls, compute: ComputeSettings, share_prefixes: bool, column_cost: float, *, cache_prefixes: bool
    ) -> Layout:
        """The layout of a recipe; what it leaves open begins large, and shrinks where memory runs out."""
        tokens = MOST_TOKENS if compute.micro_batch_tokens == "auto" else compute.micro_batch_tokens
        checkpointing = compute.gradient_checkpointing is True
        return cls(tokens, checkpointing, share_prefixes, column_cost, cache_prefixes=cache_prefixes)

    @contextmanager
    def training(self, model: Any) -> Iterator[None]:  # noqa: ANN401
        """Training mode inside, evaluation mode after, also when training fails; all passes are under autocast."""
        model.train()
        if self.checkpointing:
            checkpoint_activations(model, on=True)
        try:
            with inputs_uncast(model):
                yield
        finally:
            if self.checkpointing:
                checkpoint_activations(model, on=False)
            model.eval()

    def laid_out(self, samples: Sequence[Sample]) -> Sequence[Sample]:
        """The samples as they are read: with their prefixes apart, or as a part of them."""
        return samples if self.reads_once else [sample.with_prefix_inlined() for sample in samples]

    def batches(self, samples: Sequence[Sample]) -> list[MicroBatch]:
        """The micro-batches of a step."""
        if self.reads_once and not self.share_prefixes and any(len(sample.prefix) for sample in samples):
            self.train_whole(samples, "not every layer attends to all earlier tokens")
        return micro_batches(
            self.laid_out(samples),
            self.max_tokens,
            share_prefixes=self.share_prefixes,
            cache_prefixes=self.cache_prefixes and self.reads_once,
            column_cost=self.column_cost,
        )

    def joint_batches(self, documents: Sequence[Sequence[Sample]]) -> list[MicroBatch]:
        """The micro-batches of a step of several documents, none of whose samples has a prefix."""
        return joint_micro_batches(
            documents, self.max_tokens, share_prefixes=self.share_prefixes, column_cost=self.column_cost
        )

    def train_whole(self, samples: Sequence[Sample], reason: str) -> None:
        """Go on without cached prefixes."""
        self.reads_once = False
        asked = any(len(sample.prefix) for sample in samples)
        logger.log(
            logging.WARNING if asked else logging.INFO,
            "the prefix of a sample is read again with every sample, which takes longer: %s",
            reason,
        )

    def shrink(self, model: Any, samples: Sequence[Sample], failed: Sequence[MicroBatch]) -> bool:  # noqa: ANN401
        """Need less memory than the failed micro-batches did; return False if nothing is left to do."""
        longest = max(sample.tokens for sample in self.laid_out(samples))
        divisible = [batch.tokens for batch in failed if len(batch.samples) > 1 and _divides(batch, longest)]
        if divisible:
            self.max_tokens = max(divisible) // 2
        elif not self.checkpointing:
            self.checkpointing = True
            checkpoint_activations(model, on=True)
        elif any(_trains_prefix(batch) for batch in failed):
            self.cache_prefixes = False
        else:
            return False
        return True


def _trains_prefix(batch: MicroBatch) -> bool:
    return batch.prefix is not None and not batch.prefix.frozen


def _divides(batch: MicroBatch, longest: int) -> bool:
    """Whether smaller micro-batches can divide one: behind a prefix, the longest sample always has room."""
    return not _trains_prefix(batch) or batch.tokens > longest


def make_gradient(
    model: Any,  # noqa: ANN401
    samples: Sequence[Sample],
    layout: Layout,
    lay_out: Callable[[], Sequence[MicroBatch]],
    gradient: Callable[[Sequence[MicroBatch]], Tensor],
) -> Tensor:
    """Make the gradient of a step.

    When memory runs out, the step starts again with smaller micro-batches; the result is the same.

    Args:
        model: The model in training.
        samples: All samples of the step.
        layout: How they are laid out; it shrinks where memory runs out.
        lay_out: Makes the micro-batches of the layout as it is.
        gradient: Adds their gradient, and returns the loss.

    Returns:
        The loss.

    Raises:
        torch.OutOfMemoryError: If memory runs out for a single sample with checkpointing.
    """
    while True:
        batches = lay_out()
        try:
            return gradient(batches)
        except PrefixError as error:
            model.zero_grad(set_to_none=True)
            layout.train_whole(samples, str(error))
        except torch.OutOfMemoryError:
            model.zero_grad(set_to_none=True)
            if not layout.shrink(model, samples, batches):
                raise
            logger.info(
                "out of memory; continuing with micro-batches of at most %d tokens%s",
                layout.max_tokens,
                " and gradient checkpointing" if layout.checkpointing else "",
            )
        # Only here, after the exception is gone, are the tensors of the failed pass free.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def checkpoint_activations(model: Any, *, on: bool) -> None:  # noqa: ANN401
    """Compute activations anew in the backward pass, or keep them.

    Args:
        model: A causal LM of transformers, with or without an adapter.
        on: Whether to compute them anew.
    """
    # transformers 5.23 has other names for both.
    name = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
    if on:
        # Never the reentrant kind: with frozen embeddings it gives most adapter weights no gradient, silently.
        getattr(model, f"{name}_checkpointing_enable")({"use_reentrant": False})
    else:
        getattr(model, f"{name}_checkpointing_disable")()
