"""Attaching adapters, and training with them, on every architecture."""

from __future__ import annotations

import pytest
import torch

from lift_eval.adapters.attach import attach, unadapted
from lift_eval.adapters.state import AdapterState
from lift_eval.errors import AdapterError
from lift_eval.recipe import NoAdapter, PissaSettings
from tests.adapters.helpers import ADAPTERS, adapted_model, logits, settings, tokens, train, trainable
from tests.tiny_models import ARCHITECTURES, tiny_model


@pytest.mark.parametrize("checkpointing", [False, True], ids=["stored", "checkpointed"])
@pytest.mark.parametrize("kind", [*ADAPTERS, "dora"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_training_moves_every_trainable_tensor(architecture: str, kind: str, checkpointing: bool) -> None:
    model = adapted_model(kind, architecture)
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    frozen = {name: tensor.clone() for name, tensor in model.named_parameters() if not tensor.requires_grad}
    before = {name: tensor.detach().clone() for name, tensor in trainable(model).items()}
    assert before
    # Two steps, since one of the two maps of a LoRA starts as zero and hides the other from the first gradient.
    losses = train(model, tokens())
    assert losses[1] < losses[0]
    unmoved = [name for name, tensor in trainable(model).items() if torch.equal(tensor, before[name])]
    assert unmoved == []
    parameters = dict(model.named_parameters())
    assert all(torch.equal(parameters[name], tensor) for name, tensor in frozen.items())


@pytest.mark.parametrize("kind", ADAPTERS)
def test_bf16_base_trains_a_float32_adapter(kind: str) -> None:
    model = adapted_model(kind, dtype=torch.bfloat16)
    before = {name: tensor.detach().clone() for name, tensor in trainable(model).items()}
    assert {tensor.dtype for tensor in before.values()} == {torch.float32}
    train(model, tokens())
    assert not any(torch.equal(tensor, before[name]) for name, tensor in trainable(model).items())


@pytest.mark.parametrize("kind", ADAPTERS)
def test_weights_follow_from_the_seed_alone(kind: str) -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    first = AdapterState.capture(adapted_model(kind, seed=1)).tensors
    assert torch.equal(torch.rand(3), expected), "the global random state must not change"
    second = AdapterState.capture(adapted_model(kind, seed=1)).tensors
    assert all(torch.equal(first[name], second[name]) for name in first)
    if kind not in ("pissa", "weights"):  # whose start follows from the weights
        other = AdapterState.capture(adapted_model(kind, seed=2)).tensors
        assert any(not torch.equal(first[name], other[name]) for name in first)


def test_fast_pissa_follows_from_the_seed() -> None:
    adapter = PissaSettings(rank=4, alpha=4, iterations=2, targets=("q_proj",))
    first, second = (AdapterState.capture(attach(tiny_model(), adapter, seed=3)).tensors for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_no_adapter_is_the_model_itself() -> None:
    model = tiny_model()
    assert attach(model, NoAdapter(), seed=0) is model
    with unadapted(model, AdapterState.capture(model), NoAdapter()):
        pass


@pytest.mark.parametrize("kind", ADAPTERS)
@pytest.mark.parametrize("second", [NoAdapter(), PissaSettings(targets=("q_proj",))], ids=lambda it: it.type)
def test_a_model_takes_one_adapter(kind: str, second: NoAdapter | PissaSettings) -> None:
    """Else a second Lifter on the same model would answer from what the first one learns."""
    model = tiny_model()
    attach(model, settings(kind), seed=0)
    with pytest.raises(AdapterError, match="already has an adapter"):
        attach(model, second, seed=0)


@pytest.mark.parametrize("kind", ADAPTERS)
def test_unadapted_model_is_the_base_also_after_training(kind: str) -> None:
    inputs = tokens()
    expected = logits(tiny_model(), inputs)
    model = adapted_model(kind)
    initial = AdapterState.capture(model)
    train(model, inputs)
    trained = logits(model, inputs)
    assert not torch.allclose(trained, expected, atol=1e-3)
    with unadapted(model, initial, settings(kind)):
        base = logits(model, inputs)
    # PiSSA cuts the weights in two, whose sum is rounded.
    torch.testing.assert_close(base, expected, rtol=0, atol=1e-4 if kind == "pissa" else 0.0)
    assert torch.equal(logits(model, inputs), trained)


@pytest.mark.parametrize("kind", ADAPTERS)
def test_what_was_learned_comes_back_also_after_an_exception(kind: str) -> None:
    model, inputs = adapted_model(kind), tokens()
    initial = AdapterState.capture(model)
    train(model, inputs)
    trained = logits(model, inputs)

    def interrupted() -> None:
        with unadapted(model, initial, settings(kind)):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert torch.equal(logits(model, inputs), trained)
