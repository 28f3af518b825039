"""The needle's key words. Expected values are worked out by hand beside each case."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lift_eval.benchmarks.metrics.needle import all_keywords, keyword_share


def test_keyword_share_ignores_case() -> None:
    assert keyword_share("Eat a Sandwich in DOLORES PARK", ["sandwich", "dolores park", "sunny"]) == 2 / 3


@given(st.text("ab "), st.lists(st.text("ab", min_size=1), min_size=1, max_size=3))
def test_all_keywords_is_what_a_full_share_is(prediction: str, keywords: list[str]) -> None:
    share, every = keyword_share(prediction, keywords), all_keywords(prediction, keywords)
    assert every == (1 if share == 1 else 0)
    assert all_keywords(" ".join(keywords).upper(), keywords) == 1
