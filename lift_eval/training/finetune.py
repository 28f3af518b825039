"""The fine-tuning loop: one document's samples into the adapter (paper, section 3.1)."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from lift_eval.errors import TrainingError
from lift_eval.models.loading import base_of, supports_prefix_sharing
from lift_eval.recipe import ComputeSettings, TrainingSettings
from lift_eval.training.batching import MicroBatch, micro_batches
from lift_eval.training.loss import step_gradient
from lift_eval.training.prefix_cache import PrefixError
from lift_eval.training.samples import Sample, tokens_read
from lift_eval.training.teacher import Teacher

logger = logging.getLogger(__name__)

MOST_TOKENS = 8192
"""Most tokens of a micro-batch where the recipe leaves them open."""

T = TypeVar("T")


@dataclass
class FinetuneReport:
    """What fine-tuning one document did.

    Attributes:
        losses: Mean loss per supervised token of each step, before that step's update.
        tokens: Tokens of all samples of all steps, each sample's by itself, whatever they share in a packed row or in
            a cached prefix. A frozen prefix counts once in a step.
        supervised: Those of them that the loss counted.
        seconds: Wall-clock time.
        micro_batch_tokens: Most tokens of a micro-batch at the end; less than the recipe's where memory ran out.
        gradient_checkpointing: Whether activations were computed anew at the end.
    """

    losses: list[float] = field(default_factory=list)
    tokens: int = 0
    supervised: int = 0
    seconds: float = 0.0
    micro_batch_tokens: int = 0
    gradient_checkpointing: bool = False


def steps_of(count: int, samples_per_step: int | str) -> int:
    """Optimizer steps of one epoch over ``count`` samples."""
    return min(count, 1) if samples_per_step == "all" else math.ceil(count / int(samples_per_step))


def learning_rate_factor(step: int, total: int, settings: TrainingSettings, *, stage_start: int = 0) -> float:
    """Factor on the learning rate at a step: linear warm-up, then the schedule over what is left of the run.

    The schedule spans both stages, unless the recipe asks for a warm-up in each.

    Args:
        step: Number of the step, from 0.
        total: Steps of the whole run.
        settings: The recipe's training group.
        stage_start: Number of the first step of the stage that the step belongs to.

    Returns:
        A factor above 0 and at most 1; 0 at the first step of a stage with a warm-up of its own.
    """
    if settings.warmup == "per_stage":
        return min((step - stage_start) / settings.warmup_steps, 1.0) if settings.warmup_steps else 1.0
    if step < settings.warmup_steps:
        return (step + 1) / (settings.warmup_steps + 1)
    left = max(total - settings.warmup_steps, 1)
    progress = min((step - settings.warmup_steps) / left, 1.0)
    if settings.schedule == "linear":
        return 1 - progress
    if settings.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    return 1.0


def finetune(
    model: Any,  # noqa: ANN401 - PeftModel
    epochs: Iterable[Iterable[Sample]],
    settings: TrainingSettings,
    *,
    compute: ComputeSettings,
    share_prefixes: bool,
    column_cost: float | None = None,
    teacher: Teacher | None = None,
    generator: torch.Generator,
    on_step: Callable[[int, int, float], None] | None = None,
) -> FinetuneReport:
    """Train the model's trainable parameters on one document.

    Args:
        model: The model with its adapter; left in evaluation mode.
        epochs: The samples of each epoch, those of stage 1 first. A list of lists is known beforehand; an iterator is
            asked for an epoch when it begins, and an epoch that is an iterator is taken in its order, step by step as
            samples come.
        settings: The recipe's training group.
        compute: The recipe's compute group.
        share_prefixes: Whether the model can take the mask of a packed row of samples that begin alike.
        column_cost: The model's `column_cost_of`. None means to compute it, which reads the shapes of all parameters.
        teacher: What distributions are learned from. None means that the tokens themselves are learned.
        generator: Source of the order of samples; on the CPU.
        on_step: Called after each step with its number from 1, the number of all steps and the loss. Where not all
            steps are known beforehand, their number is that of the steps so far.

    Returns:
        Losses and costs.

    Raises:
        TrainingError: If a loss or a gradient is not finite; the adapter is as after the step before.
        ValueError: If the schedule must know the number of steps and the epochs do not tell it.
        torch.OutOfMemoryError: If one sample does not fit in memory, even with gradient checkpointing.
    """
    began = time.perf_counter()
    report = FinetuneReport()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = optimizer_of(parameters, settings)
    total = _count_steps(epochs, settings)
    cost = column_cost_of(model) if column_cost is None else column_cost
    layout = _Layout.of(compute, share_prefixes, cost, taught=teacher is not None)
    with _training_mode(model, optimizer, layout):
        for rate, chunk in _steps(epochs, settings, total, generator):
            for group in optimizer.param_groups:
                group["lr"] = rate
            mean_loss = _make_gradient(model, chunk, layout, teacher)
            norm = nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
            loss = _finite(mean_loss, norm, step=len(report.losses) + 1, rate=rate)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            report.losses.append(loss)
            report.tokens += tokens_read(layout.laid_out(chunk))
            report.supervised += sum(sample.supervised for sample in chunk)
            if on_step is not None:
                on_step(len(report.losses), max(total, len(report.losses)), loss)
    report.micro_batch_tokens, report.gradient_checkpointing = layout.max_tokens, layout.checkpointing
    report.seconds = time.perf_counter() - began
    return report


def _steps(
    epochs: Iterable[Iterable[Sample]], settings: TrainingSettings, total: int, generator: torch.Generator
) -> Iterator[tuple[float, Sequence[Sample]]]:
    """The learning rate of each step and its samples."""
    step = stage_start = 0
    for epoch, samples in enumerate(epochs):
        if epoch == settings.context_epochs:
            stage_start = step
        for chunk in step_samples(samples, settings.samples_per_step, generator):
            factor = learning_rate_factor(step, total, settings, stage_start=stage_start)
            yield settings.learning_rate * factor, chunk
            step += 1


def optimizer_of(parameters: Sequence[Tensor], settings: TrainingSettings) -> torch.optim.Optimizer:
    """The recipe's optimizer, its learning rate at the peak.

    Args:
        parameters: The parameters to train.
        settings: The recipe's training group.
    """
    return torch.optim.AdamW(
        parameters,
        lr=settings.learning_rate,
        betas=settings.betas,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
        fused=True,
    )


def _finite(loss: Tensor, norm: Tensor, *, step: int, rate: float) -> float:
    """The loss, read from the device together with the gradient's norm: the one wait of a step."""
    values = torch.stack([loss.float(), norm.to(loss.device).float()]).tolist()
    if not all(math.isfinite(value) for value in values):
        raise TrainingError(
            f"loss and gradient must be finite, got a loss of {values[0]} and a gradient norm of {values[1]} in step "
            f"{step} at learning rate {rate:g}; lower training.learning_rate, or use precision.dtype=float32"
        )
    return float(values[0])


