"""The fine-tuning loop: the step, the optimizer's settings, the schedule, and how it leaves the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from lift_eval.recipe import ComputeSettings, TrainingSettings
from lift_eval.training.finetune import FinetuneReport, finetune, learning_rate_factor, steps_of
from lift_eval.training.samples import Sample
from tests.adapters.helpers import adapted_model, trainable
from tests.training.samples import NOTHING, mixed_samples, moved_model, reference


def run(
    model: Any, epochs: list[list[Sample]], *, seed: int = 0, share: bool = True, on_step: Any = None,
    micro_batch_tokens: int = 8192, gradient_checkpointing: bool = False, **training: object,
) -> FinetuneReport:  # fmt: skip
    return finetune(
        model,
        epochs,
        TrainingSettings(**training),
        compute=ComputeSettings(
            micro_batch_tokens=micro_batch_tokens, gradient_checkpointing=gradient_checkpointing
        ),
        share_prefixes=share,
        generator=torch.Generator().manual_seed(seed),
        on_step=on_step,
    )


@contextmanager
def optimizer_steps() -> Iterator[list[dict[str, Any]]]:
    """The first parameter group of every optimizer step inside, as it is when the step is taken."""
    seen: list[dict[str, Any]] = []

    def keep(optimizer: torch.optim.Optimizer, *_: object) -> None:
        group = optimizer.param_groups[0]
        seen.append(
            {"kind": type(optimizer), **{key: value for key, value in group.items() if key != "params"}}
        )

    handle = register_optimizer_step_pre_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


# --- the step ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("micro_batch_tokens", [1, 64, 8192])
def test_a_gathered_epoch_is_one_step_on_the_mean_over_all_its_supervised_tokens(micro_batch_tokens):
    """Against AdamW on the gradient of `reference`, which takes the samples one at a time."""
    samples = mixed_samples()
    ours, theirs = moved_model().double(), moved_model().double()
    report = run(ours, [samples] * 3, learning_rate=1e-2, micro_batch_tokens=micro_batch_tokens)

    optimizer = torch.optim.AdamW(
        trainable(theirs).values(), lr=1e-2, betas=(0.9, 0.98), eps=1e-8, weight_decay=1e-4
    )
    losses = []
    for _ in range(3):
        loss, gradients = reference(theirs, samples)
        for name, tensor in trainable(theirs).items():
            tensor.grad = gradients[name]
        torch.nn.utils.clip_grad_norm_(trainable(theirs).values(), 1.0)
        optimizer.step()
        losses.append(loss)
    assert report.losses == pytest.approx(losses, rel=1e-4)
    for name, tensor in trainable(ours).items():
        torch.testing.assert_close(tensor, trainable(theirs)[name], rtol=1e-3, atol=1e-5)


def test_the_report_counts_tokens_of_all_steps():
    samples = mixed_samples()
    report = run(moved_model(), [samples, samples[:2]])
    assert report.tokens == sum(s.tokens for s in samples) + sum(s.tokens for s in samples[:2])
    assert report.supervised == sum(s.supervised for s in samples) + sum(s.supervised for s in samples[:2])
    assert len(report.losses) == 2
    assert report.seconds > 0


def test_gradients_are_clipped_to_the_norm_asked_for():
    moved = []
    for norm in (1e-9, 1.0):
        model = moved_model()
        before = {name: tensor.detach().clone() for name, tensor in trainable(model).items()}
        run(model, [mixed_samples()], max_grad_norm=norm, weight_decay=0.0, eps=1e-3, learning_rate=1e-3)
        moved.append(max((t - before[name]).abs().max().item() for name, t in trainable(model).items()))
    assert moved[0] < moved[1] / 1000


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", ["lora", "gated_memory"])
def test_every_trainable_tensor_moves(kind, checkpointing):
    """Reentrant checkpointing behind frozen embeddings trains one tensor of fourteen, silently."""
    model = adapted_model(kind)
    before = {name: tensor.detach().clone() for name, tensor in trainable(model).items()}
    run(
        model, [mixed_samples()] * 3, learning_rate=1e-2, weight_decay=0.0, gradient_checkpointing=checkpointing
    )  # fmt: skip
    still = [name for name, tensor in trainable(model).items() if torch.equal(tensor, before[name])]
    assert still == []


@pytest.mark.parametrize("kind", ["lora", "gated_memory"])
def test_checkpointing_changes_memory_only(kind):
    losses = [
        run(adapted_model(kind), [mixed_samples()] * 3, learning_rate=1e-2, gradient_checkpointing=on).losses
        for on in (False, True)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_training_lowers_the_loss():
    losses = run(adapted_model("lora"), [mixed_samples()] * 12, learning_rate=3e-2).losses
    assert losses[-1] < losses[0] - 0.5


def test_nothing_to_train_on_is_no_step():
    model = moved_model()
    before = {name: tensor.detach().clone() for name, tensor in trainable(model).items()}
    assert run(model, [[], []]).losses == []
    assert all(torch.equal(tensor, before[name]) for name, tensor in trainable(model).items())


# --- the optimizer and its schedule --------------------------------------------------------------------------------


def test_the_published_optimizer():
    with optimizer_steps() as steps:
        run(moved_model(), [mixed_samples()])
    (step,) = steps
    assert step["kind"] is torch.optim.AdamW
    assert (step["lr"], step["betas"], step["eps"], step["weight_decay"]) == (2e-4, (0.9, 0.98), 1e-8, 1e-4)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_the_schedule_spans_the_run_and_no_step_has_rate_zero(schedule):
    """Restarted in each stage, a warm-up leaves the first step of each stage at rate 0."""
    with optimizer_steps() as steps:
        run(moved_model(), [mixed_samples()[:2]] * 8, schedule=schedule, warmup_steps=4, learning_rate=1.0)
    rates = [step["lr"] for step in steps]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert all(rate > 0 for rate in rates)
    falling = rates[4:]
    assert falling == sorted(falling, reverse=True)
    expected = {
        "constant": [1, 1, 1, 1],
        "linear": [1, 0.75, 0.5, 0.25],
        "cosine": [1, 0.853553, 0.5, 0.146447],
    }
    assert falling == pytest.approx(expected[schedule], rel=1e-5)


def test_a_warm_up_in_each_stage_is_that_of_the_first_implementation():
    """Rates of the published LongBench runs: 3 + 5 gathered epochs at 2e-3, a warm-up of 4 steps in each stage."""
    warmup = {"learning_rate": 2.0, "warmup_steps": 4, "context_epochs": 3, "joint_epochs": 5}
    sums = {}
    for kind in ("per_stage", "run"):
        with optimizer_steps() as steps:
            run(moved_model(), [mixed_samples()[:2]] * 8, warmup=kind, **warmup)
        sums[kind] = [step["lr"] for step in steps]
    assert sums["per_stage"] == pytest.approx([0, 0.5, 1, 0, 0.5, 1, 1.5, 2])
    assert sum(sums["run"]) / sum(sums["per_stage"]) == pytest.approx(12 / 6.5)


def test_a_step_at_rate_zero_moves_no_weight_but_adams_moments():
    model = moved_model()
    before = {name: tensor.detach().clone() for name, tensor in trainable(model).items()}
    losses = run(model, [mixed_samples()], warmup="per_stage", warmup_steps=1, context_epochs=1).losses
    assert len(losses) == 1
    assert all(torch.equal(tensor, before[name]) for name, tensor in trainable(model).items())


def test_one_optimizer_serves_both_stages():
    """AdamW's moments are kept: the second epoch's first step is not a first step."""
    counts = []

    def keep(optimizer: torch.optim.Optimizer, *_: object) -> None:
        counts.append(max((int(state["step"]) for state in optimizer.state.values()), default=0))

    handle = register_optimizer_step_pre_hook(keep)
    run(moved_model(), [mixed_samples()[:2], mixed_samples()])
    handle.remove()
    assert counts == [0, 1]


def test_a_warm_up_longer_than_the_run_is_legal():
    settings = TrainingSettings(warmup_steps=10, schedule="linear")
    assert [learning_rate_factor(step, 3, settings) for step in range(3)] == pytest.approx(
        [1 / 11, 2 / 11, 3 / 11]
    )


@pytest.mark.parametrize(
    ("count", "size", "steps"), [(0, "all", 0), (7, "all", 1), (0, 3, 0), (7, 3, 3), (6, 3, 2), (2, 3, 1)]
)
def test_steps_of_an_epoch(count, size, steps):
    assert steps_of(count, size) == steps


# --- the order of samples ------------------------------------------------------------------------------------------


def order_of(seed: int) -> list[list[int]]:
    """The first tokens of the samples of each step of two epochs."""
    samples = [Sample(NOTHING, torch.tensor([number, number + 100])) for number in range(7)]
    model, seen = moved_model(), []
    embedding = model.get_base_model().get_input_embeddings()
    handle = embedding.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][:, 0].tolist()))
    run(model, [samples] * 2, seed=seed, samples_per_step=2)
    handle.remove()
    return seen


def test_each_epoch_takes_every_sample_once_in_an_order_of_the_seed():
    steps = order_of(0)
    assert [len(step) for step in steps] == [2, 2, 2, 1] * 2
    first, second = [[x for step in half for x in step] for half in (steps[:4], steps[4:])]
    assert sorted(first) == sorted(second) == list(range(7))
    assert [sorted(step) for step in steps[:4]] != [sorted(step) for step in steps[4:]]
    assert order_of(0) == steps
    assert order_of(1) != steps


def test_steps_are_told_as_they_are_taken():
    told: list[tuple[int, int, float]] = []
    report = run(
        moved_model(), [mixed_samples()] * 2, samples_per_step=3, on_step=lambda *step: told.append(step)
    )
    assert told == [(number, 6, loss) for number, loss in enumerate(report.losses, start=1)]


# --- how the model is left -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_in_evaluation_mode_without_gradients(fails, checkpointing):
    model = moved_model()

    def on_step(*_: object) -> None:
        assert model.training
        if fails:
            raise KeyboardInterrupt

    try:
        run(model, [mixed_samples()] * 2, on_step=on_step, gradient_checkpointing=checkpointing)
    except KeyboardInterrupt:
        assert fails
    assert not any(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(getattr(module, "gradient_checkpointing", False) for module in model.modules())


def test_a_failure_in_the_backward_pass_leaves_no_gradient():
    model = moved_model()
    tensor = next(iter(trainable(model).values()))
    handle = tensor.register_post_accumulate_grad_hook(lambda _: (_ for _ in ()).throw(RuntimeError("lost")))
    with pytest.raises(RuntimeError, match="lost"):
        run(model, [mixed_samples()])
    handle.remove()
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_frozen_weights_stay():
    model = adapted_model("lora")
    frozen = {n: p.detach().clone() for n, p in model.named_parameters() if not p.requires_grad}
    run(model, [mixed_samples()] * 2, learning_rate=1.0)
    for name, parameter in model.named_parameters():
        if name in frozen:
            assert torch.equal(parameter, frozen[name]), name
            assert not parameter.requires_grad


@pytest.mark.parametrize("kind", ["lora", "gated_memory"])
def test_a_half_precision_base_trains_a_float32_adapter(kind):
    model = adapted_model(kind, dtype=torch.bfloat16)
    losses = run(model, [mixed_samples()] * 12, learning_rate=3e-2).losses
    assert losses[-1] < losses[0] - 0.3
    assert {tensor.dtype for tensor in trainable(model).values()} == {torch.float32}
