"""What others' kernels bring: each is switched on for one and the same gradient of a training step.

The step is of plain segments of unlike length, all of whose tokens are supervised, and trains v2's LoRA.
"""

# ruff: noqa: ANN401 - models of transformers have no types

from __future__ import annotations

import importlib.util
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from common.setting import Row
from torch import Tensor
from transformers.models.llama import modeling_llama

from gpu.bench import Bench, draw
from gpu.variable_lengths import NAME, VariableLengths, packed_batches
from lift_eval.models.loading import autocast, base_of
from lift_eval.training.batching import MicroBatch, micro_batches
from lift_eval.training.finetune import column_cost_of
from lift_eval.training.forward import inputs_of
from lift_eval.training.loss import accumulate_gradient
from lift_eval.training.samples import Sample, supervised_tokens, tokens_read

RUNS = 2
SEGMENTS, LONGEST = 48, 1024
MICRO_BATCH_TOKENS = 8192

Gradient = Callable[[Any, MicroBatch, int], Tensor]
"""Adds a micro-batch's share of the gradient, and returns its share of the loss; as `accumulate_gradient`."""


@dataclass(frozen=True)
class Step:
    """How the gradient of the step is made.

    Attributes:
        model: With its adapter.
        batches: The step's micro-batches.
        gradient: Makes the gradient of each.
    """

    model: Any
    batches: Sequence[MicroBatch]
    gradient: Gradient = accumulate_gradient

    def run(self) -> float:
        """Make the gradient and drop it; return the loss."""
        supervised = supervised_tokens(sample for batch in self.batches for sample in batch.samples)
        losses = [
            self.gradient(self.model, batch.to(self.model.device), supervised) for batch in self.batches
        ]
        self.model.zero_grad(set_to_none=True)
        return float(torch.stack(losses).sum())


Switch = Callable[[Bench, Step], AbstractContextManager[Step]]
"""Gives the step with something switched on inside."""


def switched(bench: Bench, switch: str) -> Iterator[Row]:
    """Make the step's gradient without and with a switch.

    Args:
        bench: The model and its device.
        switch: A key of `SWITCHES`.
    """
    package, switched_on = SWITCHES[switch]
    if package and importlib.util.find_spec(package) is None:
        yield {"": switch, "note": f"{package} is not installed"}
        return
    generator = torch.Generator().manual_seed(0)
    longest = bench.size.scaled(LONGEST)
    lengths = torch.randint(max(longest // 16, 2), longest + 1, (SEGMENTS,), generator=generator).tolist()
    samples = [Sample(draw(0, 0), draw(length, number)) for number, length in enumerate(lengths)]
    model = bench.adapted(bench.size.recipe("v2", "bf16")).train()
    tokens = bench.size.scaled(MICRO_BATCH_TOKENS)
    batches = micro_batches(samples, tokens, share_prefixes=False, column_cost=column_cost_of(model))
    off = Step(model, batches)
    _, before, memory, loss = _timed(bench, off)
    with switched_on(bench, off) as on:
        first, after, memory_on, loss_on = _timed(bench, on)
    yield {
        "": switch,
        "tokens": tokens_read(samples),
        "off s": before,
        "on s": after,
        "off / on": before / after,
        "first on s": first,
        "off GiB": memory,
        "on GiB": memory_on,
        "losses differ by": abs(loss_on / loss - 1),
    }


def _timed(bench: Bench, step: Step) -> tuple[float, float, float | None, float]:
    """Seconds of the first run and of further ones, their peak of memory, and the loss."""
    first, _ = bench.seconds(step.run)
    bench.release()
    bench.reset_peak()
    times, losses = zip(*(bench.seconds(step.run) for _ in range(RUNS)), strict=True)
    return first, statistics.median(times), bench.peak_gib, losses[-1]


@contextmanager
def _liger(bench: Bench, step: Step) -> Iterator[Step]:
    """RMSNorm, rotary embedding and SwiGLU of Liger, in this model and, while it runs, in transformers' module."""
    from liger_kernel.transformers import apply_liger_kernel_to_llama

    before = dict(vars(modeling_llama))
    apply_liger_kernel_to_llama(fused_linear_cross_entropy=False, model=base_of(step.model))
    try:
        yield step
    finally:
        vars(modeling_llama).update(before)


@contextmanager
def _liger_loss(bench: Bench, step: Step) -> Iterator[Step]:
    """The output embedding and the loss as one kernel of Liger's."""
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    fused = LigerFusedLinearCrossEntropyLoss(reduction="sum")

    def gradient(model: Any, batch: MicroBatch, supervised: int) -> Tensor:
        base = base_of(model)
        with autocast(base.device, base.dtype):
            hidden = base.model(**inputs_of(base, batch)).last_hidden_state.flatten(0, 1)[batch.predicting]
            loss = fused(base.lm_head.weight, hidden, batch.labels) / supervised
        loss.backward()
        return loss.detach().float()

    yield replace(step, gradient=gradient)


@contextmanager
def _compiled(bench: Bench, step: Step) -> Iterator[Step]:
    """Each layer compiled by itself, which they share; on a CPU traced alone, since that is no question here."""
    backend = "inductor" if bench.measures_memory else "eager"
    for layer in base_of(step.model).model.layers:
        layer.compile(backend=backend, dynamic=True)
    yield step
    torch._dynamo.reset()


@contextmanager
def _variable_lengths(bench: Bench, step: Step) -> Iterator[Step]:
    """Rows without padding, by torch's own flash attention."""
    yield _packed(bench, step, NAME, VariableLengths().gradient)


@contextmanager
def _flash_attention(bench: Bench, step: Step) -> Iterator[Step]:
    """The same rows by the package flash-attn."""
    yield _packed(bench, step, "flash_attention_2", accumulate_gradient)


def _packed(bench: Bench, step: Step, attention: str, gradient: Gradient) -> Step:
    base_of(step.model).set_attn_implementation(attention)
    samples = [sample for batch in step.batches for sample in batch.samples]
    return Step(step.model, packed_batches(samples, bench.size.scaled(MICRO_BATCH_TOKENS)), gradient)


SWITCHES: dict[str, tuple[str, Switch]] = {
    "liger": ("liger_kernel", _liger),
    "liger-loss": ("liger_kernel", _liger_loss),
    "compile": ("", _compiled),
    "variable-lengths": ("", _variable_lengths),
    "flash-attn": ("flash_attn", _flash_attention),
}
"""The package that each needs besides torch, and how it is switched on."""
