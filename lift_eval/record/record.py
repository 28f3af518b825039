"""A run's record: costs, losses and the outcome of each document.

It is in ``config`` of lm-eval's results file (key ``lift``), where the reports read it.
"""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from lift_eval.errors import counted

PACKAGES = ("lift-eval", "lm-eval", "torch", "transformers", "peft", "accelerate", "bitsandbytes", "datasets")
STAGES = ("synthesis", "train", "answer")

Number: TypeAlias = Annotated[int | float, Field(ge=-1e300, le=1e300)]
Count: TypeAlias = Annotated[int, Field(ge=0, le=2**53)]


class Recorded(BaseModel):
    """Base of all records: validated strictly, since anyone may have written them; unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)


class Answering(Recorded):
    """What it took to answer some of a document's requests.

    Attributes:
        requests: Their number.
        prompt_tokens: Tokens of their prompts.
        answer_tokens: Tokens of their answers.
        seconds: Wall-clock time when they were first answered.
        operations: Operations of the model.
    """

    requests: Count = 0
    prompt_tokens: Count = 0
    answer_tokens: Count = 0
    seconds: Number = 0.0
    operations: Number = 0


class DocumentRecord(Recorded):
    """One document of a run.

    Attributes:
        digest: Its hash.
        title: Its title.
        tokens: Tokens of the text that is fine-tuned.
        questions: Questions asked about it.
        kept: Mean share of its characters that the prompts kept, 0 to 1. None means that it is unknown for all prompts.
        not_located: Questions whose prompts contain its text changed or in part; ``kept`` does not cover them.
        skipped: Questions not asked because the whole document does not fit; they count as wrong.
        truncated: Questions asked with part of the document because the whole does not fit (``prompt.over_length``).
        incomplete_answers: Answers that were cut off at the token limit.
        thinking_tokens: Tokens of a reasoning model's thinking, which are not part of its answers.
        losses: Mean loss per supervised token of each optimizer step.
        trained_tokens: Tokens that went through training, all steps together.
        supervised_tokens: Trained tokens that have a loss.
        prompt_tokens: Tokens of all prompts; of choices that are scored, with each choice.
        answer_tokens: Tokens of all answers, thinking included.
        seconds: Wall-clock time by stage: synthesis, train, answer.
        operations: Operations of the model by stage, computed from its inputs (`models.operations`), including those of
            reused parts. A server's operations are not included.
        alone_operations: Operations of the answers to its questions if each were asked alone, so that nothing is
            shared. None means that it is not known.
        aside: Requests that ask nothing about the document (`lift_forgetting`, `lift_document_loss`), and the part of
            the answers' tokens, seconds and operations that was spent on them. ``questions`` and ``kept`` leave them
            out.
        stored_bytes: What must be kept of the document for later questions: what was learned, and the text where
            prompts hold some of it.
        memory: Most bytes used by stage, of the GPU or else of the process; stages that did not run are missing.
        pairs: Counts of auxiliary pairs: passages asked, pairs kept, and rejected by reason; empty without pairs.
        made_pairs: Question and answer of each pair that was kept.
        retried: Why it was trained again at a tenth of the learning rate; empty if it was not.
        gates: Mean gate of each layer over the answers (Gated Memory), else empty.
        failure: Why the document was given up; empty if it was not.
        lost_questions: Its questions that count as wrong for that reason.
        reused: What came from the store: pairs, adapter, answers.
        reused_seconds: Original time of reused parts by stage; ``seconds`` is this run's time and excludes it.
            Losses and tokens of a reused adapter are those of its training.
    """

    digest: str
    title: str = ""
    tokens: Count = 0
    questions: Count = 0
    kept: Number | None = None
    not_located: Count = 0
    skipped: Count = 0
    truncated: Count = 0
    incomplete_answers: Count = 0
    thinking_tokens: Count = 0
    losses: list[Number] = []
    trained_tokens: Count = 0
    supervised_tokens: Count = 0
    prompt_tokens: Count = 0
    answer_tokens: Count = 0
    seconds: dict[str, Number] = dict.fromkeys(STAGES, 0.0)
    operations: dict[str, Number] = {}
    alone_operations: Number | None = None
    aside: Answering = Answering()
    stored_bytes: Count = 0
    memory: dict[str, Count] = {}
    pairs: dict[str, Count] = {}
    made_pairs: list[list[str]] = []
    retried: str = ""
    gates: list[Number] = []
    failure: str = ""
    lost_questions: Count = 0
    reused: list[str] = []
    reused_seconds: dict[str, Number] = {}

    def add_training(self, other: DocumentRecord) -> None:
        """Add another record's training of the document and its cost."""
        for stage, spent in other.seconds.items():
            self.seconds[stage] += spent
        for stage, most in other.memory.items():
            self.memory[stage] = max(self.memory.get(stage, 0), most)
        for what in other.reused:
            self.reuse(what, other.reused_seconds)
        self.add_operations(other.operations)
        self.losses, self.pairs, self.made_pairs = other.losses, other.pairs, other.made_pairs
        self.trained_tokens += other.trained_tokens
        self.supervised_tokens += other.supervised_tokens

    def give_up(self, error: Exception, questions: int) -> None:
        """Note that the document could not be trained or answered.

        Args:
            error: The reason.
            questions: Number of lost questions.
        """
        lines = str(error).splitlines() or [""]
        self.failure = f"{type(error).__name__}: {lines[0]}"
        self.lost_questions += questions

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time spent inside to a stage."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - began

    def reuse(self, what: str, seconds: Mapping[str, float]) -> None:
        """Note that something came from the store.

        Args:
            what: E.g. ``adapter``.
            seconds: Its original time, by stage.
        """
        if what not in self.reused:
            self.reused.append(what)
        for stage, spent in seconds.items():
            self.reused_seconds[stage] = self.reused_seconds.get(stage, 0.0) + spent

    @contextmanager
    def answering_aside(self, requests: int) -> Iterator[None]:
        """Note that what is answered inside asks nothing about the document.

        Args:
            requests: Number of requests.
        """
        before = self._answering
        try:
            yield
        finally:
            spent = {name: after - before[name] for name, after in self._answering.items()}
            spent["requests"] = requests
            known = self.aside.model_dump()
            self.aside = Answering(**{name: known[name] + value for name, value in spent.items()})

    @property
    def _answering(self) -> dict[str, Any]:
        """What all answers took so far, by the names of `Answering`."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "answer_tokens": self.answer_tokens,
            "seconds": self.seconds["answer"] + self.reused_seconds.get("answer", 0.0),
            "operations": self.operations.get("answer", 0),
        }

    def count_questions(self, kept: Sequence[float | None], over_length: Sequence[str] = ()) -> None:
        """Note questions that are asked.

        Args:
            kept: For each question, the share of the document that its prompt holds. None means that it is not known.
            over_length: What was done with each question for which the whole document is too long, ``skip`` or
                ``truncate``.
        """
        known = [share for share in kept if share is not None]
        total = (self.kept or 0.0) * (self.questions - self.not_located) + sum(known)
        self.questions += len(kept)
        self.not_located += len(kept) - len(known)
        located = self.questions - self.not_located
        self.kept = total / located if located else None
        self.skipped += over_length.count("skip")
        self.truncated += over_length.count("truncate")

    def add_operations(self, operations: Mapping[str, float]) -> None:
        """Count operations, by stage."""
        for stage, number in operations.items():
            self.operations[stage] = self.operations.get(stage, 0) + number

    @property
    def pairs_made(self) -> str:
        """The outcome of the requests for auxiliary pairs in words; empty without requests."""
        if not self.pairs:
            return ""
        asked, kept, cut, unparsed = (
            self.pairs.get(name, 0) for name in ("asked", "kept", "cut", "unparsed")
        )
        replies = counted(cut, "reply", "replies")
        return (
            f"pairs: {kept:,} kept from {counted(asked, 'passage')}, {replies} cut off, {unparsed:,} unparsed"
        )

    @property
    def few_pairs(self) -> bool:
        """Whether most passages that should have yielded a pair did not, or most pairs could not be trained."""
        if not self.pairs:
            return False
        names = ("asked", "kept", "untrainable", "given_up", "too_long")
        asked, kept, untrainable, given_up, too_long = (self.pairs.get(name, 0) for name in names)
        return kept == untrainable or 2 * (given_up + too_long) > asked or 2 * untrainable > kept

    @property
    def _in_the_prompt(self) -> str:
        """The share of the document in the prompts, in words that follow the number of questions."""
        kept = "" if self.kept is None else f", {self.kept:.0%} of the document in the prompt"
        unlike = {
            ", document not found in {}": self.not_located,
            ", {} skipped because the document does not fit": self.skipped,
            ", {} truncated because the document does not fit": self.truncated,
        }
        return kept + "".join(
            words.format(counted(number, "prompt")) for words, number in unlike.items() if number
        )

    def summary(self) -> str:
        """The record in one line."""
        name = self.title or self.digest[:12]
        parts = [f"{name}: {counted(self.tokens, 'token')}"]
        if self.losses:
            parts.append(
                f"{counted(len(self.losses), 'step')}, loss {self.losses[0]:.3f} -> {self.losses[-1]:.3f}"
            )
        if self.pairs_made:
            parts.append(self.pairs_made)
        parts.append(f"{counted(self.questions, 'question')}{self._in_the_prompt}")
        if self.aside.requests:
            parts.append(counted(self.aside.requests, "other request"))
        if self.thinking_tokens:
            parts.append(f"{counted(self.thinking_tokens, 'token')} of thinking")
        spent = [f"{stage} {seconds:.1f} s" for stage, seconds in self.seconds.items() if seconds >= 0.05]
        reused = [f"{' and '.join(self.reused)} from the store"] if self.reused else []
        retried = (
            ["retrained at a tenth of the learning rate because training diverged"] if self.retried else []
        )
        failed = [f"GIVEN UP: {self.failure}"] if self.failure else []
        return "; ".join([*parts, *spent, *reused, *retried, *failed])


class RunTotals(Recorded):
    """The sums over a run's documents, by the names of `DocumentRecord` and `RunRecord`.

    ``seconds`` has the stage ``load`` too. None for ``peak_memory_bytes`` means that it was not recorded.
    """

    documents: Count = 0
    failed_documents: Count = 0
    retried_documents: Count = 0
    documents_with_few_pairs: Count = 0
    questions: Count = 0
    aside_requests: Count = 0
    lost_questions: Count = 0
    questions_not_located: Count = 0
    skipped_questions: Count = 0
    truncated_questions: Count = 0
    questions_without_document: Count = 0
    incomplete_answers: Count = 0
    thinking_tokens: Count = 0
    trained_tokens: Count = 0
    kept: Number = 0.0
    seconds: dict[str, Number] = {}
    reused_documents: Count = 0
    reused_seconds: dict[str, Number] = {}
    processes: Count = 1
    wall_seconds: Number = 0.0
    peak_memory_bytes: Count | None = None


@dataclass
class RunRecord:
    """All documents of a run, and their total cost.

    Attributes:
        documents: In the order in which they were worked on.
        load_seconds: Time to load the base model.
        questions_without_document: Questions without a document, which the base model answered.
        processes: Processes or workers that shared the documents.
        wall_seconds: Time from the first request to the last answer; ``seconds`` of the documents add up those of all
            processes.
        peak_memory_bytes: Peak memory of any process.
    """

    documents: list[DocumentRecord] = field(default_factory=list)
    load_seconds: float = 0.0
    questions_without_document: int = 0
    processes: int = 1
    wall_seconds: float = 0.0
    peak_memory_bytes: int = 0

    @property
    def totals(self) -> RunTotals:
        """The sums over the documents."""
        documents = self.documents
        return RunTotals(
            documents=len(documents),
            failed_documents=sum(bool(document.failure) for document in documents),
            retried_documents=sum(bool(document.retried) for document in documents),
            documents_with_few_pairs=sum(
                document.few_pairs and not document.failure for document in documents
            ),
            questions=sum(document.questions for document in documents),
            aside_requests=sum(document.aside.requests for document in documents),
            lost_questions=sum(document.lost_questions for document in documents),
            questions_not_located=sum(document.not_located for document in documents),
            skipped_questions=sum(document.skipped for document in documents),
            truncated_questions=sum(document.truncated for document in documents),
            questions_without_document=self.questions_without_document,
            incomplete_answers=sum(document.incomplete_answers for document in documents),
            thinking_tokens=sum(document.thinking_tokens for document in documents),
            trained_tokens=sum(document.trained_tokens for document in documents),
            kept=_weighted_mean(
                [(d.kept, d.questions - d.not_located) for d in documents if d.kept is not None]
            ),
            seconds={
                "load": self.load_seconds,
                **{stage: sum(document.seconds[stage] for document in documents) for stage in STAGES},
            },
            reused_documents=sum(bool(document.reused) for document in documents),
            reused_seconds={
                stage: sum(document.reused_seconds.get(stage, 0.0) for document in documents)
                for stage in STAGES
            },
            processes=self.processes,
            wall_seconds=self.wall_seconds,
            peak_memory_bytes=self.peak_memory_bytes,
        )

    def as_dict(self) -> dict[str, Any]:
        """The record as plain data, with totals."""
        return {
            "totals": self.totals.model_dump(),
            "documents": [document.model_dump() for document in self.documents],
        }


def _weighted_mean(values: Sequence[tuple[float, int]]) -> float:
    total = sum(weight for _, weight in values)
    return sum(value * weight for value, weight in values) / total if total else 0.0


def versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that affect results."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found
