"""The fine-tuning loop: one document's samples into the adapter (paper, section 3.1)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from lift_eval.errors import TrainingError
from lift_eval.models.loading import base_of, supports_prefix_sharing
from lift_eval.recipe import ComputeSettings, TrainingSettings
from lift_eval.training.layout import Layout, make_gradient
from lift_eval.training.loss import read_prefix, step_gradient
from lift_eval.training.samples import Sample, supervised_tokens, tokens_read
from lift_eval.training.shared_prefixes import SharedPrefix
from lift_eval.training.teacher import Teacher

T = TypeVar("T")


@dataclass
class FinetuneReport:
    """What fine-tuning one document did.

    Attributes:
        losses: Mean loss per supervised token of each step, before that step's update.
        tokens: Tokens of all samples of all steps, each sample's by itself, whatever they share in a packed row or in
            a cached prefix. A frozen prefix counts once in a step, a document that is read once for all steps once.
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
    document: Tensor | None = None,
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
        document: Token ids of which each frozen prefix is a beginning, shape (n,). They are read once, before the first
            step. None means that frozen prefixes are read in each step.
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
    cost = column_cost_of(model) if column_cost is None else column_cost
    # A teacher may change the model's weights for a while, which a prefix with a gradient still needs.
    layout = Layout.of(compute, share_prefixes, cost, cache_prefixes=teacher is None)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    read = None if document is None else read_prefix(model.eval(), SharedPrefix(document, frozen=True))
    gradient = partial(step_gradient, model, teacher=teacher, document=read)
    with layout.training(model), Course(parameters, epochs, settings, generator, on_step) as course:
        course.report.tokens = 0 if document is None else len(document)
        for samples in course.steps():
            of_step = partial(gradient, supervised=supervised_tokens(samples))
            loss = make_gradient(model, samples, layout, partial(layout.batches, samples), of_step)
            laid_out = [one.without_prefix() for one in samples] if read else layout.laid_out(samples)
            course.update(loss, laid_out)
    return course.finish(layout, time.perf_counter() - began)


class Course:
    """The optimizer steps of one document, whoever makes their gradients.

    As a context it leaves no gradient behind, however training ends.

    Args:
        parameters: What is trained.
        epochs: As in `finetune`.
        settings: The recipe's training group.
        generator: Source of the order of samples; on the CPU.
        on_step: As in `finetune`.

    Attributes:
        report: What was done so far.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        epochs: Iterable[Iterable[Sample]],
        settings: TrainingSettings,
        generator: torch.Generator,
        on_step: Callable[[int, int, float], None] | None = None,
    ) -> None:
        self.report = FinetuneReport()
        self._parameters, self._settings, self._on_step = parameters, settings, on_step
        self._optimizer = optimizer_of(parameters, settings)
        self._total = _count_steps(epochs, settings)
        self._steps = _steps(epochs, settings, self._total, generator)

    def __enter__(self) -> Course:
        return self

    def __exit__(self, *_: object) -> None:
        self._optimizer.zero_grad(set_to_none=True)

    def steps(self) -> Iterator[Sequence[Sample]]:
        """The samples of each step; before the next one is asked for, `update` takes the step."""
        for rate, samples in self._steps:
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            yield samples

    def update(self, mean_loss: Tensor, samples: Sequence[Sample]) -> None:
        """Take an optimizer step with the parameters' gradients.

        Args:
            mean_loss: Of the step, a scalar.
            samples: What was read for it.

        Raises:
            TrainingError: If loss or gradient is not finite; the parameters are as before.
        """
        report, rate = self.report, self._optimizer.param_groups[0]["lr"]
        norm = nn.utils.clip_grad_norm_(self._parameters, self._settings.max_grad_norm)
        loss = _finite(mean_loss, norm, step=len(report.losses) + 1, rate=rate)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        report.losses.append(loss)
        report.tokens += tokens_read(samples)
        report.supervised += supervised_tokens(samples)
        if self._on_step is not None:
            self._on_step(len(report.losses), max(self._total, len(report.losses)), loss)

    def finish(self, layout: Layout, seconds: float) -> FinetuneReport:
        """The report, with the layout at the end and the time that it took."""
        report = self.report
        report.micro_batch_tokens, report.gradient_checkpointing = layout.max_tokens, layout.checkpointing
        report.seconds = seconds
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
