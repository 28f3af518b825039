"""What methods cost: to prepare a document, to store it, to answer; and the number of questions to break even."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from lift_eval.errors import counted
from lift_eval.record.record import STAGES, DocumentRecord
from lift_eval.reporting.comparison import ANSWERING, Comparison
from lift_eval.reporting.methods import PROMPT, method_class, recipe_of
from lift_eval.reporting.table import NOTHING, Table, TableCell, count, scaled, seconds

PREPARATION = STAGES[:-1]
Unit: TypeAlias = Literal["seconds", "operations", "alone"]
"""What is compared: time, operations, or operations where each question comes alone and nothing is shared."""


@dataclass(frozen=True)
class Cost:
    """Mean costs of a method, over its documents and seeds. NaN means that its runs did not record it.

    Attributes:
        row: The method.
        documents: Documents that it prepared, over all seeds.
        tokens: Tokens of a document.
        trained_tokens: Tokens trained for a document.
        synthesis: Seconds to make a document's auxiliary pairs.
        training: Seconds to train on it.
        answering: Seconds to answer all questions about it.
        preparation_operations: Operations before the first answer, generation included.
        stored_bytes: Bytes stored for a document.
        prompt_tokens: Prompt tokens of an answer.
        answer_tokens: Tokens of an answer.
        answer_seconds: Seconds for an answer.
        answer_operations: Operations for an answer.
        alone_operations: Operations for an answer to a question that comes alone.
        peak_memory_bytes: Peak memory of any of its runs.
    """

    row: str
    documents: int
    tokens: float
    trained_tokens: float
    synthesis: float
    training: float
    answering: float
    preparation_operations: float
    stored_bytes: float
    prompt_tokens: float
    answer_tokens: float
    answer_seconds: float
    answer_operations: float
    alone_operations: float
    peak_memory_bytes: float

    @property
    def preparation_seconds(self) -> float:
        """Seconds before the first answer."""
        return self.synthesis + self.training


def method_costs(comparison: Comparison) -> dict[str, Cost]:
    """The costs of each method whose runs recorded some, by row."""
    found = {}
    for row, recorded in comparison.documents.items():
        if not recorded:
            continue
        asked = sum(one.questions for one in recorded) or math.nan
        operations = [_operations(one) for one in recorded]
        known = not any(math.isnan(one.answering) for one in operations)
        served = any(
            _asks_server(run.recipe) for run in comparison.runs[row]
        )  # a server's operations are unknown
        synthesis, training, answering = ([one.seconds[stage] for one in recorded] for stage in STAGES)
        found[row] = Cost(
            row,
            len(recorded),
            _mean(one.tokens for one in recorded),
            _mean(one.trained_tokens for one in recorded),
            _mean(synthesis),
            _mean(training),
            _mean(answering),
            math.nan if served else _mean(one.preparation for one in operations),
            _mean(one.stored_bytes for one in recorded) if known else math.nan,
            sum(one.prompt_tokens for one in recorded) / asked if known else math.nan,
            sum(one.answer_tokens for one in recorded) / asked if known else math.nan,
            float(np.sum(answering)) / asked,
            float(np.sum([one.answering for one in operations])) / asked,
            float(np.sum([one.alone for one in operations])) / asked,
            peak_memory(comparison, row) or math.nan,
        )
    return found


class _Operations(NamedTuple):
    """For a document: before the first answer, of the answers, and of these if asked alone; NaN if unknown."""

    preparation: float
    answering: float
    alone: float


def _operations(document: DocumentRecord) -> _Operations:
    counts = document.operations
    alone = math.nan if document.alone_operations is None else float(document.alone_operations)
    return _Operations(
        float(sum(counts.get(stage, 0.0) for stage in PREPARATION)) if counts else math.nan,
        float(counts.get(ANSWERING, 0.0)) if counts else math.nan,
        alone if document.questions else 0.0,
    )


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _asks_server(recipe: Mapping[str, object]) -> bool:
    auxiliary = recipe.get("auxiliary")
    if not isinstance(auxiliary, Mapping) or auxiliary.get("strategy") == "none":
        return False
    return str(auxiliary.get("generator")).startswith("openai:")


def peak_memory(comparison: Comparison, row: str) -> float | None:
    """Peak memory of any run of a row, in bytes."""
    peaks = [run.totals.peak_memory_bytes for run in comparison.runs[row] if run.lift]
    return max((float(peak) for peak in peaks if peak), default=None)


# ----------------------------------------------------------------------------------------------------------- tables


def costs_table(comparison: Comparison) -> Table:
    """Mean cost of preparing, asking and keeping a document."""
    return Table(
        name="costs",
        title="Cost per document",
        caption=(
            "Means over documents, in wall-clock time; parts reused from the store count with their original time. "
            "Operations: matrix products before the first answer, including those for pairs and teachers. Stored: the "
            "adapter, and the text if prompts contain any of it. Peak memory: of the run, on the GPU if one was used."
        ),
        header=(
            "Method",
            "Tokens",
            "Trained tokens",
            "Pair generation",
            "Training",
            "Answering",
            "Total",
            "Operations",
            "Stored",
            "Peak memory",
        ),
        rows=tuple(
            (
                TableCell(cost.row, order=cost.row),
                _number(cost.tokens),
                _number(cost.trained_tokens),
                _time(cost.synthesis),
                _time(cost.training),
                _time(cost.answering),
                _time(cost.preparation_seconds + cost.answering),
                _amount(cost.preparation_operations),
                _amount(cost.stored_bytes, "B"),
                _memory(cost.peak_memory_bytes),
            )
            for cost in method_costs(comparison).values()
        ),
    )


def answer_costs_table(comparison: Comparison) -> Table:
    """Mean cost of an answer."""
    costs = [cost for cost in method_costs(comparison).values() if not math.isnan(cost.answer_operations)]
    return Table(
        name="answer-costs",
        title="Cost per answer",
        caption=(
            "Means over the questions about documents. A prefix that several prompts share is processed once, so "
            "seconds and operations are lower than for separate prompts. Alone: the operations for a question that is "
            "asked by itself."
        ),
        header=("Method", "Prompt tokens", "Answer tokens", "Seconds", "Operations", "Operations, alone"),
        rows=tuple(
            (
                TableCell(cost.row, order=cost.row),
                _number(cost.prompt_tokens),
                TableCell(f"{cost.answer_tokens:,.1f}", order=cost.answer_tokens),
                _time(cost.answer_seconds),
                _amount(cost.answer_operations),
                _amount(cost.alone_operations),
            )
            for cost in costs
        ),
    )


def _number(value: float) -> TableCell:
    return _known(value, f"{value:,.0f}")


def _time(value: float) -> TableCell:
    return _known(value, seconds(value))


def _amount(value: float, unit: str = "") -> TableCell:
    return _known(value, scaled(value, unit))


def _memory(value: float) -> TableCell:
    return _known(value, f"{value / 2**30:.2f} GiB")


def _known(value: float, text: str) -> TableCell:
    return TableCell(NOTHING, muted=True) if math.isnan(value) else TableCell(text, order=value)


# ------------------------------------------------------------------------------------------------------- break-even


@dataclass(frozen=True)
class BreakEven:
    """The number of questions about a document from which a method is cheaper than another.

    Attributes:
        row: The method.
        baseline: The row that it is compared with.
        fixed: Its mean cost per document before the first answer.
        per_question: Its mean cost per answer.
        baseline_fixed: The other's cost before the first answer.
        baseline_per_question: The other's mean cost per answer.
        documents: Documents that both have.
    """

    row: str
    baseline: str
    fixed: float
    per_question: float
    baseline_fixed: float
    baseline_per_question: float
    documents: int

    @property
    def questions(self) -> float:
        """The number of questions at which both cost the same; infinite where that never happens, NaN if unknown."""
        extra, saved = (
            self.fixed - self.baseline_fixed,
            self.baseline_per_question - self.per_question,
        )
        if math.isnan(extra + saved):
            return math.nan
        if extra < 0 or (extra == 0 and saved >= 0):
            return 0.0
        return extra / saved if saved > 0 else math.inf


def break_evens(comparison: Comparison, unit: Unit = "seconds") -> list[BreakEven]:
    """The break-even of every method with its baseline, on the documents that both have."""
    rows = [row.name for row in comparison.experiment.rows]
    pairs = [(row, base) for row in rows if (base := comparison.experiment.baseline_of(row))]
    return list(_break_evens(comparison, pairs, unit))


def reading_rows(comparison: Comparison) -> dict[str, str]:
    """The first rows with neither adapter nor compressed cache whose prompts hold the ``full`` document, or passages.

    Returns:
        Their names, by the value of ``prompt.document``: ``full`` or ``retrieved``.
    """
    found: dict[str, str] = {}
    for row in comparison.experiment.rows:
        prompt = recipe_of(comparison, row.name).get("prompt") or {}
        if method_class(comparison, row.name) == PROMPT and prompt.get("document") in ("full", "retrieved"):
            found.setdefault(str(prompt["document"]), row.name)
    return found


def all_break_evens(comparison: Comparison, unit: Unit) -> list[BreakEven]:
    """The break-even of every method with its baseline, with reading the whole text, and with retrieval."""
    experiment, reading = comparison.experiment, reading_rows(comparison)
    others = {row.name: [experiment.baseline_of(row.name), *reading.values()] for row in experiment.rows}
    pairs = [(row, other) for row, some in others.items() for other in dict.fromkeys(some) if other]
    return list(_break_evens(comparison, [(row, other) for row, other in pairs if row != other], unit))


def _break_evens(comparison: Comparison, pairs: list[tuple[str, str]], unit: Unit) -> Iterator[BreakEven]:
    costs = _per_document(comparison, unit)
    for row, other in pairs:
        if other not in costs or row not in costs:
            continue
        own, base = costs[row], costs[other]
        shared = sorted(own.keys() & base.keys())
        if not shared:
            continue
        mine, theirs = (_means([some[digest] for digest in shared]) for some in (own, base))
        yield BreakEven(row, other, *mine, *theirs, documents=len(shared))


def _per_document(comparison: Comparison, unit: Unit) -> dict[str, dict[str, tuple[float, float]]]:
    """Mean cost of each document, over seeds, by row and digest: before the first answer, and for each answer."""
    methods = method_costs(comparison)
    found = {}
    for row, recorded in comparison.documents.items():
        seeds: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
        for one in recorded:
            if one.questions:
                fixed, answering = _cost(one, unit)
                if unit != "seconds" and math.isnan(methods[row].preparation_operations):
                    fixed = math.nan
                seeds[one.digest].append((fixed, answering / one.questions))
        if seeds:
            found[row] = {digest: _means(each) for digest, each in seeds.items()}
    return found


def _means(costs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    fixed, answering = np.mean(costs, axis=0).tolist()
    return fixed, answering


def _cost(document: DocumentRecord, unit: Unit) -> tuple[float, float]:
    """Before the first answer, and for all answers."""
    if unit == "seconds":
        return sum(document.seconds[stage] for stage in PREPARATION), document.seconds[ANSWERING]
    counts = _operations(document)
    return counts.preparation, counts.answering if unit == "operations" else counts.alone


def break_even_table(comparison: Comparison) -> Table:
    """The number of questions per document from which a method costs less than its alternatives."""
    units: tuple[Unit, ...] = ("seconds", "operations", "alone")
    by_time, by_operations, alone = (
        {(found.row, found.baseline): found for found in all_break_evens(comparison, unit)} for unit in units
    )
    rows = [
        (
            TableCell(found.row, order=found.row),
            TableCell(found.baseline, order=found.baseline),
            count(found.documents),
            TableCell(seconds(found.fixed), order=found.fixed),
            TableCell(seconds(found.per_question), order=found.per_question),
            TableCell(seconds(found.baseline_per_question), order=found.baseline_per_question),
            _questions(found.questions),
            _questions(by_operations[pair].questions),
            _questions(alone[pair].questions),
        )
        for pair, found in by_time.items()
    ]
    return Table(
        name="break-even",
        title="Break-even",
        caption=(
            "The number of questions per document from which a method costs less than an alternative: its baseline, "
            "the whole document in each prompt, or retrieval. It is the extra preparation cost divided by the saving "
            "per answer. Time and operations are those of this run, where all questions about a document are asked "
            "together and share what is read of it; alone: each question is asked by itself and reads its whole "
            "prompt. Means over the documents of both."
        ),
        header=(
            "Method",
            "Alternative",
            "Documents",
            "Preparation",
            "Time per answer",
            "Alternative's time per answer",
            "Break-even (time)",
            "Break-even (operations)",
            "Break-even (operations, alone)",
        ),
        rows=tuple(rows),
    )


def _questions(value: float) -> TableCell:
    if math.isnan(value):
        return TableCell(NOTHING, muted=True)
    if math.isinf(value):
        return TableCell("never", order=None)
    return TableCell(counted(math.ceil(value), "question"), order=value)
