"""The scores of a free answer against several accepted ones."""

from __future__ import annotations

from collections.abc import Sequence

from lift_eval.benchmarks.metrics import overlap, squad


def best_scores(prediction: str, answers: Sequence[str]) -> dict[str, float]:
    """Each score against the accepted answer that gives the best one.

    Args:
        prediction: The answer.
        answers: The accepted answers, one or more.
    """
    return {
        "exact_match": max(squad.exact_match(prediction, answer) for answer in answers),
        "token_f1": max(squad.token_f1(prediction, answer) for answer in answers),
        "rouge_l_recall": max(overlap.rouge_l(prediction, answer)[1] for answer in answers),
        "contained": max(squad.contained(prediction, answer) for answer in answers),
    }
