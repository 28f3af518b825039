"""Clozes. Expected values are worked out by hand beside each case."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lift_eval.benchmarks.metrics.cloze import cloze_matches, read_mapping
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
        ("{'<mask-0>': 'Justin Timberlake', 'x': {'y': 'z'}}", 1, 1),
        ('{"<mask-1>": "Kentwood", "x": {"<mask-0>": "Justin Timberlake"}} {"<mask-1>": "z"}', 1, 1),
        ("{'<mask-0>': '}', '<mask-1>': \"Kentwood\"}", 1, 1),
        ("{the answer is {'<mask-1>': 'Kentwood'}}", 1, 1),
        ("{ {'<mask-1>': 'Kentwood'}", 1, 1),
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


VALUES = st.recursive(
    TEXTS | st.integers(), lambda inner: st.dictionaries(TEXTS, inner, max_size=3), max_leaves=6
)


@given(st.dictionaries(TEXTS, VALUES, max_size=4), TEXTS, TEXTS, st.sampled_from([repr, json.dumps]))
def test_a_mapping_is_read_whatever_it_holds_and_stands_in(
    mapping: dict[str, object], before: str, behind: str, written: Callable[[object], str]
) -> None:
    answer = before.replace("{", "") + written(mapping) + behind
    assert read_mapping(answer) == {key: value for key, value in mapping.items() if isinstance(value, str)}


@given(st.text("{}'\":,a\\\n"))
def test_braces_and_quotes_in_any_order_are_no_fault(answer: str) -> None:
    found = read_mapping(answer)
    assert found is None or all(isinstance(value, str) for value in found.values())
