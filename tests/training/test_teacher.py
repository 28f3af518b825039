"""Distillation: the teacher's distribution and hidden states are learned, against a plain implementation."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lift_eval.adapters.attach import unadapted
from lift_eval.adapters.state import AdapterState
from lift_eval.errors import CheckpointError
from lift_eval.recipe import ComputeSettings, TrainingSettings
from lift_eval.training import teacher as teacher_module
from lift_eval.training.batching import micro_batches
from lift_eval.training.finetune import FinetuneReport, finetune
from lift_eval.training.samples import Sample
from lift_eval.training.teacher import Teacher, identity_of
from tests.adapters.helpers import adapted_model, settings, trainable
from tests.training.samples import NOTHING, tokens

TOP, TEMPERATURE, WEIGHT = 7, 2.0, 0.5


def samples() -> list[Sample]:
    """Halves, and answers behind prompts that begin alike, whose teacher reads another prompt."""
    shared = tokens(30, 1)
    return [
        Sample(NOTHING, tokens(17, 2), teacher_context=tokens(16, 3)),
        Sample(NOTHING, tokens(9, 4), teacher_context=tokens(8, 5)),
        Sample(torch.cat([shared, tokens(5, 6)]), tokens(3, 7), teacher_context=tokens(40, 8)),
        Sample(torch.cat([shared, tokens(8, 9)]), tokens(6, 10), teacher_context=tokens(50, 11)),
        Sample(NOTHING, tokens(2, 12), teacher_context=NOTHING),
    ]


def training(**changes: object) -> TrainingSettings:
    wanted = {
        "objective": "distillation",
        "samples": "halves",
        "teacher_top_k": TOP,
        "temperature": TEMPERATURE,
    }
    return TrainingSettings(**{**wanted, **changes})


def taught_model(kind: str = "lora") -> tuple[nn.Module, Any]:
    """A model whose adapter has left its initial state, and what lets it be its base."""
    model = adapted_model(kind)
    base = partial(unadapted, model, AdapterState.capture(model), settings(kind))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in trainable(model).values():
            tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.1)
    return model, base


def run(
    model: Any, base: Any, epochs: list[list[Sample]], tokens_at_once: int = 8192, **changes: object
) -> FinetuneReport:
    chosen = training(**changes)
    return finetune(
        model,
        epochs,
        chosen,
        compute=ComputeSettings(micro_batch_tokens=tokens_at_once, gradient_checkpointing=False),
        share_prefixes=True,
        teacher=Teacher(model, base, chosen),
        generator=torch.Generator().manual_seed(0),
    )


def plain(model: Any, base: Any, batch: list[Sample], weight: float) -> tuple[float, dict[str, Tensor]]:
    """Mean loss and its gradient, one sample at a time, all logits, no padding."""
    model.zero_grad()
    supervised = sum(sample.supervised for sample in batch)
    total = 0.0
    for sample in batch:
        count = sample.supervised
        with torch.no_grad(), base():
            ids = torch.cat([sample.teacher_context, sample.target])
            read = model(input_ids=ids[None], output_hidden_states=True)
            expected = (read.logits[0, -count - 1 : -1] / TEMPERATURE).softmax(-1)
            theirs = [state[0, -count - 1 : -1] for state in read.hidden_states]
        ids = torch.cat([sample.context, sample.target])
        found = model(input_ids=ids[None], output_hidden_states=True)
        log_probabilities = (found.logits[0, -count - 1 : -1] / TEMPERATURE).log_softmax(-1)
        most, places = expected.topk(TOP)
        loss = -(most * log_probabilities.gather(-1, places)).sum() / supervised
        ours = [state[0, -count - 1 : -1] for state in found.hidden_states]
        distances = [
            (one - two).abs().mean() / two.abs().mean() for one, two in zip(ours, theirs, strict=True)
        ]
        loss = loss + weight * torch.stack(distances).mean() * count / supervised
        loss.backward()
        total += loss.item()
    gradients = {name: tensor.grad.clone() for name, tensor in trainable(model).items()}
    model.zero_grad()
    return total, gradients


@pytest.mark.parametrize(
    ("kind", "weight", "tokens_at_once"),
    [
        ("lora", 0.0, 8192),
        ("lora", WEIGHT, 1),
        ("lora", WEIGHT, 64),
        ("lora", WEIGHT, 8192),
        ("pissa", WEIGHT, 64),  # its base is its initial state, which is put in between micro-batches
        ("gated_memory", WEIGHT, 64),
        ("weights", 0.0, 64),
    ],
)
def test_loss_and_gradient_are_those_of_a_plain_implementation(kind, weight, tokens_at_once, monkeypatch):
    model, base = taught_model(kind)
    loss, expected = plain(model, base, samples(), weight)
    found: dict[str, Tensor] = {}

    def keep(*_: object, **__: object) -> None:
        found.update({name: tensor.grad.clone() for name, tensor in trainable(model).items()})

    monkeypatch.setattr(torch.optim.AdamW, "step", keep)
    report = run(model, base, [samples()], tokens_at_once, hidden_state_weight=weight, max_grad_norm=1e9)
    assert report.losses == pytest.approx([loss], rel=1e-5)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("weight", [0.0, WEIGHT])
def test_checkpointing_and_the_number_of_logits_at_once_change_no_loss(weight, monkeypatch):
    losses = []
    for at_once in (1, 4, 1000):
        monkeypatch.setattr(teacher_module, "positions_at_once", lambda *_, at_once=at_once: at_once)
        losses.append(run(*taught_model(), [samples()] * 2, hidden_state_weight=weight).losses)
    chosen = training(hidden_state_weight=weight)
    model, base = taught_model()
    report = finetune(
        model,
        [samples()] * 2,
        chosen,
        compute=ComputeSettings(micro_batch_tokens=64, gradient_checkpointing=True),
        share_prefixes=True,
        teacher=Teacher(model, base, chosen),
        generator=torch.Generator().manual_seed(0),
    )
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[2] == pytest.approx(losses[0], rel=1e-5)
    assert report.losses == pytest.approx(losses[0], rel=1e-5)


def test_no_more_logits_of_the_teacher_exist_at_a_time_than_allowed(monkeypatch):
    monkeypatch.setattr(teacher_module, "positions_at_once", lambda _: 4)
    model, base = taught_model()
    rows: list[int] = []
    head = model.get_base_model().get_output_embeddings()
    head.register_forward_hook(
        lambda module, _, logits: None if module.training else rows.append(logits.shape[-2])
    )
    run(model, base, [samples()])
    assert max(rows) == 4
    assert sum(rows) == sum(sample.supervised for sample in samples())


def test_nothing_is_kept_of_a_sample_that_one_epoch_has():
    model, base = taught_model()
    teacher = Teacher(model, base, training())
    made = samples()
    made[0] = replace(made[0], once=True)
    for batch in micro_batches(made, 8192, share_prefixes=False):
        teacher.lesson(batch)
    assert set(teacher.said) == {identity_of(sample) for sample in made[1:]}


@pytest.mark.parametrize("weight", [0.0, WEIGHT])
def test_the_teachers_distribution_is_made_once_for_all_epochs(weight):
    model, base = taught_model()
    computed: list[int] = []
    head = model.get_base_model().get_output_embeddings()
    head.register_forward_hook(
        lambda module, _, logits: None if module.training else computed.append(logits.shape[-2])
    )
    anew = [[replace(sample, once=True) for sample in samples()] for _ in range(3)]
    run(model, base, anew, hidden_state_weight=weight)
    assert sum(computed) == 3 * sum(sample.supervised for sample in samples())
    computed.clear()
    run(model, base, [samples() for _ in range(3)], hidden_state_weight=weight)
    assert sum(computed) == sum(sample.supervised for sample in samples())


def test_what_a_teacher_says_is_known_by_all_that_it_reads_and_predicts():
    one = Sample(tokens(5, 1), tokens(3, 2), teacher_context=tokens(8, 3))
    assert identity_of(replace(one, context=tokens(9, 4))) == identity_of(one)  # the student's
    others = [
        replace(one, teacher_context=tokens(8, 4)),
        replace(one, target=tokens(3, 5)),
        replace(one, teacher_context=torch.cat([tokens(8, 3), one.target[:1]]), target=one.target[1:]),
    ]
    assert len({identity_of(sample) for sample in [one, *others]}) == 4


def test_the_student_comes_to_expect_what_its_teacher_does():
    model = adapted_model("lora")
    base = partial(unadapted, model, AdapterState.capture(model), settings("lora"))
    whole = {"temperature": 1.0, "teacher_top_k": 1000}
    losses = run(model, base, [samples()[:2]] * 40, learning_rate=1e-2, **whole).losses
    least = _entropy(model, base)
    assert losses[0] > losses[-1] > least
    assert losses[-1] - least < 0.5 * (losses[0] - least)


def _entropy(model: Any, base: Any) -> float:
    """The least cross entropy with the teacher: its own entropy."""
    total, supervised = 0.0, 0
    for sample in samples()[:2]:
        with torch.no_grad(), base():
            ids = torch.cat([sample.teacher_context, sample.target])
            logits = model(input_ids=ids[None]).logits[0, -sample.supervised - 1 : -1]
        total += float(torch.distributions.Categorical(logits=logits).entropy().sum())
        supervised += sample.supervised
    return total / supervised


def test_the_teacher_has_no_dropout_and_the_model_trains_on():
    model, base = taught_model()
    seen: list[bool] = []
    teacher = Teacher(model, base, training())
    model.get_base_model().register_forward_pre_hook(lambda module, _: seen.append(module.training))
    model.train()
    teacher.lesson(micro_batches(samples(), 8192, share_prefixes=False)[0])
    assert seen
    assert not any(seen)
    assert model.training


def test_states_of_a_model_of_unknown_code_are_refused(monkeypatch):
    model, base = taught_model()
    monkeypatch.setattr(teacher_module, "body_of", lambda _: None)
    with pytest.raises(CheckpointError, match=r"got LlamaForCausalLM; set training.hidden_state_weight=0"):
        Teacher(model, base, training(hidden_state_weight=1.0))
    run(model, base, [samples()])
