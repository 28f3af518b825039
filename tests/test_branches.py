"""Questions decoded as branches of one row give the answers that they give alone."""

from __future__ import annotations

import pytest
import torch

from lift_eval import answering
from lift_eval.answering import Decoding, answer
from lift_eval.branches import decodes_plainly
from tests.models import tiny_model, tiny_tokenizer
from tests.training.samples import moved_model, tokens

BEGINNING = tokens(300, 7).tolist()
PROMPTS = [[*BEGINNING, *tokens(3 + 5 * number % 11, number).tolist()] for number in range(9)]


@pytest.fixture
def branched(monkeypatch):
    """Counts how often branches are decoded."""
    calls = []
    whole = answering.decode_branches

    def counted(*args: object, **kwargs: object) -> list[list[int]]:
        calls.append(args)
        return whole(*args, **kwargs)

    monkeypatch.setattr(answering, "decode_branches", counted)
    return calls


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "phi3"])
def test_answers_are_those_of_one_at_a_time(architecture, attention, branched):
    model, tokenizer = tiny_model(architecture, attn_implementation=attention), tiny_tokenizer()
    decoding = Decoding(max_new_tokens=24)
    alone = [answer(model, tokenizer, [prompt], decoding, batch=1)[0] for prompt in PROMPTS]
    assert not branched
    assert answer(model, tokenizer, PROMPTS, decoding, batch=16) == alone
    assert len(branched) == 1
    assert len({one.text for one in alone}) > 1


@pytest.mark.parametrize("kind", ["lora", "gated_memory"])
def test_the_same_with_an_adapter(kind, branched):
    model, tokenizer = moved_model(kind).eval(), tiny_tokenizer()
    decoding = Decoding(max_new_tokens=16)
    alone = [answer(model, tokenizer, [prompt], decoding, batch=1)[0] for prompt in PROMPTS]
    assert answer(model, tokenizer, PROMPTS, decoding, batch=16) == alone
    assert branched


def test_every_branch_ends_for_itself(branched):
    """By a stop string, by an end token, or at the most tokens allowed; the others go on."""
    model, tokenizer = tiny_model(), tiny_tokenizer()
    free = answer(model, tokenizer, PROMPTS, Decoding(max_new_tokens=24), batch=16)
    stop = next(one.text[5:6] for one in free if len(one.text) > 5)
    decoding = Decoding(max_new_tokens=24, stop=(stop,))
    alone = [answer(model, tokenizer, [prompt], decoding, batch=1)[0] for prompt in PROMPTS]
    found = answer(model, tokenizer, PROMPTS, decoding, batch=16)
    assert found == alone
    assert {one.complete for one in found} == {True, False} or all(one.complete for one in found)
    assert not any(stop in one.text for one in found)

    widths: list[int] = []
    model.get_input_embeddings().register_forward_pre_hook(lambda _, ids: widths.append(ids[0].shape[1]))
    answer(model, tokenizer, PROMPTS, decoding, batch=16)
    assert widths[2] <= len(PROMPTS)
    assert widths[-1] < len(PROMPTS)  # finished branches have left


@pytest.mark.parametrize("setting", [{"repetition_penalty": 1.3}, {"no_repeat_ngram_size": 2}])
def test_other_ways_to_decode_are_left_to_generate(setting, branched):
    model, tokenizer = tiny_model(), tiny_tokenizer()
    answer(model, tokenizer, PROMPTS, Decoding(4, options=setting), batch=16)
    assert not branched
    for key, value in setting.items():
        setattr(model.generation_config, key, value)
    assert not decodes_plainly(model, {})
    answer(model, tokenizer, PROMPTS, Decoding(4), batch=16)
    assert not branched
    assert not decodes_plainly(model, {"do_sample": True})


def test_a_beginning_shorter_than_the_rests_is_not_branched(branched):
    model, tokenizer = tiny_model(), tiny_tokenizer()
    prompts = [[*BEGINNING[:100], *tokens(80, number).tolist()] for number in range(4)]
    decoding = Decoding(max_new_tokens=8)
    alone = [answer(model, tokenizer, [prompt], decoding, batch=1)[0] for prompt in prompts]
    assert answer(model, tokenizer, prompts, decoding, batch=16) == alone
    assert not branched


def test_half_precision_runs():
    model, tokenizer = tiny_model(dtype=torch.bfloat16), tiny_tokenizer()
    assert len(answer(model, tokenizer, PROMPTS, Decoding(4), batch=16)) == len(PROMPTS)
