"""What share of the matrix peak training reaches."""

# ruff: noqa: ANN401 - models of transformers have no types

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

import torch
from common.setting import Row

from gpu.bench import Bench
from gpu.works import WORKS, Work
from lift_eval.models.loading import supports_prefix_sharing
from lift_eval.recipe import ComputeSettings
from lift_eval.training.finetune import FinetuneReport, column_cost_of, finetune
from lift_eval.training.layout import Layout
from lift_eval.training.teacher import Teacher

RUNS = 3
MICRO_BATCH_TOKENS = 8192
"""Smaller where memory runs out."""


def train(bench: Bench, work: str, precision: str) -> Iterator[Row]:
    """Train on an excerpt of a document's samples; the median of the runs so far.

    Args:
        bench: The model and its device.
        work: A key of `WORKS`.
        precision: A key of `QUANTIZATIONS`.
    """
    chosen = WORKS[work](bench.size, precision)
    model, shape = bench.adapted(chosen.recipe), chosen.shape(bench.size.config)
    tokens = bench.size.scaled(MICRO_BATCH_TOKENS)
    compute = ComputeSettings(micro_batch_tokens=tokens, gradient_checkpointing=False)
    times = []
    with chosen.recipe.adapter.prepared(model, torch.zeros(chosen.document, dtype=torch.int64), seed=0):
        report = _finetune(model, chosen, compute)  # warms up, and finds what fits in memory
        fits = {"micro_batch_tokens": report.micro_batch_tokens}
        compute = compute.model_copy(update=fits | {"gradient_checkpointing": report.gradient_checkpointing})
        layout = Layout(
            report.micro_batch_tokens,
            checkpointing=False,  # what is computed anew is not needed
            share_prefixes=supports_prefix_sharing(model),
            column_cost=column_cost_of(model),
            cache_prefixes=not chosen.recipe.training.distills,
        )
        operations, read = chosen.operations(shape, chosen.excerpt, layout)
        whole, part = (chosen.operations_alone(shape, epochs) for epochs in (chosen.epochs, chosen.excerpt))
        bench.reset_peak()
        for _ in bench.parts(range(RUNS)):
            times.append(bench.seconds(lambda: _finetune(model, chosen, compute))[0])
            spent = statistics.median(times)
            yield {
                "": f"{chosen.name}, {precision}",
                "tokens": read,
                "s": spent,
                "tokens/s": read / spent,
                "T op/s": operations / spent / 1e12,
                "of matrix peak": operations / spent / bench.peak,
                "document s": spent * whole / part,
                "GiB": bench.peak_gib,
                "micro-batch": report.micro_batch_tokens,
                "ckpt": report.gradient_checkpointing,
                "runs": len(times),
            }


def _finetune(model: Any, work: Work, compute: ComputeSettings) -> FinetuneReport:
    training = work.recipe.training
    return finetune(
        model,
        work.excerpt,
        training,
        compute=compute,
        share_prefixes=supports_prefix_sharing(model),
        teacher=Teacher(model, model.disable_adapter, training) if training.distills else None,
        generator=torch.Generator().manual_seed(0),
    )
