"""Every method of peft that fits one document, by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, PromptLearningConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

from lift_eval.adapters.attach import attach
from lift_eval.adapters.peft_method import OWN_TYPES, UNFIT
from lift_eval.adapters.state import trainable
from lift_eval.document import Document
from lift_eval.errors import AdapterError
from lift_eval.lifter.lifter import Lifter
from lift_eval.memory.fake_model import fake_model
from lift_eval.recipe import PeftSettings, load_recipe
from tests.adapters.helpers import logits, tokens
from tests.tiny_models import tiny_config, tiny_model, tiny_tokenizer

METHODS = {str(method.value): config for method, config in PEFT_TYPE_TO_CONFIG_MAPPING.items()}
VIRTUAL = sorted(
    name
    for name, config in METHODS.items()
    if issubclass(config, PromptLearningConfig) and name not in OWN_TYPES
)
FITTING = sorted(METHODS.keys() - {*VIRTUAL, *UNFIT, *OWN_TYPES})
# Where peft's defaults are made for larger models.
SMALL: dict[str, dict[str, Any]] = {
    "ADAPTION_PROMPT": {"adapter_len": 4, "adapter_layers": 2},
    "C3A": {"block_size": 16},
    "FOURIERFT": {"n_frequency": 50},
    "MISS": {"r": 4},
    "PSOFT": {"r": 4},
    "ROAD": {"group_size": 4},
    "SHIRA": {"r": 4},
    "TRAINABLE_TOKENS": {"token_indices": sorted(set(tiny_tokenizer()("lamp")["input_ids"]))},
    "VBLORA": {"vector_length": 8, "num_vectors": 16},
    "WAVEFT": {"n_frequency": 50},
}
LAMP = Document("The lamp was lit by Ann at nine. " * 8, "Lamp")
QUESTIONS = ["Who lit the lamp?", "When was the lamp lit?"]


def settings(method: str, **config: Any) -> PeftSettings:
    return PeftSettings(method=method, config=config or SMALL.get(method, {}))


def lifter(method: str, store: Path) -> Lifter:
    changes = {
        "adapter": settings(method).model_dump(), "precision.dtype": "float32", "decoding.max_new_tokens": 8,
        "training": {"segment_tokens": 64, "stride_tokens": 64, "context_epochs": 3, "learning_rate": 1e-2},
    }  # fmt: skip
    return Lifter(tiny_model(), tiny_tokenizer(), load_recipe("lora", changes), store=store)


@pytest.mark.parametrize("method", FITTING)
def test_a_document_is_trained_forgotten_stored_found_again_and_exported(method: str, tmp_path: Path) -> None:
    first, second = lifter(method, tmp_path / "store"), lifter(method, tmp_path / "store")
    before = {name: tensor.clone() for name, tensor in first.model.state_dict().items()}
    start = logits(first.model, tokens())
    with first.lift(LAMP) as lamp:
        assert lamp.record.losses[-1] < lamp.record.losses[0]
        learned = {name: tensor.detach().clone() for name, tensor in trainable(first.model).items()}
        trained, answers = logits(first.model, tokens()), lamp.answer(QUESTIONS)
        lamp.save(tmp_path / "exported")
    assert not torch.equal(trained, start)
    assert all(torch.equal(tensor, before[name]) for name, tensor in first.model.state_dict().items())
    assert torch.equal(logits(first.model, tokens()), start)
    with first.base_model():
        assert torch.equal(logits(first.model, tokens()), logits(tiny_model(), tokens()))
    with second.lift(LAMP) as lamp:
        assert lamp.record.reused_seconds
        assert all(torch.equal(tensor, learned[name]) for name, tensor in trainable(second.model).items())
        assert torch.equal(logits(second.model, tokens()), trained)
        assert lamp.answer(QUESTIONS) == answers
    plain = PeftModel.from_pretrained(tiny_model(), tmp_path / "exported").eval()
    torch.testing.assert_close(logits(plain, tokens()), trained, atol=1e-4, rtol=0)


@pytest.mark.parametrize("method", VIRTUAL)
def test_virtual_tokens_are_refused(method: str) -> None:
    with pytest.raises(
        AdapterError, match=f"'adapter.method: {method}' cannot .* shift all positions; use another"
    ):
        settings(method).check_settings()


@pytest.mark.parametrize("method", UNFIT)
def test_what_one_document_cannot_train_is_refused_with_the_reason(method: str) -> None:
    with pytest.raises(AdapterError, match=f"'adapter.method: {method}' cannot .* since {UNFIT[method]}"):
        settings(method).check_settings()


def test_methods_with_a_type_of_their_own_are_named_by_it() -> None:
    with pytest.raises(AdapterError, match=r"'adapter\.method: LORA' is adapter.type=lora"):
        settings("lora").check_settings()


@pytest.mark.parametrize(
    ("method", "config", "message"),
    [
        ("LOHAA", {}, r"'adapter.method' must be a method of peft \S+, got 'LOHAA'; did you mean 'LOHA'\?"),
        (
            "oft",
            {"r": 2, "blocksize": 4},
            r"unknown key 'adapter.config.blocksize' .*did you mean 'oft_block_size'\?",
        ),
        ("OFT", {"task_type": "SEQ_CLS"}, "unknown key 'adapter.config.task_type'"),
        ("DELORA", {"r": -1}, "'adapter.config' is refused by peft's DELORA|does not fit"),
    ],
)
def test_wrong_settings_are_refused_before_a_model_is_looked_for(
    method: str, config: dict[str, Any], message: str
) -> None:
    recipe = load_recipe("lora", {"adapter": {"type": "peft", "method": method, "config": config}})
    with pytest.raises(AdapterError, match=message):
        Lifter.from_pretrained("./nowhere", recipe)


@pytest.mark.parametrize(
    ("method", "config"),
    [
        ("MISS", {"r": 64}),
        ("IA3", {"target_modules": ["nothing"], "feedforward_modules": []}),
        ("ADAPTION_PROMPT", {}),
    ],
)
def test_settings_that_do_not_fit_the_model_are_refused_in_one_line(
    method: str, config: dict[str, Any]
) -> None:
    with pytest.raises(
        AdapterError, match=r"'peft' does not fit LlamaForCausalLM: .*; set adapter\.config to what fits"
    ):
        attach(tiny_model(), PeftSettings(method=method, config=config), seed=0)


def test_memory_is_predicted_where_the_adapter_needs_no_weights() -> None:
    recipe = load_recipe("lora", {"adapter": settings("OFT").model_dump()})
    made = fake_model(tiny_config("llama"), recipe, torch.device("cpu"))
    real = attach(tiny_model(), recipe.adapter, seed=0)
    assert {name: tensor.shape for name, tensor in trainable(made).items()} == {
        name: tensor.shape for name, tensor in trainable(real).items()
    }
    needing = load_recipe("lora", {"adapter": settings("BOFT").model_dump()})
    with pytest.raises(AdapterError, match="memory cannot be predicted with adapter 'peft'"):
        fake_model(tiny_config("llama"), needing, torch.device("cpu"))
