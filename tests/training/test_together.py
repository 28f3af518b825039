"""Documents trained side by side: each as if it were alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lift_eval.adapters.stacked import StackedLora
from lift_eval.errors import AdapterError, TrainingError
from lift_eval.recipe import ComputeSettings, TrainingSettings
from lift_eval.training.batching import joint_micro_batches
from lift_eval.training.finetune import Course, FinetuneReport, column_cost_of, finetune
from lift_eval.training.samples import Sample
from lift_eval.training.together import finetune_together
from tests.adapters.helpers import adapted_model, trainable
from tests.training.samples import NOTHING, mixed_samples, moved_model, tokens

Epochs = list[list[Sample]]


def of_different_lengths() -> list[Epochs]:
    """Three documents: one with few steps, one with samples that begin alike, one of a long and a short segment."""
    return [
        [[Sample(NOTHING, tokens(50, 20))]] * 2,
        [mixed_samples()] * 5,
        [[Sample(NOTHING, tokens(90, 21)), Sample(NOTHING, tokens(9, 22))]] * 3,
    ]


def settings(**changes: object) -> TrainingSettings:
    return TrainingSettings(**{"learning_rate": 1e-2, **changes})


def alone(model: Any, epochs: Epochs, **changes: object) -> FinetuneReport:
    return finetune(
        model,
        epochs,
        settings(**changes),
        compute=ComputeSettings(),
        share_prefixes=True,
        generator=torch.Generator().manual_seed(0),
    )


def together(
    model: Any, documents: list[Epochs], compute: ComputeSettings | None = None, **changes: object
) -> tuple[StackedLora, list[FinetuneReport | TrainingError]]:
    stack = StackedLora(model, len(documents))
    courses = [
        Course(
            list(stack.weights(number).values()),
            epochs,
            settings(**changes),
            torch.Generator().manual_seed(0),
        )
        for number, epochs in enumerate(documents)
    ]
    reports = finetune_together(
        model,
        stack,
        courses,
        compute=compute or ComputeSettings(),
        share_prefixes=True,
        column_cost=column_cost_of(model),
    )
    return stack, reports


def assert_as_alone(kind: str, documents: list[Epochs], compute: ComputeSettings, **changes: object) -> None:
    model = moved_model(kind)
    before = {name: tensor.detach().clone() for name, tensor in trainable(model).items()}
    stack, reports = together(model, documents, compute, **changes)
    assert all(torch.equal(tensor, before[name]) for name, tensor in trainable(model).items())
    for number, epochs in enumerate(documents):
        one = moved_model(kind)
        expected, found = alone(one, epochs, **changes), reports[number]
        assert isinstance(found, FinetuneReport)
        assert found.losses == pytest.approx(expected.losses, rel=1e-4)
        assert (found.tokens, found.supervised) == (expected.tokens, expected.supervised)
        for name, tensor in trainable(one).items():
            torch.testing.assert_close(stack.weights(number)[name].data, tensor.data, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("kind", ["lora", "pissa"])
def test_documents_trained_at_once_are_as_trained_alone(kind: str) -> None:
    assert_as_alone(kind, of_different_lengths(), ComputeSettings())


@pytest.mark.parametrize(
    "compute",
    [ComputeSettings(micro_batch_tokens=64), ComputeSettings(gradient_checkpointing=True)],
    ids=["small micro-batches", "checkpointing"],
)
def test_how_work_is_laid_out_changes_rounding_alone(compute: ComputeSettings) -> None:
    assert_as_alone("lora", of_different_lengths()[1:], compute, samples_per_step=3, schedule="linear")


def test_a_document_that_diverges_leaves_the_others_alone() -> None:
    """Its gradient is not a number, and reaches no weight of its neighbour."""
    documents = of_different_lengths()
    model = moved_model()
    stack = StackedLora(model, 2)
    with torch.no_grad():
        for weight in stack.weights(0).values():
            weight.fill_(torch.inf)
    courses = [
        Course(list(stack.weights(number).values()), documents[number], settings(), torch.Generator())
        for number in range(2)
    ]
    reports = finetune_together(
        model, stack, courses, compute=ComputeSettings(), share_prefixes=True, column_cost=0.0
    )
    assert isinstance(reports[0], TrainingError)
    one = moved_model()
    expected = alone(one, documents[1])
    assert isinstance(reports[1], FinetuneReport)
    assert reports[1].losses == pytest.approx(expected.losses, rel=1e-4)


def test_rows_of_several_documents_stand_in_one_micro_batch_and_share_none() -> None:
    same = mixed_samples()
    batches = joint_micro_batches([same, same], 100_000, share_prefixes=True)
    assert sum(len(batch.samples) for batch in batches) == 2 * len(same)
    for batch in batches:
        assert batch.documents is not None
        assert batch.documents.bincount().tolist() == [len(batch.input_ids) // 2] * 2


def test_what_is_no_plain_lora_is_refused_in_one_line() -> None:
    for kind in ("dora", "gated_memory", "weights"):
        with pytest.raises(AdapterError, match="plain LoRA of linear layers, got"):
            StackedLora(adapted_model(kind), 2)
