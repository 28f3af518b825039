"""Operations of training, told before it runs: as many as are counted while it does."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lift_eval.adapters.attach import attach
from lift_eval.memory.fake_model import fake_model
from lift_eval.memory.operations import step_operations, training_operations
from lift_eval.memory.workload import alike_epochs
from lift_eval.models.operations import counting
from lift_eval.recipe import ComputeSettings, Recipe, load_recipe
from lift_eval.training.finetune import finetune
from lift_eval.training.segments import segment_samples
from tests.tiny_models import tiny_config, tiny_model

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {
    "precision": {"dtype": "float32", "quantization": "none"},
    "training": {"segment_tokens": 64, "stride_tokens": 48, "window_tokens": 96},
    "prompt.max_tokens": 200,
    "auxiliary.max_tokens": 64,
}


def small(name: str, **training: object) -> Recipe:
    return load_recipe(name, {**SMALL, "training": {**SMALL["training"], **training}})


def counted(recipe: Recipe, epochs: list[Any], compute: ComputeSettings) -> float:
    """The operations of a real training of a tiny model."""
    model, operations = attach(tiny_model(), recipe.adapter, seed=0), dict[str, float]()
    with counting(model, operations, "train"):
        finetune(
            model,
            epochs,
            recipe.training,
            compute=compute,
            share_prefixes=True,
            generator=torch.Generator(),
        )
    return operations["train"]


@pytest.mark.parametrize("checkpointing", [False, True], ids=["stored", "checkpointed"])
@pytest.mark.parametrize("name", ["lora", "llama3_loogle", "fast"])
def test_a_step_takes_the_operations_that_were_told(name: str, checkpointing: bool) -> None:
    recipe = small(name)
    compute = ComputeSettings(micro_batch_tokens=300, gradient_checkpointing=checkpointing)
    told = fake_model(tiny_config("llama"), recipe, CPU)
    for epochs in alike_epochs(recipe, document_tokens=500, window=400):
        for samples, _ in epochs.kinds:
            assert step_operations(told, samples, compute) == counted(recipe, [samples], compute)


def test_a_training_takes_the_operations_of_all_its_epochs() -> None:
    recipe = small("lora", context_epochs=3, samples_per_step=2)
    compute = ComputeSettings(micro_batch_tokens=128, gradient_checkpointing=False)
    samples = segment_samples(torch.arange(640) % 200, 64, 48)
    lengths = {"document_tokens": 640, "window": 400}
    told = training_operations(recipe, fake_model(tiny_config("llama"), recipe, CPU), compute, **lengths)
    assert told == pytest.approx(counted(recipe, [samples] * 3, compute), rel=0.02)


def test_what_a_teacher_does_is_not_told() -> None:
    recipe = load_recipe("context_distillation", {"precision.dtype": "float32"})
    model = fake_model(tiny_config("llama"), recipe, CPU)
    assert training_operations(recipe, model, recipe.compute, document_tokens=500, window=400) is None
