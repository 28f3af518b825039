"""The loss in chunks: the same loss and gradient whatever the chunk, for every kind of output embedding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from lift_eval.adapters.attach import attach
from lift_eval.models.loading import supports_prefix_sharing
from lift_eval.recipe import LoraSettings
from lift_eval.training import loss as loss_module
from lift_eval.training.batching import micro_batches
from lift_eval.training.finetune import column_cost_of
from lift_eval.training.loss import accumulate_gradient
from lift_eval.training.samples import Sample
from tests.adapters.helpers import trainable
from tests.tiny_models import ARCHITECTURES, VOCABULARY
from tests.training.samples import mixed_samples, moved_model, reference, tokens


def gradient(
    model: Any, samples: list[Sample], *, logits_at_once: int, size: int = 200
) -> tuple[float, dict]:
    supervised = sum(sample.supervised for sample in samples)
    batches = micro_batches(
        samples, size, share_prefixes=supports_prefix_sharing(model), column_cost=column_cost_of(model)
    )
    total = sum(
        accumulate_gradient(model, batch, supervised, logits_at_once=logits_at_once).item()
        for batch in batches
    )
    gradients = {name: tensor.grad.clone() for name, tensor in trainable(model).items()}
    model.zero_grad()
    return total, gradients


def assert_equal_to_reference(model: Any, found: tuple[float, dict], samples: list[Sample]) -> None:
    loss, gradients = reference(model, samples)
    assert found[0] == pytest.approx(loss, rel=1e-5)
    for name, expected in gradients.items():
        torch.testing.assert_close(found[1][name], expected, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("positions", [1, 7, 1000])
@pytest.mark.parametrize("kind", ["lora", "gated_memory"])
def test_the_chunk_changes_neither_loss_nor_gradient(kind, positions):
    model = moved_model(kind)
    found = gradient(model, mixed_samples(), logits_at_once=positions * VOCABULARY)
    assert_equal_to_reference(model, found, mixed_samples())


@pytest.mark.parametrize("rows", [1, 5])
def test_how_many_logits_pass_through_the_loss_at_a_time_changes_no_gradient(rows, monkeypatch):
    model = moved_model()
    whole = gradient(model, mixed_samples(), logits_at_once=1000 * VOCABULARY)
    monkeypatch.setattr(loss_module, "LOGITS_IN_CACHE", rows * VOCABULARY)
    found = gradient(model, mixed_samples(), logits_at_once=1000 * VOCABULARY)
    assert found[0] == pytest.approx(whole[0], rel=1e-6)
    for name, expected in whole[1].items():
        torch.testing.assert_close(found[1][name], expected, rtol=0, atol=0, msg=name)


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_soft_caps_and_other_heads_are_the_models_own(architecture):
    model = moved_model("lora", architecture)
    found = gradient(model, mixed_samples(), logits_at_once=5 * VOCABULARY)
    assert_equal_to_reference(model, found, mixed_samples())


OTHERS = {
    "gpt2": {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4},
    "gpt_neox": {"model_type": "gpt_neox"},
    "cohere": {"model_type": "cohere", "logit_scale": 0.25},
    "granite": {"model_type": "granite", "logits_scaling": 8.0},
    "opt": {"model_type": "opt", "ffn_dim": 64, "word_embed_proj_dim": 32},
    "mixtral": {"model_type": "mixtral", "num_local_experts": 2},
    "olmo2": {"model_type": "olmo2"},
    "falcon": {"model_type": "falcon", "alibi": False},
}


@pytest.mark.parametrize("architecture", sorted(OTHERS))
def test_architectures_that_scale_or_wrap_their_logits(architecture):
    common = {
        "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "pad_token_id": 258,
        "bos_token_id": 256, "eos_token_id": 257,
    }  # fmt: skip
    torch.manual_seed(0)
    config = AutoConfig.for_model(**{**common, **OTHERS[architecture]})
    base = AutoModelForCausalLM.from_config(config).requires_grad_(False)
    model = attach(base, LoraSettings(rank=4, alpha=4, targets="all-linear", init=False), seed=0)
    found = gradient(model, mixed_samples(), logits_at_once=5 * VOCABULARY)
    assert_equal_to_reference(model, found, mixed_samples())


def test_no_more_logits_exist_at_a_time_than_allowed():
    model, shapes = moved_model(), []
    head = model.get_base_model().get_output_embeddings()
    head.register_forward_hook(lambda _, __, logits: shapes.append(logits.numel()))
    samples = [Sample(tokens(20), tokens(50, 1)), Sample(tokens(9), tokens(33, 1))]
    gradient(model, samples, logits_at_once=10 * VOCABULARY)
    assert sum(shapes) == (50 + 33) * VOCABULARY
    assert max(shapes) == 10 * VOCABULARY


def test_an_adapter_on_the_output_embedding_alone_is_trained():
    model = moved_model()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lm_head" in name)
    model.get_base_model().get_output_embeddings().weight.requires_grad_(True)
    found = gradient(model, mixed_samples(), logits_at_once=5 * VOCABULARY)
    assert found[1]
    assert_equal_to_reference(model, found, mixed_samples())


def test_a_model_whose_body_is_not_known_gets_its_logits_whole(monkeypatch):
    """Code that comes with a checkpoint may do anything around its body."""
    model = moved_model()
    monkeypatch.setattr(loss_module, "body_of", lambda _: None)
    found = gradient(model, mixed_samples(), logits_at_once=5 * VOCABULARY)
    assert_equal_to_reference(model, found, mixed_samples())
    base, expected = model.get_base_model(), reference(model, mixed_samples())
    forward = base.forward
    # One that cannot leave out logits, either.
    monkeypatch.setattr(base, "forward", lambda input_ids, **rest: forward(input_ids, **rest))
    found = gradient(model, mixed_samples(), logits_at_once=5 * VOCABULARY)
    assert found[0] == pytest.approx(expected[0], rel=1e-5)


def test_the_body_is_given_back_after_a_failure():
    model = moved_model()
    base = model.get_base_model()
    base.get_output_embeddings().register_forward_pre_hook(_fail)
    with pytest.raises(RuntimeError, match="head"):
        gradient(model, mixed_samples(), logits_at_once=1)
    assert "forward" not in vars(base.base_model)


def _fail(*_: object) -> None:
    raise RuntimeError("head")
