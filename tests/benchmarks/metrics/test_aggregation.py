"""Aggregations. Expected values are worked out by hand beside each case."""

from __future__ import annotations

from lift_eval.benchmarks.metrics.aggregation import count_distinct, micro_average, total


def test_micro_average_weighs_every_mask_alike() -> None:
    assert micro_average([(1, 1), (0, 3)]) == 0.25


def test_counts() -> None:
    assert count_distinct(["a", "b", "a"]) == 2
    assert total([1, 0, 1]) == 2
