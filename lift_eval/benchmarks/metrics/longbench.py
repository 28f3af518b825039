"""LongBench's scores; each is the best over the right answers."""

from __future__ import annotations

import re
from collections.abc import Iterable

from lift_eval.benchmarks.metrics.overlap import rouge_l
from lift_eval.benchmarks.metrics.squad import normalize, token_f1


def qa_f1(prediction: str, answers: Iterable[str]) -> float:
    """LongBench's F1: the best token F1 over the answers; an answer without words scores 0, as published."""
    return max((token_f1(prediction, answer) for answer in answers if normalize(answer)), default=0.0)


def rouge_l_best(prediction: str, answers: Iterable[str]) -> float:
    """LongBench's ROUGE-L: the best F1 over the answers; an empty prediction scores 0 by rule."""
    return max((rouge_l(prediction, answer)[2] for answer in answers), default=0.0)


def retrieval_score(prediction: str, answers: Iterable[str]) -> float:
    """LongBench's passage retrieval: the share of the numbers in the output that are the right paragraph's.

    Args:
        prediction: The answer.
        answers: Right answers of the form ``"Paragraph 7"``.
    """
    numbers = re.findall(r"\d+", prediction)
    right = [re.findall(r"Paragraph (\d+)", answer)[0] for answer in answers]
    return max((numbers.count(number) / len(numbers) for number in right), default=0.0) if numbers else 0.0


def classification_score(prediction: str, answers: Iterable[str], classes: Iterable[str]) -> float:
    """LongBench's classification: 1 over the number of class names in the output, if the right one is among them.

    Names that are part of the right name do not count. The published code removes them from the list that it walks
    through, and so keeps some of them.
    """
    named = [name for name in classes if name in prediction]

    def score(answer: str) -> float:
        kept = [name for name in named if name == answer or name not in answer]
        return 1 / len(kept) if answer in kept else 0.0

    return max(map(score, answers), default=0.0)