@dataclass
class _Layout:
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
        cls, compute: ComputeSettings, share_prefixes: bool, column_cost: float, *, taught: bool
    ) -> _Layout:
        """The layout of a recipe; what it leaves open begins large, and shrinks where memory runs out."""
        tokens = MOST_TOKENS if compute.micro_batch_tokens == "auto" else compute.micro_batch_tokens
        # A teacher may change the model's weights for a while, which a prefix with a gradient still needs.
        checkpointing, cache = compute.gradient_checkpointing is True, not taught
        return cls(tokens, checkpointing, share_prefixes, column_cost, cache_prefixes=cache)

    def laid_out(self, samples: Sequence[Sample]) -> Sequence[Sample]:
        return samples if self.reads_once else [sample.with_prefix_inlined() for sample in samples]

    def batches(self, samples: Sequence[Sample]) -> list[MicroBatch]:
        if self.reads_once and not self.share_prefixes and any(len(sample.prefix) for sample in samples):
            self.train_whole(samples, "not every layer attends to all earlier tokens")
        return micro_batches(
            self.laid_out(samples),
            self.max_tokens,
            share_prefixes=self.share_prefixes,
            cache_prefixes=self.cache_prefixes and self.reads_once,
            column_cost=self.column_cost,
        )

    def train_whole(self, samples: Sequence[Sample], reason: str) -> None:
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


