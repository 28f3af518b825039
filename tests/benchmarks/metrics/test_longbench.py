"""LongBench's scores. Expected values are worked out by hand beside each case."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lift_eval.benchmarks.metrics.longbench import (
    classification_score,
    code_similarity,
    count_score,
    retrieval_score,
)
from tests.benchmarks.metrics.texts import TEXTS

LINES = st.text(alphabet="ab (),.=", max_size=30)


def test_counting_is_the_share_of_the_numbers_that_are_right() -> None:
    assert count_score("There are 7 of them.", "7") == 1
    assert count_score("7 or 17 or 7 or 2", "7") == 0.5
    assert count_score("seven", "7") == 0
    assert count_score("07", "7") == 0  # compared as text


@pytest.mark.parametrize("answer", ["Paragraph 7", "段落7"])
def test_retrieval_is_the_share_of_right_numbers(answer: str) -> None:
    assert retrieval_score(answer, answer) == 1
    assert retrieval_score("7 or 17 or 7 or 2", answer) == 0.5
    assert retrieval_score("the seventh", answer) == 0


def test_a_right_answer_without_a_paragraph_is_no_score() -> None:
    with pytest.raises(ValueError, match="must name a paragraph, got 'seven'"):
        retrieval_score("7", "seven")


def test_classification_shares_the_point_among_the_named_classes() -> None:
    classes = ["Location", "Other location", "City", "Date"]
    assert classification_score("City", "City", classes) == 1
    assert classification_score("City or Date", "City", classes) == 0.5
    # "location" alone is part of the right name and does not count
    assert classification_score("Other location", "Other location", ["location", *classes]) == 1
    assert classification_score("Date", "City", classes) == 0


# What fuzz.ratio of fuzzywuzzy 0.18.0 without python-Levenshtein returns for these pairs.
@pytest.mark.parametrize(
    ("line", "answer", "percent"),
    [
        ("return x", "return y", 88),  # 7 of 8 characters alike: 2 * 7 / 16 = 0.875
        ("import os", "import sys", 84),  # "import " and "s": 2 * 8 / 19 = 0.842
        (
            "abcd",
            "dcba",
            25,
        ),  # blocks in order: one character, 2 * 1 / 8; the shortest edits would say the same
        ("    return self.total", "return self.total", 89),  # 17 alike: 34 / 38 = 0.895
        ("", "x", 0),
        ("", "", 100),
    ],
)
def test_code_similarity_is_the_published_ratio(line: str, answer: str, percent: int) -> None:
    assert code_similarity(line, answer) == percent / 100


def test_code_similarity_reads_the_first_line_of_code() -> None:
    reply = "\n\n```python\n# the total\n// the total\nreturn x\nreturn y"
    assert code_similarity(reply, "return x") == 1
    assert code_similarity("```\n# nothing", "return x") == 0


@given(LINES, LINES)
def test_code_similarity_is_a_whole_percent_between_0_and_1(line: str, answer: str) -> None:
    score = code_similarity(line, answer)
    assert 0 <= score <= 1
    assert score == round(100 * score) / 100
    assert code_similarity(answer, answer) == 1


@given(TEXTS)
def test_scores_of_any_reply_lie_between_0_and_1(reply: str) -> None:
    assert 0 <= count_score(reply, "3") <= 1
    assert 0 <= retrieval_score(reply, "段落3") <= 1
    assert 0 <= classification_score(reply, "City", ["City", "a", "b"]) <= 1
    assert 0 <= code_similarity(reply, "return x") <= 1
