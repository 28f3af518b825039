"""How many operations the training of a document takes, told before it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lift_eval.memory.workload import alike_epochs
from lift_eval.models.loading import base_of, supports_prefix_sharing
from lift_eval.models.operations import Shape, columns_before, tuner_of
from lift_eval.recipe import ComputeSettings, Recipe
from lift_eval.training.batching import MicroBatch
from lift_eval.training.finetune import column_cost_of
from lift_eval.training.layout import Layout
from lift_eval.training.samples import Sample


def training_operations(
    recipe: Recipe,
    model: Any,  # noqa: ANN401
    compute: ComputeSettings,
    *,
    document_tokens: int,
    window: int,
) -> int | None:
    """Operations that training on a document takes, counted as `lift_eval.models.operations` does.

    Args:
        recipe: The recipe.
        model: From `lift_eval.memory.fake_model`.
        compute: The recipe's group of that name, with nothing left to choose.
        document_tokens: Tokens of the document.
        window: Most tokens of a prompt with its answer.

    Returns:
        Their number. None means that nobody knows it beforehand: what a teacher has said is kept for later epochs, and
        a document that is read once for all steps is read in the first.
    """
    if recipe.training.distills or recipe.training.samples == "spans":
        return None
    per_step = recipe.training.samples_per_step
    total = 0.0
    for epochs in alike_epochs(recipe, document_tokens, window):
        for samples, number in epochs.kinds:
            step = samples if per_step == "all" else samples[: int(per_step)]
            total += epochs.number * number / max(len(step), 1) * step_operations(model, step, compute)
    return round(total)


def step_operations(model: Any, samples: Sequence[Sample], compute: ComputeSettings) -> int:  # noqa: ANN401
    """Operations that the gradient of an optimizer step takes.

    Args:
        model: A causal LM of transformers with its adapter, with or without data.
        samples: The samples of the step.
        compute: The recipe's group of that name, with nothing left to choose.
    """
    layout = Layout.of(compute, supports_prefix_sharing(model), column_cost_of(model), cache_prefixes=True)
    return _gradient_operations(model, layout.batches(samples), checkpointing=layout.checkpointing)


def _gradient_operations(model: Any, batches: Sequence[MicroBatch], *, checkpointing: bool) -> int:  # noqa: ANN401
    shape, before = Shape.of(model), columns_before(tuner_of(base_of(model)))

    def read(tokens: int, columns: int, *, backward: bool) -> int:
        looks = tokens * (columns + before)
        again = shape.body(tokens, looks, adapted=True, backward=False) if backward and checkpointing else 0
        return shape.body(tokens, looks, adapted=True, backward=backward) + again

    prefixes = {prefix for batch in batches if batch.prefix is not None for prefix in batch.prefix.path}
    total = sum(read(len(prefix.ids), prefix.end, backward=not prefix.frozen) for prefix in prefixes)
    for batch in batches:
        end = 0 if batch.prefix is None else batch.prefix.end
        total += read(batch.input_ids.numel(), batch.input_ids.shape[1] + end, backward=True)
        total += 4 * shape.head * len(batch.labels)
    return total
