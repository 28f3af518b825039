"""Micro-batches as large as `auto` makes them and smaller ones: predicted and measured memory, and what they bring."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain

import torch
from common.setting import Row

from gpu.bench import GIB, Bench
from lift_eval.memory.fake_model import bytes_of, fake_model
from lift_eval.memory.predict import MANY_TOKENS, chosen_compute
from lift_eval.memory.workload import Workload
from lift_eval.models.loading import supports_prefix_sharing
from lift_eval.recipe import ComputeSettings
from lift_eval.training.finetune import finetune
from lift_eval.training.samples import Sample

SIZES = 3
"""That of `auto`, its half, and the half of that."""


def micro_batches(bench: Bench, recipe: str, precision: str) -> Iterator[Row]:
    """Train the largest steps of a recipe in micro-batches of each size.

    Args:
        bench: The model and its device.
        recipe: Name of a recipe that trains a document of any length in steps of the same size.
        precision: A key of `QUANTIZATIONS`.
    """
    chosen = bench.size.recipe(recipe, precision)
    model, window = bench.adapted(chosen), bench.size.config.max_position_embeddings
    choosing, compute = bench.seconds(lambda: chosen_compute(ComputeSettings(), chosen, model, window))
    made = fake_model(bench.size.config, chosen, model.device)
    workload = Workload.of(chosen, made, document_tokens=MANY_TOKENS, window=window)
    lasting = bytes_of(chain(made.parameters(), made.buffers())) + workload.optimizer
    checkpointing = bool(compute.gradient_checkpointing)
    train = partial(
        finetune,
        model,
        settings=chosen.training.model_copy(update={"samples_per_step": "all"}),
        share_prefixes=supports_prefix_sharing(model),
        generator=torch.Generator(),
    )
    train([_ends(step, 1) for step in workload.steps], compute=compute)  # warms up
    for halvings in bench.parts(range(SIZES)):
        tokens = int(compute.micro_batch_tokens) >> halvings
        size = compute.model_copy(update={"micro_batch_tokens": tokens})
        predicted = (lasting + workload.gradient(tokens, checkpointing)) / GIB
        steps = [_ends(step, math.ceil(tokens / step[0].tokens)) for step in workload.steps]
        bench.release()
        bench.reset_peak()
        spent, report = bench.seconds(partial(train, steps, compute=size))
        measured = bench.peak_gib
        yield {
            "": f"{recipe}, {precision}, {tokens:,} tokens",
            "ckpt": checkpointing,
            "choosing s": None if halvings else choosing,
            "predicted GiB": predicted,
            "measured GiB": measured,
            "ratio": predicted / measured if measured else None,
            "tokens/s": report.tokens / spent,
            "went on with": report.micro_batch_tokens,
        }


def _ends(step: Sequence[Sample], count: int) -> Sequence[Sample]:
    """The longest and the shortest samples of a step, which fill two micro-batches or more."""
    return step if len(step) <= 2 * count else [*step[:count], *step[-count:]]
