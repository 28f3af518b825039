"""The fine-tuning loop: one document's samples into the adapter (paper, section 3.1)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from lift_eval.loading import autocast
from lift_eval.recipe import ComputeSettings, TrainingSettings
from lift_eval.training.batching import IGNORED, MicroBatch, micro_batches
from lift_eval.training.samples import Sample


@dataclass
class FinetuneReport:
    """What fine-tuning one document did.

    Attributes:
        losses: Mean loss per supervised token of each step, before that step's update.
        tokens: Tokens of all samples of all steps.
        supervised: Those of them that the loss counted.
        seconds: Wall-clock time.
    """

    losses: list[float] = field(default_factory=list)
    tokens: int = 0
    supervised: int = 0
    seconds: float = 0.0


def steps_of(count: int, samples_per_step: int | str) -> int:
    """Optimizer steps of one epoch over ``count`` samples."""
    return min(count, 1) if samples_per_step == "all" else math.ceil(count / int(samples_per_step))


def learning_rate_factor(step: int, total: int, settings: TrainingSettings) -> float:
    """Factor on the learning rate at a step: linear warm-up, then the schedule over what is left of the run.

    The schedule spans both stages: restarting it would leave the first step of each stage at rate 0.

    Args:
        step: Number of the step, from 0.
        total: Steps of the whole run.
        settings: The recipe's training group.

    Returns:
        A factor above 0 and at most 1.
    """
    if step < settings.warmup_steps:
        return (step + 1) / (settings.warmup_steps + 1)
    left = max(total - settings.warmup_steps, 1)
    progress = min((step - settings.warmup_steps) / left, 1.0)
    if settings.schedule == "linear":
        return 1 - progress
    if settings.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    return 1.0


def supervised_loss(model: nn.Module, batch: MicroBatch) -> Tensor:
    """Summed cross entropy of a micro-batch's supervised tokens; logits exist for their positions only.

    Args:
        model: A causal LM of transformers, wrapped by peft or not.
        batch: On the model's device.

    Returns:
        A scalar, float32, in nats.
    """
    positions = {} if batch.position_ids is None else {"position_ids": batch.position_ids}
    logits = model(
        input_ids=batch.input_ids,
        attention_mask=_mask_for(model, batch.attention_mask),
        use_cache=False,
        logits_to_keep=batch.positions,
        **positions,
    ).logits
    return nn.functional.cross_entropy(
        logits.float().flatten(0, 1), batch.labels.flatten(), ignore_index=IGNORED, reduction="sum"
    )


def _mask_for(model: Any, mask: Tensor | None) -> Tensor | None:  # noqa: ANN401 - PeftModel or PreTrainedModel
    """Eager attention adds its mask to the scores; SDPA takes a boolean one."""
    if mask is None or model.config._attn_implementation != "eager":
        return mask
    lowest = torch.finfo(model.dtype).min
    return torch.zeros(mask.shape, dtype=model.dtype, device=mask.device).masked_fill(~mask, lowest)


def finetune(
    model: Any,  # noqa: ANN401 - PeftModel
    epochs: Iterable[Iterable[Sample]],
    settings: TrainingSettings,
    *,
    compute: ComputeSettings,
    share_prefixes: bool,
    generator: torch.Generator,
    on_step: Callable[[int, int, float], None] | None = None,
) -> FinetuneReport:
    """Train the model's trainable parameters on one document.

    Args:
        model: The model with its adapter; left in evaluation mode.
        epochs: The samples of each epoch. A list of lists is known beforehand; an iterator is asked for an epoch
            when it begins, and an epoch that is an iterator is taken in its order, step by step as samples come.
        settings: The recipe's training group.
        compute: The recipe's compute group.
        share_prefixes: Whether the model can take the mask of a tree of samples that begin alike.
        generator: Source of the order of samples; on the CPU.
        on_step: Called after each step with its number from 1, the number of all steps and the loss. Where not all
            steps are known beforehand, their number is that of the steps so far.

    Returns:
        Losses and costs.

    Raises:
        ValueError: If the schedule must know the number of steps and the epochs do not tell it.
    """
    began = time.perf_counter()
    report = FinetuneReport()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters,
        lr=settings.learning_rate,
        betas=settings.betas,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    total = _count_steps(epochs, settings)
    with _training_mode(model, checkpointing=compute.gradient_checkpointing):
        for samples in epochs:
            for chunk in _step_samples(samples, settings.samples_per_step, generator):
                rate = settings.learning_rate * learning_rate_factor(len(report.losses), total, settings)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                batches = micro_batches(chunk, compute.micro_batch_tokens, share_prefixes=share_prefixes)
                loss = _backward(model, batches, sum(sample.supervised for sample in chunk))
                nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                report.losses.append(loss)
                report.tokens += sum(sample.tokens for sample in chunk)
                report.supervised += sum(sample.supervised for sample in chunk)
                if on_step is not None:
                    on_step(len(report.losses), max(total, len(report.losses)), loss)
    report.seconds = time.perf_counter() - began
    return report


def _backward(model: Any, batches: Sequence[MicroBatch], supervised: int) -> float:  # noqa: ANN401
    """Accumulate the gradient of the mean loss over a step's supervised tokens; return that loss."""
    device = model.device
    loss = torch.zeros((), device=device)
    for batch in batches:
        with autocast(device, model.dtype):
            part = supervised_loss(model, batch.to(device)) / supervised
        part.backward()  # type: ignore[no-untyped-call]
        loss += part.detach()
    return float(loss)


def _count_steps(epochs: Iterable[Iterable[Sample]], settings: TrainingSettings) -> int:
    """Steps of all epochs; 0 where they are not known beforehand."""
    if isinstance(epochs, Sequence) and all(isinstance(samples, Sequence) for samples in epochs):
        return sum(steps_of(len(samples), settings.samples_per_step) for samples in epochs)
    if settings.schedule != "constant":
        raise ValueError(
            f"schedule '{settings.schedule}' must know the number of steps: give a list of lists"
        )
    return 0


def _step_samples(
    samples: Iterable[Sample], samples_per_step: int | str, generator: torch.Generator
) -> Iterator[Sequence[Sample]]:
    """Split an epoch into steps; gathered into one, the order means nothing and is kept."""
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
def _training_mode(model: Any, *, checkpointing: bool) -> Iterator[None]:  # noqa: ANN401
    """Training mode inside, evaluation mode after, also when training fails.

    Checkpointing is never reentrant: with frozen embeddings the reentrant kind gives most adapter weights no
    gradient, silently.
    """
    model.train()
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    try:
        yield
    finally:
        if checkpointing:
            model.gradient_checkpointing_disable()
        model.zero_grad(set_to_none=True)
        model.eval()
