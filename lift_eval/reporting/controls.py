"""Tables that check a comparison: training loss beside the scores, and how similar training pairs and questions are."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from lift_eval.document import ASIDE
from lift_eval.reporting.comparison import Comparison
from lift_eval.reporting.places import whole_columns
from lift_eval.reporting.table import Table, TableCell, count, number, share

SHOWN_CHARACTERS = 120
Words: TypeAlias = frozenset[tuple[str, int]]
"""The words of a text, equal ones numbered, so that two texts share as many words as their sets share elements."""


@dataclass(frozen=True)
class Nearness:
    """How near the pairs that a method was trained on come to the questions that it is asked.

    Attributes:
        row: The method.
        questions: Questions about documents with pairs.
        same: Those of them that are among the pairs, but for case and punctuation.
        nearest: Highest share of words that a question and a pair's have in common (F1), 0 to 1.
        question: The question of that pair and question.
        pair: The pair's.
    """

    row: str
    questions: int
    same: int
    nearest: float
    question: str
    pair: str


def nearness(comparison: Comparison) -> list[Nearness]:
    """The nearness of each method that was trained on pairs, over all its documents and seeds.

    Questions that have nothing to do with their document are left out.
    """
    asked: defaultdict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for (method, _), samples in comparison.samples.items():
        for sample in samples:
            if sample.prompt_style not in ASIDE:
                asked[method, sample.document][sample.question] = None
    found = []
    for row in comparison.experiment.rows:
        made: defaultdict[str, list[str]] = defaultdict(list)
        for document in comparison.documents[row.name]:
            made[document.digest] += [question for question, _ in document.made_pairs]
        best = [
            _nearest(question, pairs)
            for digest, questions in made.items()
            if (pairs := {question: _words(question) for question in questions})
            for question in asked[row.name, digest]
        ]
        if best:
            nearest, question, pair = max(best)
            same = sum(likeness == 1 for likeness, _, _ in best)
            found.append(Nearness(row.name, len(best), same, nearest, question, pair))
    return found


def _nearest(question: str, pairs: Mapping[str, Words]) -> tuple[float, str, str]:
    """The highest likeness of a question and a pair's, that question, and the pair's."""
    own = _words(question)
    return max((_likeness(own, words), question, pair) for pair, words in pairs.items())


def _likeness(own: Words, other: Words) -> float:
    total = len(own) + len(other)
    return 2 * len(own & other) / total if total else 0.0


def _words(text: str) -> Words:
    counts = Counter(re.findall(r"\w+", text.casefold()))
    return frozenset((word, number) for word, total in counts.items() for number in range(total))


def nearness_table(near: Iterable[Nearness]) -> Table:
    """Whether test questions stand among the pairs, and the nearest of them."""
    return Table(
        name="nearness",
        title="Test questions and training pairs",
        caption=(
            "How many test questions are among the pairs generated from their document, and the most similar question "
            "and pair by word-overlap F1. The generator does not see the test questions, but both may ask about the "
            "same fact."
        ),
        header=("Method", "Questions", "Among the pairs", "Highest similarity", "Question", "Pair"),
        rows=tuple(
            (
                TableCell(one.row, order=one.row),
                count(one.questions),
                count(one.same),
                TableCell(share(one.nearest), order=one.nearest),
                TableCell(one.question[:SHOWN_CHARACTERS]),
                TableCell(one.pair[:SHOWN_CHARACTERS]),
            )
            for one in near
        ),
    )


def recall_table(comparison: Comparison) -> Table:
    """Loss in training beside the scores: a low loss need not mean that anything can be recalled."""
    columns, rows = whole_columns(comparison), []
    for row in comparison.experiment.rows:
        losses = [document.losses for document in comparison.documents[row.name] if document.losses]
        if not losses:
            continue
        ends = [sum(each[place] for each in losses) / len(losses) for place in (0, -1)]
        scores = [comparison.cell(row.name, column.label) for column in columns]
        rows.append(
            (
                TableCell(row.name, order=row.name),
                *(TableCell(number(end, 3), order=end) for end in ends),
                *(
                    TableCell(number(cell.value, column.decimals), order=cell.value)
                    for cell, column in zip(scores, columns, strict=True)
                ),
            )
        )
    return Table(
        name="recall",
        title="Training loss and scores",
        caption=(
            "Loss per supervised token at the first and the last step, mean over documents, beside the scores. Losses "
            "of methods with different training data, such as segments and pairs, are not comparable."
        ),
        header=("Method", "First loss", "Last loss", *(column.label for column in columns)),
        rows=tuple(rows),
    )
