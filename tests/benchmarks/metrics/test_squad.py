"""Exact match and token F1. Expected values are worked out by hand beside each case."""

from __future__ import annotations

import pytest
from hypothesis import given

from lift_eval.benchmarks.metrics.squad import exact_match, normalize, qa_f1, token_f1
from tests.benchmarks.metrics.texts import TEXTS, WORDS


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        ("The Parador, of Carmona!", "parador of carmona", 1),
        ("Parador of Carmona.", "Parador of Guadalupe", 0),
        ("", "the", 1),  # both have no words left
        ("ÉCIJA", "écija", 1),
    ],
)
def test_exact_match(prediction: str, reference: str, expected: float) -> None:
    assert exact_match(prediction, reference) == expected


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        # {he, was, born, in, madrid} against {born, in, jerez}: 2 shared, 2 * 2 / (5 + 3)
        ("He was born in Madrid", "born in Jerez", 0.5),
        # "no no" against "no": the bags share one word, 2 * 1 / (2 + 1)
        ("no no", "no", 2 / 3),
        ("Madrid", "Jerez", 0),
        ("the", "a", 1),
        ("the", "Jerez", 0),
    ],
)
def test_token_f1(prediction: str, reference: str, expected: float) -> None:
    assert token_f1(prediction, reference) == pytest.approx(expected)


@given(TEXTS | WORDS, TEXTS | WORDS)
def test_token_f1_and_exact_match_are_symmetric(one: str, other: str) -> None:
    assert token_f1(one, other) == token_f1(other, one)
    assert exact_match(one, other) == exact_match(other, one)


@given(TEXTS | WORDS)
def test_normalization_is_idempotent(text: str) -> None:
    assert normalize(normalize(text)) == normalize(text)


def test_an_answer_without_words_scores_0_by_the_first_script() -> None:
    assert qa_f1("the red ship", "red ship") == 1
    assert qa_f1("", "the") == 0  # though both have no words left
