"""Timelines. Expected values are worked out by hand beside each case."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lift_eval.benchmarks.metrics.timeline import read_order, reference_order, timeline_deviations
from tests.benchmarks.metrics.texts import TEXTS


@pytest.mark.parametrize(
    ("answer", "order"),
    [
        ("3,5,1,4,2", [3, 5, 1, 4, 2]),
        ("The order of the 5 events is: 3 -> 5 -> 1 -> 4 -> 2.", [3, 5, 1, 4, 2]),
        ("3, 5, 1, 4, 2 because event 3 was in 1260.", [3, 5, 1, 4, 2]),
        ("First event 3, then event 5, then 1 and 4, and 2 last.", [3, 5, 1, 4, 2]),
        ("3,5,1,4", None),
        ("3,3,5,1,4", None),
        ("three, five, one, four, two", None),
        ("III, V, I, IV, II", None),
        ("", None),
    ],
)
def test_read_order(answer: str, order: list[int] | None) -> None:
    assert read_order(answer, [1, 2, 3, 4, 5]) == order


@given(TEXTS)
def test_read_order_gives_an_order_or_nothing(answer: str) -> None:
    order = read_order(answer, [1, 2])
    assert order is None or sorted(order) == [1, 2]


@pytest.mark.parametrize(
    ("answer", "order"), [("2,1,3", [2, 1, 3]), ("2,1,4", None), ("1", None), ("dentist", None)]
)
def test_reference_order(answer: str, order: list[int] | None) -> None:
    assert reference_order(answer) == order


def test_timeline_deviations_by_hand() -> None:
    # Right order 3,1,2; predicted 1,2,3: event 1 is 1 place early, 2 is 1 early, 3 is 2 late.
    # squares 1 + 1 + 4 over 3; absolute 1 + 1 + 2 over 3; one cycle of three: 3 - 1; half of 4.
    assert timeline_deviations([1, 2, 3], [3, 1, 2]) == {
        "lsd_standard": 2,
        "lmd_standard": pytest.approx(4 / 3),
        "sd_standard": 2,
        "sdd_standard": 2,
    }


def greedy_swap_distance(target: list[int]) -> int:
    """SDD as LooGLE defines it: swap the pair with the largest gain per distance until all is in its place."""
    places, weight = list(target), 0

    def gain(i: int, j: int) -> float:
        before = abs(places[i] - i) + abs(places[j] - j)
        return (before - abs(places[j] - i) - abs(places[i] - j)) / (j - i)

    while places != sorted(places):
        i, j = max(itertools.combinations(range(len(places)), 2), key=lambda pair: gain(*pair))
        places[i], places[j] = places[j], places[i]
        weight += j - i
    return weight


def fewest_swaps(target: list[int]) -> int:
    places, swaps = list(target), 0
    for i in range(len(places)):
        while places[i] != i:
            goal = places[i]
            places[i], places[goal] = places[goal], places[i]
            swaps += 1
    return swaps


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6])
def test_timeline_deviations_against_their_definitions(n: int) -> None:
    reference = list(range(1, n + 1))
    found = []
    for order in itertools.permutations(reference):
        values = timeline_deviations(order, reference)
        target = [label - 1 for label in order]
        assert values["sdd_standard"] == greedy_swap_distance(target)
        assert values["sd_standard"] == fewest_swaps(target)
        assert (values["lsd_standard"] == 0) == (list(order) == reference)
        found.append(values)
    worst = {name: max(values[name] for values in found) for name in found[0]}
    assert timeline_deviations(None, reference) == pytest.approx(worst)


@given(st.permutations(range(1, 8)), st.permutations(range(1, 8)))
def test_timeline_distances_are_symmetric(one: list[int], other: list[int]) -> None:
    assert timeline_deviations(one, other) == timeline_deviations(other, one)
