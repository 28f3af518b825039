"""Two turns that are decoded together give the answers that they give one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from lift_eval.answering import copied_prefix, key_values
from lift_eval.answering import shared_prefix as branches
from lift_eval.answering.decoding import Answer, Decoding
from lift_eval.answering.generate import answer, converse
from tests.answering.models import COPIED, any_model
from tests.tiny_models import tiny_model, tiny_tokenizer
from tests.training.samples import tokens

TOKENIZER = tiny_tokenizer()
SAMPLED = Decoding(12, options={"do_sample": True})
CHUNKS = [tokens(100 + 9 * number, 40 + number).tolist() for number in range(3)]
APART = [[*chunk, *TOKENIZER("Ask.")["input_ids"]] for chunk in CHUNKS]
"""Each about a chunk of its own."""
TOGETHER = [
    [*CHUNKS[0], *TOKENIZER(f"Ask for a {kind}.")["input_ids"]] for kind in ("name", "number", "night")
]
"""All about one chunk, and alike behind it too."""
MIXED = [*APART, *TOGETHER]
ASKED = ("Why?", "Who", "So!", "yes", "How:", "@")


def asks_back(prompts: Sequence[list[int]]) -> Callable[[int, Answer], list[int] | None]:
    """Every prompt but the second is followed by one about the same chunk."""

    def follow(number: int, reply: Answer) -> list[int] | None:
        chunk = next(chunk for chunk in CHUNKS if prompts[number][: len(chunk)] == chunk)
        said = [*chunk, *TOKENIZER(f"{reply.text}! {ASKED[number]}")["input_ids"]]
        return said if number != 1 else None

    return follow


def one_after_the_other(model: Any, prompts: Sequence[list[int]], follow: Any) -> list[Any]:
    turns = []
    for number, prompt in enumerate(prompts):
        (first,) = answer(model, TOKENIZER, [prompt], SAMPLED, batch=1, seed=3 + number)
        ids = follow(number, first)
        second = answer(model, TOKENIZER, [ids], Decoding(12), batch=1)[0] if ids else None
        turns.append((first, second))
    return turns


@pytest.mark.parametrize("prompts", [APART, TOGETHER, MIXED], ids=["apart", "together", "mixed"])
@pytest.mark.parametrize("architecture", ["llama", "qwen3", *COPIED])
def test_turns_are_those_of_one_after_the_other(architecture, prompts):
    model, follow = any_model(architecture), asks_back(prompts)
    expected = one_after_the_other(model, prompts, follow)
    assert len({second.text for _, second in expected if second}) > 1
    for batch in (1, 2, 16):
        found = converse(model, TOKENIZER, prompts, SAMPLED, follow, batch=batch, seed=3)
        assert found == expected


def test_the_same_when_read_in_pieces_and_when_memory_must_grow(monkeypatch):
    monkeypatch.setattr(branches, "CHUNK", 7)
    monkeypatch.setattr(branches, "SPARE", 0)
    monkeypatch.setattr(key_values, "SPARE", 1)
    model, follow = tiny_model(), asks_back(MIXED)
    expected = one_after_the_other(model, MIXED, follow)
    assert converse(model, TOKENIZER, MIXED, SAMPLED, follow, batch=2, seed=3) == expected


def test_a_second_prompt_that_begins_otherwise_is_answered_too():
    model = tiny_model()

    def follow(number: int, reply: Answer) -> list[int]:
        return [*CHUNKS[number][: 50 if len(reply.text) > 1 else None], *TOKENIZER("Why?")["input_ids"]]

    expected = one_after_the_other(model, APART, follow)
    assert converse(model, TOKENIZER, APART, SAMPLED, follow, batch=16, seed=3) == expected


def test_no_prompts_have_no_turns():
    assert converse(tiny_model(), TOKENIZER, [], SAMPLED, asks_back([]), batch=2) == []


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("architecture", ["llama", *COPIED])
def test_what_both_prompts_begin_with_is_read_once(architecture, batch):
    model, read = any_model(architecture), []
    model.get_input_embeddings().register_forward_pre_hook(lambda _, ids: read.append(ids[0].numel()))
    for prompts, chunks in ((APART, CHUNKS), (TOGETHER, CHUNKS[:1])):
        read.clear()
        follow, asked = asks_back(prompts), sum(map(len, prompts))
        converse(model, TOKENIZER, prompts, Decoding(2), follow, batch=batch)
        beginnings = sum(map(len, chunks))
        firsts = asked - sum(map(len, CHUNKS if prompts is APART else CHUNKS[:1] * 3))
        # A first token comes with its prompt; then a token of each answer is read, and up to two behind it. Whether a
        # cache can be copied is tried by ten tokens, twice.
        seconds = 3 * (2 + 6 + len("! Why?"))
        assert beginnings + firsts <= sum(read) <= beginnings + firsts + seconds + 2 * 10


def test_turns_of_a_model_whose_cache_cannot_be_copied_are_read_in_full(monkeypatch):
    monkeypatch.setattr(copied_prefix, "_COPIED_LAYERS", set())
    model, follow = any_model("gemma3"), asks_back(MIXED)
    expected = one_after_the_other(model, MIXED, follow)
    assert converse(model, TOKENIZER, MIXED, SAMPLED, follow, batch=4, seed=3) == expected


@pytest.mark.parametrize("options", [{"repetition_penalty": 1.5}, {"num_beams": 2}])
@pytest.mark.parametrize("architecture", ["llama", "gemma3", "mamba"])
def test_only_messages_are_chosen_otherwise(architecture, options):
    model, follow = any_model(architecture), asks_back(APART)
    messages = answer(model, TOKENIZER, APART, decoding := Decoding(6, options=options), batch=1)
    turns = converse(model, TOKENIZER, APART, decoding, follow, batch=2)
    assert [first for first, _ in turns] == messages
    for number in (0, 2):
        ids = follow(number, messages[number])
        assert turns[number][1] == answer(model, TOKENIZER, [ids], Decoding(6), batch=1)[0]
