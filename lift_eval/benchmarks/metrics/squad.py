"""SQuAD's exact match and token F1."""

from __future__ import annotations

import re
import string
from collections import Counter

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize(text: str) -> str:
    """Lower the case, drop ASCII punctuation and English articles, and squeeze white space (SQuAD).

    Source: the evaluation script of SQuAD (arXiv 1606.05250), used unchanged by LongBench.
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def exact_match(prediction: str, reference: str) -> float:
    """Whether the normalized texts are the same (SQuAD)."""
    return float(normalize(prediction) == normalize(reference))


def token_f1(prediction: str, reference: str) -> float:
    """Harmonic mean of precision and recall over the bags of normalized words (SQuAD).

    Where a side has no words left after normalization, the score is 1 if both have none and 0 otherwise (the rule
    of SQuAD 2.0; the first script gives 0 for both).
    """
    predicted, expected = normalize(prediction).split(), normalize(reference).split()
    if not predicted or not expected:
        return float(predicted == expected)
    shared = (Counter(predicted) & Counter(expected)).total()
    return 2 * shared / (len(predicted) + len(expected))


def qa_f1(prediction: str, answer: str) -> float:
    """Token F1 by SQuAD's first script, which LongBench uses too: an answer without words scores 0."""
    return token_f1(prediction, answer) if normalize(answer) else 0.0


def contained(prediction: str, reference: str) -> float:
    """Whether the normalized words of a reference stand one after the other in a prediction."""
    return float(f" {normalize(reference)} " in f" {normalize(prediction)} ")
