"""Multiple choice. Expected values are worked out by hand beside each case."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lift_eval.benchmarks.metrics.choice import choice_accuracy, read_choice, read_options

QUESTION = "How many people were in the family?\n1. seven\n2. six\n3. five\n4. four"
LETTERS = "Which one?\nA) the ship\nB) the tower\nC) the man of the ship"


def test_read_options() -> None:
    assert read_options(QUESTION) == {"1": "seven", "2": "six", "3": "five", "4": "four"}
    assert read_options("In 1990.\n2. six\n3. five") == {}
    assert read_options("What is it?") == {}


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("3", "3"),
        ("3. five", "3"),
        ("(3)", "3"),
        ("The answer is 3.", "3"),
        ("There were five people.", "3"),
        ("It is option 2", "2"),
        ("five or six", None),
        ("3.5 million", None),
        ("35", None),
        ("", None),
    ],
)
def test_read_choice(answer: str, label: str | None) -> None:
    assert read_choice(answer, read_options(QUESTION)) == label


def test_an_article_is_no_label() -> None:
    options = read_options(LETTERS)
    assert read_choice("A tower, that is the tower", options) == "B"
    assert read_choice("C", options) == "C"


@given(st.text())
def test_any_answer_picks_an_option_or_none(answer: str) -> None:
    assert read_choice(answer, read_options(QUESTION)) in (*read_options(QUESTION), None)


@given(
    st.sampled_from("1234"), st.sampled_from(["{}", "({})", "{}.", "{})", "The answer is {}.", "Answer: {}"])
)
def test_a_label_is_read_in_any_usual_form(label: str, form: str) -> None:
    assert read_choice(form.format(label), read_options(QUESTION)) == label


def test_choice_accuracy_needs_a_multiple_choice_question() -> None:
    options = read_options(QUESTION)
    assert choice_accuracy("five", "3", options) == 1
    assert choice_accuracy("six", "3", options) == 0
    assert choice_accuracy("six", "nobody knows", options) is None
    assert choice_accuracy("3", "3", {}) is None
