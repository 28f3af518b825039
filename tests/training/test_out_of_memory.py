"""What fine-tuning does when memory runs out, and when numbers do: the result is the same, or there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from lift_eval.errors import TrainingError
from lift_eval.recipe import ComputeSettings, TrainingSettings
from lift_eval.training.finetune import FinetuneReport, finetune
from lift_eval.training.samples import Sample
from tests.adapters.helpers import trainable
from tests.training.samples import NOTHING, mixed_samples, moved_model, tokens


def run(model: Any, samples: list[Sample], steps: int = 3, **training: object) -> FinetuneReport:
    return finetune(
        model,
        [samples] * steps,
        TrainingSettings(**{"learning_rate": 1e-2, **training}),
        compute=ComputeSettings(micro_batch_tokens=4096),
        share_prefixes=True,
        generator=torch.Generator().manual_seed(0),
    )


def limit_memory(model: Any, tokens_at_once: Callable[[bool], int]) -> list[int]:
    """Let every forward pass of more tokens than that run out of memory, in the last layer; note all sizes."""
    seen: list[int] = []
    layers = model.get_base_model().base_model.layers

    def check(layer: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        size = inputs[0].shape[:2].numel()
        seen.append(size)
        if size > tokens_at_once(bool(layer.gradient_checkpointing)):
            raise torch.OutOfMemoryError(f"{size} tokens")

    layers[-1].register_forward_pre_hook(check)
    return seen


def assert_same_training(found: tuple[Any, FinetuneReport], expected: tuple[Any, FinetuneReport]) -> None:
    assert found[1].losses == pytest.approx(expected[1].losses, rel=1e-5)
    for name, tensor in trainable(expected[0]).items():
        torch.testing.assert_close(trainable(found[0])[name], tensor, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("most", [20, 60, 80])
def test_micro_batches_are_halved_until_they_fit_and_nothing_else_changes(most):
    free, limited = moved_model(), moved_model()
    samples = [*mixed_samples(), *(Sample(NOTHING, tokens(10, seed)) for seed in range(20, 26))]
    samples = [sample for sample in samples if sample.tokens <= most]
    expected = run(free, samples)
    seen = limit_memory(limited, lambda _: most)
    report = run(limited, samples)
    assert_same_training((limited, report), (free, expected))
    assert max(seen) > most
    assert report.micro_batch_tokens < expected.micro_batch_tokens == 4096
    assert not report.gradient_checkpointing
    failures = [size for size in seen if size > most]
    assert failures == sorted(failures, reverse=True)  # the smaller size is kept for the steps that follow


def test_checkpointing_comes_when_a_single_sample_does_not_fit():
    free, limited = moved_model(), moved_model()
    expected = run(free, mixed_samples())
    limit_memory(limited, lambda checkpointing: 64 if checkpointing else 30)
    report = run(limited, mixed_samples())
    assert_same_training((limited, report), (free, expected))
    assert report.gradient_checkpointing
    assert not any(getattr(module, "gradient_checkpointing", False) for module in limited.modules())


def test_what_never_fits_is_given_up():
    model = moved_model()
    limit_memory(model, lambda _: 5)
    with pytest.raises(torch.OutOfMemoryError):
        run(model, mixed_samples())
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_what_is_not_finite_ends_training_before_it_reaches_the_adapter(poison):
    model, steps = moved_model(), []
    handle = model.get_base_model().get_output_embeddings().register_forward_hook(
        lambda _, __, logits: logits * poison if len(steps) == 2 else None
    )  # fmt: skip

    def on_step(number: int, *_: object) -> None:
        steps.append({name: tensor.detach().clone() for name, tensor in trainable(model).items()})

    with pytest.raises(
        TrainingError, match=r"in step 3 at learning rate 0\.01; lower training\.learning_rate"
    ):
        finetune(
            model,
            [mixed_samples()] * 5,
            TrainingSettings(learning_rate=1e-2),
            compute=ComputeSettings(),
            share_prefixes=True,
            generator=torch.Generator(),
            on_step=on_step,
        )
    handle.remove()
    assert len(steps) == 2
    for name, tensor in trainable(model).items():
        assert torch.equal(tensor, steps[-1][name])
        assert tensor.isfinite().all()
