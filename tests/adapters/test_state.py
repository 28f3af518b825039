"""Resetting adapters bit for bit."""

from __future__ import annotations

import pytest
import torch

from lift_eval.adapters.state import AdapterState
from lift_eval.errors import AdapterError
from tests.adapters.helpers import ADAPTERS, adapted_model, logits, tokens, train, trainable
from tests.tiny_models import ARCHITECTURES, tiny_model


@pytest.mark.parametrize("kind", [*ADAPTERS, "dora"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_reset_is_exact_after_training(architecture: str, kind: str) -> None:
    model, inputs = adapted_model(kind, architecture), tokens()
    expected = logits(model, inputs)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    initial = AdapterState.capture(model)
    train(model, inputs)
    assert not torch.equal(logits(model, inputs), expected)
    initial.restore(model)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(logits(model, inputs), expected)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["stored", "checkpointed"])
@pytest.mark.parametrize("moment", ["forward", "backward"])
@pytest.mark.parametrize("kind", ADAPTERS)
def test_reset_is_exact_after_a_failure(kind: str, moment: str, checkpointing: bool) -> None:
    model, inputs = adapted_model(kind), tokens()
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    expected = logits(model, inputs)
    initial = AdapterState.capture(model)
    train(model, inputs)

    def fail(*_: object) -> None:
        raise MemoryError("out of memory")

    mlp = model.get_base_model().model.layers[1].mlp
    register = mlp.register_forward_hook if moment == "forward" else mlp.register_full_backward_hook
    fault = register(fail)
    with pytest.raises(MemoryError):
        train(model, inputs)
    fault.remove()
    initial.restore(model)
    assert all(tensor.grad is None for tensor in trainable(model).values())
    assert torch.equal(logits(model.eval(), inputs), expected)
    assert train(model, inputs)[1] > 0  # and it trains as before
    initial.restore(model)
    assert torch.equal(logits(model, inputs), expected)


@pytest.mark.parametrize("kind", ADAPTERS)
def test_second_training_repeats_the_first(kind: str) -> None:
    model, inputs = adapted_model(kind), tokens()
    initial = AdapterState.capture(model)
    first = train(model, inputs, steps=3)
    initial.restore(model)
    assert train(model, inputs, steps=3) == first


def test_restoring_writes_into_the_tensors_that_are_there() -> None:
    model = adapted_model("lora")
    places = {name: tensor.data_ptr() for name, tensor in trainable(model).items()}
    state = AdapterState.capture(model)
    assert not {tensor.data_ptr() for tensor in state.tensors.values()} & set(places.values())
    train(model, tokens())
    state.restore(model)
    assert {name: tensor.data_ptr() for name, tensor in trainable(model).items()} == places


def test_what_was_learned_can_be_kept_and_put_back() -> None:
    model, inputs = adapted_model("gated_memory"), tokens()
    initial = AdapterState.capture(model)
    train(model, inputs)
    learned, expected = AdapterState.capture(model), logits(model, inputs)
    initial.restore(model)
    learned.restore(model)
    assert torch.equal(logits(model, inputs), expected)


def test_state_is_whole_also_while_the_adapter_is_disabled() -> None:
    model = adapted_model("lora")
    with model.disable_adapter():
        disabled = AdapterState.capture(model)
    assert list(disabled.tensors) == list(AdapterState.capture(model).tensors)


def test_state_of_another_adapter_is_refused_and_nothing_is_written() -> None:
    model = adapted_model("lora")
    before = AdapterState.capture(model)
    for other in (adapted_model("gated_memory"), adapted_model("lora", "qwen3"), tiny_model()):
        with pytest.raises(AdapterError, match="same adapter on the same model"):
            AdapterState.capture(other).restore(model)
    after = AdapterState.capture(model)
    assert all(torch.equal(after.tensors[name], tensor) for name, tensor in before.tensors.items())


def test_the_search_is_for_the_model_it_was_made_in() -> None:
    """A state remembers where it was copied from, and still fits another model with the same adapter."""
    model, other, inputs = adapted_model("lora"), adapted_model("lora"), tokens()
    initial = AdapterState.capture(model)
    expected = logits(model, inputs)
    for each in (model, other):
        train(each, inputs)
        assert not torch.equal(logits(each, inputs), expected)
        initial.restore(each)
        assert torch.equal(logits(each, inputs), expected)


def test_other_values_of_some_tensors() -> None:
    model, inputs = adapted_model("lora"), tokens()
    initial = AdapterState.capture(model)
    train(model, inputs)
    expected = logits(model, inputs)
    learned = {name: tensor.detach().clone() for name, tensor in trainable(model).items()}
    initial.restore(model)
    initial.updated(learned).restore(model)
    assert torch.equal(logits(model, inputs), expected)
    with pytest.raises(AdapterError, match="missing in the model"):
        initial.updated({"more": torch.zeros(1)}).restore(model)
