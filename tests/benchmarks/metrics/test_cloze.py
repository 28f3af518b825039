"""Clozes. Expected values are worked out by hand beside each case."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lift_eval.benchmarks.metrics.cloze import cloze_matches
from tests.benchmarks.metrics.texts import TEXTS

REFERENCE = {"<mask-0>": "Justin Timberlake", "<mask-1>": "Kentwood"}


@pytest.mark.parametrize(
    ("prediction", "exact", "partial"),
    [
        ("{'<mask-0>': 'Justin Timberlake', '<mask-1>': 'Kentwood'}", 2, 2),
        ('{"<mask-0>": "Justin", "<mask-1>": "Kentwood"}', 1, 2),
        ("The answer: {'<mask-0>': 'justin timberlake'} as asked.", 0, 0),
        ("{'<mask-0>': 7, '<mask-1>': ['Kentwood']}", 0, 0),
        ("{'<mask-0>': 'Justin Timberlake'", 0, 0),  # cut off
        ("Justin Timberlake, Kentwood", 0, 0),
        ("{__import__('os').getcwd()}", 0, 0),  # never run
        ("", 0, 0),
    ],
)
def test_cloze_matches(prediction: str, exact: int, partial: int) -> None:
    assert cloze_matches(prediction, REFERENCE) == (exact, partial)


@given(TEXTS, st.dictionaries(TEXTS, TEXTS, min_size=1, max_size=4))
def test_cloze_matches_are_counts_of_the_masks(prediction: str, reference: dict[str, str]) -> None:
    exact, partial = cloze_matches(prediction, reference)
    assert 0 <= exact <= len(reference)
    assert 0 <= partial <= len(reference)
