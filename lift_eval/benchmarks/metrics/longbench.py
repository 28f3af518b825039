"""LongBench's scores of a reply against one right answer; a row's score is the best over its answers.

Source: the official evaluation (arXiv 2308.14508). Its token F1 is `squad.qa_f1`, and the scores of Chinese words are
in `chinese`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import SequenceMatcher

from lift_eval.benchmarks.metrics.overlap import rouge_l

PARAGRAPH = re.compile(r"(?:Paragraph |段落)(\d+)")
"""A right answer of the passage retrievals."""


def rouge_l_f1(prediction: str, answer: str) -> float:
    """F1 of ROUGE-L; an empty prediction scores 0 by rule."""
    return rouge_l(prediction, answer)[2]


def count_score(prediction: str, answer: str) -> float:
    """The share of the numbers in the reply that equal the answer; 0 without numbers."""
    numbers = re.findall(r"\d+", prediction)
    return numbers.count(answer) / len(numbers) if numbers else 0.0


def retrieval_score(prediction: str, answer: str) -> float:
    """The share of the numbers in the reply that are the right paragraph's.

    Args:
        prediction: The reply.
        answer: The right answer, ``"Paragraph 7"`` or ``"段落7"``.

    Raises:
        ValueError: For an answer of another form.
    """
    number = PARAGRAPH.search(answer)
    if number is None:
        raise ValueError(f"the right answer must name a paragraph, got {answer!r}")
    return count_score(prediction, number[1])


def classification_score(prediction: str, answer: str, classes: Iterable[str]) -> float:
    """1 over the number of class names in the reply, if the right one is among them.

    Names that are part of the right name do not count. The published code removes them from the list that it walks
    through, and so keeps some of them.
    """
    named = [name for name in classes if name in prediction and (name == answer or name not in answer)]
    return 1 / len(named) if answer in named else 0.0


def code_similarity(prediction: str, answer: str) -> float:
    """Similarity of the reply's first line of code to the right one, in whole percent, as a share.

    The first line is the first without a backquote, ``#`` or ``//``. The similarity is the ratio of fuzzywuzzy without
    python-Levenshtein, as LongBench's requirements install it, which is difflib's.
    """
    lines = prediction.lstrip("\n").split("\n")
    line = next((line for line in lines if not any(mark in line for mark in ("`", "#", "//"))), "")
    return round(100 * SequenceMatcher(None, line, answer).ratio()) / 100
