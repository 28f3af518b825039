"""On every architecture prompts that begin alike answer as alone, and what they begin with is read once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from lift_eval.answering import copied_prefix
from lift_eval.answering.copied_prefix import CopiedPrefix
from lift_eval.answering.generate import Decoding, answer
from tests.adapters.helpers import adapted_model
from tests.tiny_models import COMMON, tiny_model, tiny_tokenizer
from tests.training.samples import tokens

ATTENTION = ["mistral", "gemma2", "gemma3"]
RECURRENT: dict[str, dict[str, Any]] = {
    "mamba": {"state_size": 8},
    "mamba2": {"state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 1, "chunk_size": 8},
    "jamba": {
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "mamba_d_state": 8,
        "mamba_dt_rank": 4,
        "num_experts": 1,
        "num_experts_per_tok": 1,
        "use_mamba_kernels": False,
    },
    "qwen3_next": {
        "head_dim": 16,
        "layer_types": ["linear_attention", "full_attention"],
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "num_experts": 0,
    },
    "lfm2": {"layer_types": ["conv", "full_attention"], "block_multiple_of": 16},
}
TOKENIZER = tiny_tokenizer()
BEGINNING = tokens(100, 7).tolist()
ASKED = [[*BEGINNING, *tokens(2 + 5 * number % 11, number).tolist()] for number in range(6)]
"""Questions behind one text."""
CUT = [
    [*BEGINNING, *tokens(70, 50 + number // 2).tolist(), *tokens(4 + number % 2, number).tolist()]
    for number in range(6)
]
"""Questions behind a text that was cut at three places."""


def any_model(architecture: str) -> Any:
    if architecture not in RECURRENT:
        return tiny_model(architecture)
    config = AutoConfig.for_model(architecture, **{**COMMON, **RECURRENT[architecture]})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return model.eval()


def read_by(model: Any, prompts: list[list[int]], decoding: Decoding, batch: int) -> tuple[list, int]:
    """Answers, and how many tokens the model has read for them."""
    read: list[int] = []
    hook = model.register_forward_pre_hook(
        lambda _, __, given: read.append(given["input_ids"].numel()), with_kwargs=True
    )
    answers = answer(model, TOKENIZER, prompts, decoding, batch=batch)
    hook.remove()
    return answers, sum(read)


@pytest.mark.parametrize("architecture", [*ATTENTION, *RECURRENT])
def test_prompts_that_begin_alike_answer_as_alone(architecture):
    model, decoding = any_model(architecture), Decoding(6)
    for prompts, lengths in ((ASKED, 100), (CUT, 100 + 3 * 70)):
        alone = [answer(model, TOKENIZER, [prompt], decoding, batch=1)[0] for prompt in prompts]
        found, read = read_by(model, prompts, decoding, 16)
        assert found == alone
        assert len({one.text for one in alone}) > 3
        beginnings, rests = (
            lengths,
            sum(len(prompt) for prompt in prompts) - (600 if prompts is ASKED else 1020),
        )
        assert read <= beginnings + rests + len(prompts) * 6 + 3 * 10
        assert read_by(model, prompts, decoding, 2)[0] == alone


@pytest.mark.parametrize("options", [{"repetition_penalty": 1.5}, {"do_sample": True, "top_k": 1}])
@pytest.mark.parametrize("architecture", ["llama", "gemma3", "mamba"])
def test_other_ways_to_choose_tokens_choose_the_same(architecture, options):
    model, decoding = any_model(architecture), Decoding(6, options=options)
    alone = [answer(model, TOKENIZER, [prompt], decoding, batch=1)[0] for prompt in ASKED]
    found, read = read_by(model, ASKED, decoding, 16)
    assert found == alone
    sees_prompts = architecture != "mamba"  # it does not, where they are read already
    assert (read < 2 * len(BEGINNING)) == (sees_prompts or "do_sample" in options)


def test_an_adapter_and_stop_strings_count_as_ever():
    model = adapted_model("lora", "mistral")
    (free,) = answer(model, TOKENIZER, ASKED[:1], Decoding(8), batch=1)
    decoding = Decoding(8, (free.text[3:5],))
    alone = [answer(model, TOKENIZER, [prompt], decoding, batch=1)[0] for prompt in ASKED]
    assert answer(model, TOKENIZER, ASKED, decoding, batch=16) == alone


def test_recurrent_layers_that_forget_what_was_before_are_read_by_the_token():
    pieces = {name: copied_prefix._piece(any_model(name), BEGINNING[:10]) for name in RECURRENT}
    assert pieces == {
        "mamba": 1,
        "mamba2": copied_prefix.CHUNK,
        "jamba": 1,
        "qwen3_next": copied_prefix.CHUNK,
        "lfm2": copied_prefix.CHUNK,
    }


@pytest.mark.parametrize("architecture", ["gemma3", "jamba"])
def test_a_short_prompt_among_them_answers_as_alone(architecture):
    model, prompts = any_model(architecture), [[5, 6, 7], *ASKED[:2], ASKED[0], *CUT[:2]]
    alone = [answer(model, TOKENIZER, [prompt], Decoding(4), batch=1)[0] for prompt in prompts]
    assert answer(model, TOKENIZER, prompts, Decoding(4), batch=16) == alone
    prompts[1:] = [tokens(90, 3).tolist()] * 2  # nothing is shared by all
    alone = [answer(model, TOKENIZER, [prompt], Decoding(4), batch=1)[0] for prompt in prompts]
    assert answer(model, TOKENIZER, prompts, Decoding(4), batch=16) == alone


def test_prompts_that_begin_unlike_each_other_are_read_together():
    apart = [tokens(80, number).tolist() for number in range(3)]
    assert CopiedPrefix.of(tiny_model("mistral"), apart, plain=True) is None
    assert CopiedPrefix.of(tiny_model("mistral"), [[1], [1]], plain=True) is None


def test_a_cache_of_another_kind_is_not_copied(monkeypatch):
    monkeypatch.setattr(copied_prefix, "_COPIED_LAYERS", {"DynamicLayer"})
    model = tiny_model("gemma3")
    assert CopiedPrefix.of(model, ASKED, plain=True) is None
    alone = [answer(model, TOKENIZER, [prompt], Decoding(4), batch=1)[0] for prompt in ASKED]
    assert answer(model, TOKENIZER, ASKED, Decoding(4), batch=16) == alone
