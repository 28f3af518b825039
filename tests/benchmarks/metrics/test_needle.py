"""The needle's key words. Expected values are worked out by hand beside each case."""

from __future__ import annotations

from lift_eval.benchmarks.metrics.needle import keyword_share


def test_keyword_share_ignores_case() -> None:
    assert keyword_share("Eat a Sandwich in DOLORES PARK", ["sandwich", "dolores park", "sunny"]) == 2 / 3
