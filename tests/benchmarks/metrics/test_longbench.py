"""LongBench. Expected values are worked out by hand beside each case."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lift_eval.benchmarks.metrics.longbench import classification_score, qa_f1, retrieval_score, rouge_l_best
from tests.benchmarks.metrics.texts import WORDS

PARAGRAPHS = st.integers(1, 30).map("Paragraph {}".format)
CLASSES = ["City", "Date", "Location", "Other location"]


@pytest.mark.parametrize(
    ("score", "right"),
    [
        (qa_f1, WORDS),
        (rouge_l_best, WORDS),
        (retrieval_score, PARAGRAPHS),
        (
            lambda prediction, answers: classification_score(prediction, answers, CLASSES),
            st.sampled_from(CLASSES),
        ),
    ],
)
@given(data=st.data())
def test_a_score_is_that_of_the_best_answer(
    score: Callable[[str, list[str]], float], right: st.SearchStrategy[str], data: st.DataObject
) -> None:
    answers = data.draw(st.lists(right, min_size=1, max_size=3))
    prediction = data.draw(st.text() | WORDS | right)
    assert score(prediction, answers) == max(score(prediction, [answer]) for answer in answers)
    assert 0 <= score(prediction, answers) <= 1
    assert score("", answers) == 0


def test_qa_f1_takes_the_best_answer() -> None:
    assert qa_f1("the red ship", ["a blue tower", "red ship"]) == 1
    assert qa_f1("", ["the"]) == 0  # as published, though both have no words left


def test_retrieval_is_the_share_of_right_numbers() -> None:
    assert retrieval_score("Paragraph 7", ["Paragraph 7"]) == 1
    assert retrieval_score("7 or 17 or 7 or 2", ["Paragraph 7"]) == 0.5
    assert retrieval_score("the seventh", ["Paragraph 7"]) == 0


def test_classification_shares_the_point_among_the_named_classes() -> None:
    classes = ["Location", "Other location", "City", "Date"]
    assert classification_score("City", ["City"], classes) == 1
    assert classification_score("City or Date", ["City"], classes) == 0.5
    # "location" alone is part of the right name and does not count
    assert classification_score("Other location", ["Other location"], ["location", *classes]) == 1
    assert classification_score("Date", ["City"], classes) == 0
