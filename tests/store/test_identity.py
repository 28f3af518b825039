"""Whatever could change a result changes the identity; nothing else does."""

from __future__ import annotations

import importlib
from dataclasses import asdict

import pytest
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from lift_eval.adapters.quantization import quantize
from lift_eval.answering.decoding import Decoding
from lift_eval.store import answers_key, base_identity, run_identity
from tests.tiny_models import save_checkpoint, tiny_model, tiny_tokenizer

MODULE = "lift_eval.lifter.lifter"


def run_of(tokenizer, *, base="base", settings="digest", window=100, module=MODULE):
    return run_identity(base, tokenizer, settings=settings, window=window, module=module)


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


def test_code_of_the_checkpoint_or_the_caller_counts(tmp_path, monkeypatch):
    """Weights say nothing about what a class of one's own does with them."""
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "modeling_mine.py"
    file.write_text("from transformers import LlamaForCausalLM\nclass Mine(LlamaForCausalLM): pass\n")
    model = tiny_model()
    library = base_identity(model)
    model.__class__ = importlib.import_module("modeling_mine").Mine
    mine = base_identity(model)
    assert mine not in (library, None)
    file.write_text(file.read_text() + "# another forward pass\n")
    assert base_identity(model) != mine


def test_buffers_that_no_checkpoint_holds_count():
    model = tiny_model()
    before = base_identity(model)
    model.model.rotary_emb.inv_freq *= 2
    assert base_identity(model) != before


def test_a_run_is_told_apart_by_each_part():
    tokenizer = tiny_tokenizer()
    runs = [
        run_of(tokenizer),
        run_of(tokenizer, base="other"),
        run_of(tokenizer, settings="other"),
        run_of(tokenizer, window=200),
        run_of(tokenizer, module="lift_eval.synthesis.synthesizer"),
    ]
    assert len(set(runs)) == len(runs)


def test_all_that_a_tokenizer_does_counts():
    """Its tokens, its template and the tokens that the template may name, and how it decodes."""
    usual = run_of(tiny_tokenizer())
    changed = [
        tiny_tokenizer(adds_bos=True),
        tiny_tokenizer(chat_template=True),
        *(tiny_tokenizer() for _ in range(3)),
    ]
    changed[2].pad_token = "<bos>"
    changed[3].clean_up_tokenization_spaces = not changed[3].clean_up_tokenization_spaces
    changed[4].add_tokens(["lamp"])
    assert len({usual, *map(run_of, changed)}) == 6


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
        {"decoding": asdict(Decoding(6, ("\n",)))},
        {"decoding": asdict(Decoding(5))},
        {"decoding": asdict(Decoding(5, ("\n",), {"temperature": 0.5}))},
    ],
)
def test_answers_are_told_apart_by_adapter_prompts_and_decoding(other):
    usual = {
        "adapter": "key",
        "prompts": [[1, 2], [3, 4]],
        "adapted": True,
        "decoding": asdict(Decoding(5, ("\n",))),
    }
    assert answers_key(**usual) != answers_key(**{**usual, **other})
    assert answers_key(**usual) == answers_key(**usual)
