"""The marks around a reasoning model's thinking."""

from __future__ import annotations

import pytest

from lift_eval.answering.thinking import Thinking, without_thinking
from lift_eval.errors import RecipeError
from tests.tiny_models import THINK, THOUGHT, thinking_tokenizer, tiny_tokenizer

MARKS = Thinking(THINK, THOUGHT)


@pytest.mark.parametrize(
    ("end", "marks"),
    [
        (None, MARKS),
        ("[/THINK]", Thinking("[THINK]", "[/THINK]")),
        ("<|final|>", Thinking("", "<|final|>")),
        (262, MARKS),
    ],
)
def test_a_model_thinks_where_its_tokenizer_has_the_mark_or_the_recipe_names_one(end, marks):
    assert Thinking.of(thinking_tokenizer(), end) == marks


def test_other_models_do_not_think():
    assert Thinking.of(tiny_tokenizer()) is None
    with pytest.raises(
        RecipeError, match=r"'prompt\.think_end' must be one of the tokenizer's 261 tokens, got 999"
    ):
        Thinking.of(tiny_tokenizer(), 999)


@pytest.mark.parametrize(
    ("text", "opened", "answer"),
    [
        ("<think>It was Ann.</think>\n\nAnn", False, "Ann"),
        ("It was Ann.</think>Ann", True, "Ann"),  # the chat template had begun it
        ("<think>a</think>b</think> c", False, "c"),  # as in lm-eval, the last mark counts
        ("Ann", False, "Ann"),
        ("<think>It was", False, None),
        ("It was", True, None),
        ("", False, ""),
    ],
)
def test_the_answer_stands_behind_the_thinking(text, opened, answer):
    assert MARKS.answer(text, opened=opened) == answer
    if not opened:
        assert without_thinking(text) == (answer or "")


@pytest.mark.parametrize(
    ("text", "opened", "count"),
    [
        ("<think>ab</think>cd", False, 4),
        ("ab</think>cd", True, 3),
        ("cd", False, 0),
        ("<think>ab", False, 3),
        ("ab", True, 2),
    ],
)
def test_the_tokens_of_the_thinking_are_counted_with_its_marks(text, opened, count):
    tokenizer = thinking_tokenizer()
    assert MARKS.count(tokenizer, tokenizer(text)["input_ids"], opened=opened) == count


def test_a_prompt_that_ends_within_thinking_is_known_and_can_be_had_without():
    assert MARKS.is_open("Who?<think>\n")
    assert MARKS.unopened("Who?\n<think>\n") == "Who?\n"
    for prompt in ("Who?\n", "<think>\n\n</think>\n\n"):
        assert not MARKS.is_open(prompt)
        assert MARKS.unopened(prompt) == prompt
