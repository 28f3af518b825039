"""Question-answer pairs made from the document (paper, section 3.2).

    passages -> requests -> generator -> replies -> pairs, each checked
    passages -> requests -> generator -> questions, each checked -> generator -> answers, each checked

The second line is that of conversations, and of recipes with a request for answers. Where a recipe asks for rewrites,
passages -> requests -> generator -> rewrites comes last.

Every loop is bounded, and everything refused is counted by its reason.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, TypeAlias

import torch

from lift_eval.answering.decoding import Answer
from lift_eval.document import Document
from lift_eval.synthesis.base import Passage, Request, render, system_message
from lift_eval.synthesis.generators import Answered, PairGenerator
from lift_eval.synthesis.replies import Pair, is_text, read_reply
from lift_eval.synthesis.settings import AuxiliarySettings

Asked: TypeAlias = tuple[Passage, Pair, Answer | None]
"""A passage, a question about it, and the reply to that where it is there already."""

REASONS = (
    "no_pair",
    "unparsed",
    "cut",
    "empty",
    "evidence",
    "ungrounded",
    "duplicate",
    "surplus",
    "too_long",
)
"""Why a reply, a part of it or a pair in it is refused."""


@dataclass(frozen=True)
class PairYield:
    """The pairs of a document, and what became of the requests for them.

    Attributes:
        pairs: The pairs kept.
        counts: ``asked`` passages, ``requests`` sent for them, pairs ``kept``, and refusals by reason: ``no_pair``
            (the generator found nothing to ask), ``unparsed``, ``cut`` (the reply was cut off; its whole pairs are
            read, and the rest is asked for; the answer of a conversation is kept as it is), ``empty`` (question, answer
            or rewrite), ``evidence`` (not verbatim in the passage), ``ungrounded`` (the passage does not hold the
            answer), ``duplicate`` (question), ``surplus`` (more than asked for), ``too_long`` (the request does not fit
            the generator's window); ``given_up`` passages that yielded
            nothing usable.
        seconds: What it took.
        operations: What it took the generator, where that is a local model; see `models.operations`.
    """

    pairs: tuple[Pair, ...]
    counts: Mapping[str, int]
    seconds: float = 0.0
    operations: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Plain data that json can write."""
        return asdict(self) | {"pairs": [asdict(pair) for pair in self.pairs]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PairYield:
        """Back from `as_json`.

        Raises:
            ValueError: If the data is none of ours.
        """
        try:
            pairs = tuple(Pair(**pair) for pair in data["pairs"])
            counts = {str(reason): int(count) for reason, count in data["counts"].items()}
            seconds, operations = float(data["seconds"]), float(data["operations"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not the pairs of a document: {error}") from error
        if not all(isinstance(value, str) for pair in pairs for value in asdict(pair).values()):
            raise ValueError(
                "not the pairs of a document: a question, answer, evidence or passage is no string"
            )
        return cls(pairs, counts, seconds, operations)


def make_pairs(
    document: Document, settings: AuxiliarySettings, generator: PairGenerator, seed: int
) -> PairYield:
    """Make a document's pairs.

    Args:
        document: The document.
        settings: The recipe's auxiliary group.
        generator: Who is asked.
        seed: Of everything random; from the recipe's seed and the document.

    Returns:
        The pairs and the counts; with a generator that answers alike, the same for the same arguments.

    Raises:
        DocumentError: If the strategy does not fit the document.
        GeneratorError: If the generator fails.
    """
    began, before = time.perf_counter(), generator.operations
    counts: dict[str, int] = {}
    pairs = tuple(stream_pairs(document, settings, generator, seed, counts))
    return PairYield(pairs, counts, time.perf_counter() - began, generator.operations - before)


def stream_pairs(
    document: Document,
    settings: AuxiliarySettings,
    generator: PairGenerator,
    seed: int,
    counts: dict[str, int],
) -> Iterator[Pair]:
    """Yield a document's pairs as replies arrive, and count into ``counts``; see `make_pairs`."""
    method = settings.method
    passages = list(method.choose(document, settings, torch.Generator().manual_seed(seed)))
    counts.update(dict.fromkeys(("asked", "requests", "kept", *REASONS, "given_up"), 0), asked=len(passages))
    if method.message:
        counts["kept"] = len(passages)
        asked: Iterable[Asked] = (
            (passage, Pair(method.message, "", passage=passage.text), None) for passage in passages
        )
    else:
        asked = _ask(document, passages, settings, generator, seed, counts)
    if settings.asks_for_answers:
        pairs = _answer(document, asked, settings, generator, seed, counts)
    else:
        pairs = (pair for _, pair, _ in asked)
    yield from (
        pairs
        if settings.rewrite_request is None
        else _rewrite(document, pairs, settings, settings.rewrite_request, generator, counts)
    )


def _ask(
    document: Document,
    passages: Sequence[Passage],
    settings: AuxiliarySettings,
    generator: PairGenerator,
    seed: int,
    counts: dict[str, int],
) -> Iterator[Asked]:
    """Ask about each passage, again where a reply cannot be used; pairs whose answers are asked for apart lack them."""
    sampling, converses = settings.samples_pairs, settings.method.converses
    check = _Check(settings, counts)
    made: list[list[str]] = [[] for _ in passages]
    waiting = list(range(len(passages)))
    useless = set(waiting)
    asked: dict[str, int] = {}

    def is_new(number: int, question: str) -> bool:
        """Whether a question may be kept, which it may not behind the same one about an earlier passage."""
        words = _normalised(question)
        asked[words] = min(number, asked.get(words, number))
        return asked[words] == number and words not in check.questions

    for attempt in range(settings.pairs if sampling else settings.attempts):
        if not waiting:
            break
        replies = generator.generate(
            [
                _request(
                    document,
                    passages[number],
                    () if sampling else made[number],
                    settings,
                    partial(is_new, number),
                )
                for number in waiting
            ],
            temperature=settings.temperature if attempt or converses else 0.0,
            seed=seed + attempt * len(passages),  # a generator adds the number of each request
        )
        again = []
        for number, reply in zip(waiting, replies, strict=True):
            counts["requests"] += 1
            pairs, final = check(passages[number], reply, len(made[number]))
            counts["kept"] += len(pairs)
            made[number] += [pair.question for pair in pairs]
            if pairs or final:
                useless.discard(number)
            cut = reply is not None and not reply.complete
            rest = cut and len(made[number]) < settings.pairs_in_reply
            if not final and (sampling or not pairs or rest):
                again.append(number)
            then = reply.answer if isinstance(reply, Answered) else None
            yield from ((passages[number], pair, then) for pair in pairs)
        waiting = again
    counts["given_up"] += len(useless)


def _answer(
    document: Document,
    asked: Iterable[Asked],
    settings: AuxiliarySettings,
    generator: PairGenerator,
    seed: int,
    counts: dict[str, int],
) -> Iterator[Pair]:
    """Ask for the answers of questions; that of a conversation is as good as it is long where it was cut off."""
    arriving = iter(asked)
    while group := list(islice(arriving, settings.batch)):
        replies = generator.generate(
            [
                _request_for_answer(document, passage, pair, settings)
                for passage, pair, there in group
                if there is None
            ],
            temperature=settings.temperature if settings.method.message else 0.0,
            seed=seed + counts["requests"],  # each message may be the same
        )
        counts["requests"] += len(group)
        for passage, pair, there in group:
            reply = there or next(replies)
            fault = _fault_of_answer(reply, passage, pair, settings)
            if reply is None or fault:
                counts[fault] += 1
                counts["kept"] -= 1
                counts["given_up"] += settings.method.converses
                continue
            counts["cut"] += not reply.complete
            yield replace(pair, answer=reply.text.strip())


def _rewrite(
    document: Document,
    pairs: Iterator[Pair],
    settings: AuxiliarySettings,
    template: str,
    generator: PairGenerator,
    counts: dict[str, int],
) -> Iterator[Pair]:
    """Put behind the passage of each pair the same in other words; a passage whose rewrite is of no use stays alone."""
    shown: dict[str, str] = {}
    while group := list(islice(pairs, settings.batch)):
        new = list(dict.fromkeys(pair.passage for pair in group if pair.passage not in shown))
        requests = [
            Request(render(template, title=document.title, passage=passage), formatted=False)
            for passage in new
        ]
        counts["requests"] += len(requests)
        replies = generator.generate(requests, temperature=0.0, seed=0) if requests else ()
        for passage, reply in zip(new, replies, strict=True):
            fault = _fault_of_text(reply)
            if reply is None or fault:
                counts[fault] += 1
                shown[passage] = passage
            else:
                shown[passage] = f"{passage}\n\n{reply.text.strip()}"
        yield from (replace(pair, passage=shown[pair.passage]) for pair in group)


def _request(
    document: Document,
    passage: Passage,
    made: Sequence[str],
    settings: AuxiliarySettings,
    is_new: Callable[[str], bool],
) -> Request:
    if not settings.method.converses:
        return Request(passage.request(made))

    def follow(message: Answer) -> Request | None:
        pairs = read_reply(message, settings, passage.answer).pairs
        asks = pairs and pairs[0].question and is_new(pairs[0].question)
        return _request_for_answer(document, passage, pairs[0], settings) if asks else None

    return Request(passage.request(made), system_message(document.title, passage.text), follow=follow)


def _request_for_answer(
    document: Document, passage: Passage, pair: Pair, settings: AuxiliarySettings
) -> Request:
    if settings.method.converses:
        return Request(pair.question + "\n", system_message(document.title, passage.text))
    return Request(passage.answer_request(pair.question), formatted=False)


def _fault_of_answer(reply: Answer | None, passage: Passage, pair: Pair, settings: AuxiliarySettings) -> str:
    fault = _fault_of_text(reply)
    if fault == "cut" and settings.method.converses:
        fault = ""
    if reply is None or fault or not settings.grounded:
        return fault
    return "" if _is_grounded(pair.question, reply.text, passage.shown) else "ungrounded"


def _fault_of_text(reply: Answer | None) -> str:
    """Why a reply in plain text is of no use; empty where it is."""
    if reply is None:
        return "too_long"
    if not reply.text.strip():
        return "empty"
    if not is_text(reply.text):
        return "unparsed"
    return "" if reply.complete else "cut"


class _Check:
    """Reads replies and keeps what is sound and new."""

    def __init__(self, settings: AuxiliarySettings, counts: dict[str, int]) -> None:
        self.settings, self.counts = settings, counts
        self.questions: set[str] = set()
        self._grounds = settings.grounded and not settings.asks_for_answers

    def __call__(self, passage: Passage, reply: Answer | None, made: int) -> tuple[list[Pair], bool]:
        """The new pairs of a reply, and whether asking again is pointless; so many were made before."""
        if reply is None:
            self.counts["too_long"] += 1
            return [], True
        if not reply.text.strip():
            self.counts["empty" if reply.complete else "cut"] += 1
            return [], False
        reading = read_reply(reply, self.settings, passage.answer)
        if reply.complete:
            self.counts["unparsed"] += reading.unparsed
        else:
            self.counts["cut"] += 1
        self.counts["no_pair"] += reading.no_pair
        pairs: list[Pair] = []
        for pair in reading.pairs:
            fault = self._fault(pair, passage, made + len(pairs))
            if fault:
                self.counts[fault] += 1
            else:
                self.questions.add(_normalised(pair.question))
                pairs.append(replace(pair, passage=passage.text))
        return pairs, reading.no_pair

    def _fault(self, pair: Pair, passage: Passage, kept: int) -> str:
        if not pair.question.strip() or not (pair.answer.strip() or self.settings.asks_for_answers):
            return "empty"
        if self.settings.needs_evidence and not _stands_in(pair.evidence, passage.text):
            return "evidence"
        if self._grounds and not _is_grounded(pair.question, pair.answer, passage.shown):
            return "ungrounded"
        if _normalised(pair.question) in self.questions:
            return "duplicate"
        return "surplus" if kept == self.settings.pairs else ""


def _stands_in(evidence: str, passage: str) -> bool:
    """Whether evidence is verbatim, white space and quotation marks around it aside."""
    for words in (_collapse_spaces(evidence), _collapse_spaces(evidence.strip().strip("\"'“”‘’"))):
        if words and words in _collapse_spaces(passage):
            return True
    return False


def _is_grounded(question: str, answer: str, passage: str) -> bool:
    """Whether a passage holds an answer that its question does not give away, and the names that the question uses."""
    held, given, asked = (f" {_normalised(text)} " for text in (passage, answer, question))
    names = [word for word in question.split()[1:] if word[0].isupper()]
    return (
        (given in held or given.strip() in ("yes", "no"))
        and given not in asked
        and all(f" {_normalised(name)} " in held for name in names)
    )


def _collapse_spaces(text: str) -> str:
    return " ".join(text.split())


def _normalised(question: str) -> str:
    return " ".join(re.findall(r"\w+", question.casefold())) or question
