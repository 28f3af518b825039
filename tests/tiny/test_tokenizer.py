"""The bundled tokenizer: exact on any text, one token per word of the world."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lift_eval.tiny import prompts, tokenizer, world

TOKENIZER = tokenizer.build()


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_any_text_comes_back_unchanged(text):
    assert TOKENIZER.decode(TOKENIZER(text).input_ids) == text


@pytest.mark.parametrize(
    "text", ["Two  spaces\n\nand a tab\t.", "naïve — 東京 🙂", "", " leading", "don't 1850s"]
)
def test_awkward_texts_come_back_unchanged(text):
    assert TOKENIZER.decode(TOKENIZER(text).input_ids) == text


def test_every_word_of_the_world_is_one_token():
    for word in tokenizer.vocabulary():
        if word.isalnum():
            assert len(TOKENIZER(f" {word}").input_ids) == 1, word


def test_a_document_takes_hardly_more_tokens_than_it_has_words():
    document = next(iter(world.documents("test")))
    tokens = TOKENIZER(document.article.text, verbose=False).input_ids
    assert len(tokens) < 1.15 * len(document.article.text.split())


def test_an_answer_after_the_prompt_does_not_change_the_prompts_tokens():
    prompt = prompts.QUESTION.format(question="Where was Mara Ashwood born?")
    alone = TOKENIZER(prompt).input_ids
    assert TOKENIZER(f"{prompt} Brenford").input_ids == [*alone, *TOKENIZER(" Brenford").input_ids]
    written = prompts.GENERATION.format(passage="Mara Ashwood was born in Brenford.")
    pair = prompts.PAIR.format(question="Where was Mara Ashwood born?", answer="Brenford")
    assert TOKENIZER(written + pair).input_ids == [*TOKENIZER(written).input_ids, *TOKENIZER(pair).input_ids]


def test_the_ellipsis_of_truncation_is_one_token():
    assert len(TOKENIZER(prompts.ELLIPSIS).input_ids) == 1
