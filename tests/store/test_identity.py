"""Whatever could change a result changes the identity; nothing else does."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from lift_eval.adapters.quantization import quantize
from lift_eval.store import answers_key, base_identity, run_identity
from tests.tiny_models import save_checkpoint, tiny_model, tiny_tokenizer

DECODING = {"adapted": True, "max_new_tokens": 5, "stop": ("\n",), "options": {}}


def run_of(tokenizer, *, base="base", digest="digest", window=100):
    return run_identity(base, tokenizer, recipe_digest=digest, window=window)


def test_the_same_weights_have_one_identity_wherever_they_came_from(tmp_path):
    folder = save_checkpoint(tmp_path / "one")
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    (tmp_path / "one").rename(tmp_path / "two")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "two", dtype=torch.float32)
    assert base_identity(loaded) == base_identity(again)
    assert base_identity(tiny_model()) == base_identity(tiny_model())


def test_one_changed_weight_changes_the_identity():
    model = tiny_model()
    before = base_identity(model)
    weight = model.model.layers[1].mlp.down_proj.weight
    with torch.no_grad():
        weight[3, 5] = torch.nextafter(weight[3, 5], torch.tensor(torch.inf))
    assert base_identity(model) != before


def test_number_format_quantization_and_configuration_change_the_identity():
    models = [tiny_model(), tiny_model(dtype=torch.bfloat16), tiny_model("mistral"), tiny_model(seed=1)]
    rope, quantized, sampling = tiny_model(), tiny_model(), tiny_model()
    rope.config.rope_parameters = {"rope_type": "default", "rope_theta": 500000.0}
    quantize(quantized, BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4"))
    sampling.generation_config.repetition_penalty = 1.1
    assert len({base_identity(model) for model in (*models, rope, quantized, sampling)}) == 7


def test_scales_of_quantized_weights_count():
    model = tiny_model()
    quantize(model, BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4"))
    before = base_identity(model)
    model.model.layers[0].mlp.up_proj.weight.quant_state.absmax[0] *= 2
    assert base_identity(model) != before


def test_weights_that_are_not_in_memory_have_no_identity():
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(tiny_model().config)
    assert base_identity(model) is None


def test_a_run_is_told_apart_by_each_part():
    tokenizer = tiny_tokenizer()
    runs = [
        run_of(tokenizer),
        run_of(tiny_tokenizer(adds_bos=True)),
        run_of(tiny_tokenizer(chat_template=True)),
        run_of(tokenizer, base="other"),
        run_of(tokenizer, digest="other"),
        run_of(tokenizer, window=200),
    ]
    assert len(set(runs)) == len(runs)


def test_what_a_tokenizer_was_last_used_for_does_not_count():
    tokenizer = tiny_tokenizer()
    before = run_of(tokenizer)
    tokenizer(["a", "long one"], padding=True, truncation=True, max_length=4)
    assert run_of(tokenizer) == before


@pytest.mark.parametrize(
    "other",
    [
        {"adapter": "another"},
        {"prompts": [[1, 2], [3]]},
        {"prompts": [[1], [2, 3, 4]]},
        {"prompts": [[3, 4], [1, 2]]},
        {"adapted": False},
        {"max_new_tokens": 6},
        {"stop": ()},
        {"options": {"temperature": 0.5}},
    ],
)
def test_answers_are_told_apart_by_adapter_prompts_and_decoding(other):
    usual = {"adapter": "key", "prompts": [[1, 2], [3, 4]], **DECODING}
    assert answers_key(**usual) != answers_key(**{**usual, **other})
    assert answers_key(**usual) == answers_key(**usual)
