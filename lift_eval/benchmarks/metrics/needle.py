"""The needle's key words in an answer."""

from __future__ import annotations

from collections.abc import Sequence


def keyword_share(prediction: str, keywords: Sequence[str]) -> float:
    """Share of the needle's key words found in the answer, ignoring case."""
    folded = prediction.casefold()
    return sum(keyword.casefold() in folded for keyword in keywords) / len(keywords)


def all_keywords(prediction: str, keywords: Sequence[str]) -> float:
    """Whether the answer contains all of them, as LIFT's second implementation scores the needle."""
    return float(keyword_share(prediction, keywords) == 1)
