"""Multiple choice: the labelled options of a question and the one that an answer picks."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping

from lift_eval.benchmarks.metrics.squad import normalize


def read_options(question: str) -> dict[str, str]:
    """The labelled options of a question, one per line: ``1. seven`` or ``B) six``.

    Returns:
        Label to text, in order; empty where the lines are not labelled 1, 2, ... or A, B, ... without a gap.
    """
    found = re.findall(r"^[ \t]*(\d{1,2}|[A-Z])[.)][ \t]*(\S.*?)[ \t]*$", question, re.MULTILINE)
    labels = [label for label, _ in found]
    numbers = [str(i) for i in range(1, len(labels) + 1)]
    letters = list(string.ascii_uppercase[: len(labels)])
    return dict(found) if len(labels) > 1 and labels in (numbers, letters) else {}


def read_choice(answer: str, options: Mapping[str, str]) -> str | None:
    """The label of the option that an answer picks.

    In this order: the label at its start, the label after "answer is" or "answer:", the one option whose text stands
    in it, the one label that stands alone in it.

    Returns:
        The label, or None where none or several fit.
    """
    labels = "|".join(map(re.escape, options))
    for pattern in (rf"^\W*({labels})(?![\w.]\w|\w|'| [a-z])", rf"(?i:answer)(?: is)?:? \(?({labels})\b"):
        if match := re.search(pattern, answer):
            return match.group(1)
    words = f" {normalize(answer)} "
    by_text = [label for label, text in options.items() if f" {normalize(text)} " in words]
    if len(by_text) == 1:
        return by_text[0]
    alone = set(re.findall(rf"(?<![\w.,])(?:{labels})(?!\w|[.,]\d)", answer))
    return alone.pop() if len(alone) == 1 else None


def choice_accuracy(prediction: str, reference: str, options: Mapping[str, str]) -> float | None:
    """Whether the prediction picks the option that the reference picks; None where the reference picks none.

    Source: the project's own; LooGLE leaves its multiple-choice questions to the judge.
    """
    right = read_choice(reference, options) if options else None
    return None if right is None else float(read_choice(prediction, options) == right)
