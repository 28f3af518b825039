"""What ``lift-eval doctor --model M --recipe R`` predicts of a run: its memory and its operations."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from lift_eval.cli.doctor import Finding, gib
from lift_eval.cli.shared import one_thread
from lift_eval.memory.predict import Prediction, free_bytes, is_here, predict
from lift_eval.memory.workload import SAFE_SHARE
from lift_eval.models.loading import context_window, load_config, resolve_device
from lift_eval.recipe import Recipe

DOCUMENT_TOKENS = 24_000
"""Of a document of LooGLE, about."""
OPERATIONS_PER_SECOND = 100e12
"""A round number to tell times by, not what any GPU reaches."""


def predict_run(name: str, recipe: Recipe, document_tokens: int, on: str | None = None) -> Iterator[Finding]:
    """Predict a run's peak memory and its operations, and compare the memory with what is free; no weights are loaded.

    Args:
        name: Folder or Hub name of the checkpoint.
        recipe: The recipe.
        document_tokens: Tokens of the longest document.
        on: Type of the device. None means a GPU where there is one, else the CPU. A GPU that is not there has no free
            memory to compare with: the least that the run needs is predicted.

    Raises:
        LiftEvalError: If there is no such checkpoint, or the recipe's adapter does not fit it.
    """
    device = resolve_device(None) if on is None else torch.device(on)
    config = load_config(name)
    kind, _, other = recipe.auxiliary.generator.partition(":")
    free = free_bytes(device) if is_here(device) else None
    generator = load_config(other) if recipe.trains and kind == "local" else None
    with one_thread():
        prediction = predict(
            config,
            recipe,
            device=device,
            document_tokens=document_tokens,
            window=context_window(config, None),
            free=free,
            generator=generator,
        )
    largest = prediction.largest_phase
    for part in prediction.parts:
        when = f" while {part.phase}" if part.phase else ""
        yield Finding(True, f"{part.name}{when}", f"{gib(part.bytes)}: {part.remark}")
    if prediction.operations:
        yield Finding(True, "operations while training", _work(prediction.operations))
    peak = gib(prediction.peak)
    if free is None:
        less = f"for less, try {_savings(prediction, recipe)}"
        yield Finding(True, "peak memory", f"at least {peak}; the peak is while {largest}", less)
        return
    fits = prediction.peak <= free
    advice = "" if fits else f"try {_savings(prediction, recipe)}"
    if fits and prediction.peak > SAFE_SHARE * free:
        advice = "close to the limit: predictions may be off by 15 %"
    state = f"{peak} of {gib(free)} of free memory; the peak is while {largest}"
    yield Finding(fits, "peak memory", state, advice)


def _work(operations: int) -> str:
    minutes, rate = operations / OPERATIONS_PER_SECOND / 60, OPERATIONS_PER_SECOND / 1e12
    return f"{operations / 1e15:.3g} petaFLOP a document: {minutes:.2g} min at {rate:.0f} TFLOP/s"


def _savings(prediction: Prediction, recipe: Recipe) -> str:
    """Recipe keys that save memory in the largest phase, the cheapest first."""
    compute, keys = prediction.compute, []
    if prediction.largest_phase == "training":
        if int(compute.micro_batch_tokens) > recipe.training.segment_tokens:
            keys.append("a smaller compute.micro_batch_tokens")
        if not compute.gradient_checkpointing:
            keys.append("compute.gradient_checkpointing=true")
        keys.append("a smaller training.segment_tokens")
    elif prediction.largest_phase == "answering":
        keys += ["a smaller compute.answer_batch", "a smaller prompt.max_tokens"]
    else:
        keys.append("a smaller auxiliary.batch")
    if recipe.precision.quantization == "none":
        keys.append("precision.quantization=nf4")
    return ", ".join(keys)