def _make_gradient(
    model: Any,  # noqa: ANN401
    samples: Sequence[Sample],
    layout: _Layout,
    teacher: Teacher | None,
) -> Tensor:
    """Compute the gradient of the mean loss over a step's supervised tokens; return that loss, on the device.

    When memory runs out, the step starts again with smaller micro-batches; the result is the same.

    Raises:
        torch.OutOfMemoryError: If memory runs out for a single sample with checkpointing.
    """
    supervised = sum(sample.supervised for sample in samples)
    while True:
        batches = layout.batches(samples)
        try:
            return step_gradient(model, batches, supervised, teacher)
        except PrefixError as error:
            model.zero_grad(set_to_none=True)
            layout.train_whole(samples, str(error))
        except torch.OutOfMemoryError:
            model.zero_grad(set_to_none=True)
            if not layout.shrink(model, samples, batches):
                raise
            logger.info(
                "out of memory; going on with micro-batches of at most %d tokens%s",
                layout.max_tokens,
                " and gradient checkpointing" if layout.checkpointing else "",
            )
        # Only here, after the exception is gone, are the tensors of the failed pass free.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def column_cost_of(model: Any) -> float:  # noqa: ANN401 - PreTrainedModel or PeftModel
    """Cost of one more attention column for a token, as a share of the token's other costs.

    Scores and weighted sum take 4 operations per column and channel of the queries, a weight takes 2. It is 0 for a
    model whose samples cannot share columns.
    """
    if not supports_prefix_sharing(model):
        return 0.0
    base = base_of(model)
    config = base.config.get_text_config()
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    channels = config.num_hidden_layers * config.num_attention_heads * head_dim
    return float(2 * channels / base.num_parameters(exclude_embeddings=True))


def _count_steps(epochs: Iterable[Iterable[Sample]], settings: TrainingSettings) -> int:
    """Number of steps of all epochs; 0 means that it is not known beforehand."""
    if isinstance(epochs, Sequence) and all(isinstance(samples, Sequence) for samples in epochs):
        return sum(steps_of(len(samples), settings.samples_per_step) for samples in epochs)
    if settings.schedule != "constant":
        raise ValueError(
            f"schedule '{settings.schedule}' must know the number of steps: give a list of lists"
        )
    return 0


def step_samples(
    samples: Iterable[T], samples_per_step: int | str, generator: torch.Generator
) -> Iterator[Sequence[T]]:
    """Split an epoch into steps. One step of all samples keeps their order, which does not matter there.

    Args:
        samples: Samples of the epoch; those of an iterator keep their order.
        samples_per_step: Most samples of a step, or ``all``.
        generator: Source of the order; on the CPU.
    """
    if not isinstance(samples, Sequence):
        arriving = iter(samples)
        while step := list(islice(arriving, None if samples_per_step == "all" else int(samples_per_step))):
            yield step
        return
    if samples_per_step == "all" or len(samples) <= int(samples_per_step):
        if samples:
            yield samples
        return
    order = torch.randperm(len(samples), generator=generator).tolist()
    for start in range(0, len(order), int(samples_per_step)):
        yield [samples[index] for index in order[start : start + int(samples_per_step)]]


@contextmanager
def _training_mode(model: Any, optimizer: torch.optim.Optimizer, layout: _Layout) -> Iterator[None]:  # noqa: ANN401
    """Training mode inside, evaluation mode after, also when training fails."""
    model.train()
    if layout.checkpointing:
        checkpoint_activations(model, on=True)
    try:
        yield
    finally:
        if layout.checkpointing:
            checkpoint_activations(model, on=False)
        optimizer.zero_grad(set_to_none=True)  # whatever a failed step has left
        model.eval()


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
