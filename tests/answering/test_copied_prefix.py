"""On every architecture prompts that begin alike answer as alone, and what they begin with is read once."""

from __future__ import annotations

from typing import Any

import pytest

from lift_eval.answering import copied_prefix
from lift_eval.answering.copied_prefix import CopiedPrefix
from lift_eval.answering.decoding import Decoding
from lift_eval.answering.generate import answer
from tests.adapters.helpers import adapted_model
from tests.answering.models import COPIED, RECURRENT, any_model
from tests.tiny_models import tiny_model, tiny_tokenizer
from tests.training.samples import tokens

TOKENIZER = tiny_tokenizer()
BEGINNING = tokens(100, 7).tolist()
ASKED = [[*BEGINNING, *tokens(2 + 5 * number % 11, number).tolist()] for number in range(6)]
"""Questions behind one text."""
CUT = [
    [*BEGINNING, *tokens(70, 50 + number // 2).tolist(), *tokens(4 + number % 2, number).tolist()]
    for number in range(6)
]
"""Questions behind a text that was cut at three places."""


def read_by(model: Any, prompts: list[list[int]], decoding: Decoding, batch: int) -> tuple[list, int]:
    """Answers, and how many tokens the model has read for them."""
    read: list[int] = []
    hook = model.register_forward_pre_hook(
        lambda _, __, given: read.append(given["input_ids"].numel()), with_kwargs=True
    )
    answers = answer(model, TOKENIZER, prompts, decoding, batch=batch)
    hook.remove()
    return answers, sum(read)


@pytest.mark.parametrize("architecture", COPIED)
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


def test_what_is_shared_with_prompts_of_later_batches_is_read_once():
    """Three prompts about each text, and two texts in a batch: the second one's goes on in the next batch."""
    model = any_model("gemma3")
    texts = [tokens(100 + number, 20 + number).tolist() for number in range(3)]
    prompts = [[*text, *tokens(4 + number, number).tolist()] for number in range(3) for text in texts]
    alone = [answer(model, TOKENIZER, [prompt], Decoding(4), batch=1)[0] for prompt in prompts]
    found, read = read_by(model, prompts, Decoding(4), 4)
    assert found == alone
    assert read < 303 + 9 * (6 + 4) + 20


def test_beams_that_the_generation_config_asks_for_read_every_prompt():
    model = tiny_model("gemma3")
    model.generation_config.num_beams = 2
    alone = [answer(model, TOKENIZER, [prompt], Decoding(4), batch=1)[0] for prompt in ASKED]
    assert answer(model, TOKENIZER, ASKED, Decoding(4), batch=16) == alone
