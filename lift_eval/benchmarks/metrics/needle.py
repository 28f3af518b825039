"""The needle's key words in an answer."""

from __future__ import annotations

from collections.abc import Sequence


def keyword_share(prediction: str, keywords: Sequence[str]) -> float:
    """Share of the needle's key words that stand in the answer, upper and lower case alike."""
    folded = prediction.casefold()
    return sum(keyword.casefold() in folded for keyword in keywords) / len(keywords)


def all_keywords(prediction: str, keywords: Sequence[str]) -> float:
    """Whether all of them stand in the answer, as LIFT's second implementation scores the needle."""
    return float(keyword_share(prediction, keywords) == 1)
