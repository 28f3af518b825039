"""How many documents and questions the full benchmarks have, so that a report can say when a run had fewer.

Data alone: importing it costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lift_eval.errors import counted


@dataclass(frozen=True)
class FullSize:
    """The full size of a task.

    Attributes:
        questions: Number of questions. None means that the source does not say.
        documents: Number of documents. None means that the source does not say.
        types: Number of questions by type, where the task has types.
    """

    questions: int | None
    documents: int | None = None
    types: Mapping[str, int] = field(default_factory=dict)


LOOGLE_TYPES = (
    "comprehension_and_reasoning",
    "multiple_information_retrieval",
    "computation",
    "timeline_reorder",
)

LONGBENCH_OF_200 = (
    "narrativeqa", "qasper", "multifieldqa_zh", "hotpotqa", "2wikimqa", "musique", "dureader", "gov_report", "qmsum",
    "multi_news", "vcsum", "trec", "triviaqa", "samsum", "lsht", "passage_count", "passage_retrieval_en",
    "passage_retrieval_zh",
)  # fmt: skip
"""LongBench's subtasks that have 200 questions."""

FULL_SIZES: Mapping[str, FullSize] = {
    "lift_originals": FullSize(180, 6),
    "lift_forgetting": FullSize(200, 6),
    "lift_document_loss": FullSize(6, 6),
    "loogle_shortqa": FullSize(1951, 105),
    "loogle_longqa": FullSize(1101, types=dict(zip(LOOGLE_TYPES, (406, 380, 100, 215), strict=True))),
    "loogle_cloze": FullSize(None),
    "loogle_summarization": FullSize(None),
    **{f"lift_longbench_{name}": FullSize(200) for name in LONGBENCH_OF_200},
    "lift_longbench_multifieldqa_en": FullSize(150),
    "lift_longbench_lcc": FullSize(500),
    "lift_longbench_repobench-p": FullSize(500),
    "lift_squad": FullSize(10570, 48),
}
"""Full sizes by task: LooGLE as LIFT evaluates it, LongBench from its paper (table 1), SQuAD's development set."""


def shortfall(
    task: str, questions: int, documents: int | None = None, *, own_questions: int | None = None
) -> str | None:
    """Say by how much a run falls short of the full set, or differs from it.

    Args:
        task: Name of the task.
        questions: Questions that the run scored.
        documents: Documents that the run used, where known.
        own_questions: Questions in the files that the user named. None means that the files are the benchmark's.

    Returns:
        A sentence such as ``"39 of 1,951 questions, 3 of 105 documents"``, or None if the counts are the full ones
        or the full ones are not known. Custom files are measured against their own size.
    """
    full = FULL_SIZES.get(task)
    if full is None or full.questions is None:
        return None
    if own_questions not in (None, full.questions):
        share = "" if questions == own_questions else f"{questions:,} of "
        return f"{share}{counted(own_questions, 'question')} from custom files"
    parts = [] if questions == full.questions else [f"{questions:,} of {full.questions:,} questions"]
    if documents is not None and full.documents is not None and documents != full.documents:
        parts.append(f"{documents:,} of {full.documents:,} documents")
    return ", ".join(parts) or None
