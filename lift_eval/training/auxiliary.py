"""Auxiliary tasks: question-answer pairs made from the document and trained in stage 2 (paper, section 3.2).

    passages -> requests -> generator -> replies -> pairs, each checked -> training samples

Every loop is bounded, and everything refused is counted by its reason.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from lift_eval.document import Document
from lift_eval.errors import DocumentError
from lift_eval.prompt import PromptEncoder
from lift_eval.recipe import AuxiliarySettings
from lift_eval.training.generators import PairGenerator
from lift_eval.training.passages import Passage, choose_passages
from lift_eval.training.replies import Pair, read_reply
from lift_eval.training.samples import Sample

REASONS = ("no_pair", "unparsed", "empty", "evidence", "duplicate", "surplus", "too_long")
"""Why a reply, or a pair in it, is refused."""


@dataclass(frozen=True)
class PairYield:
    """The pairs of a document, and what became of the requests for them.

    Attributes:
        pairs: The pairs kept.
        counts: ``asked`` passages, ``requests`` sent for them, pairs ``kept``, and refusals by reason: ``no_pair``
            (the generator found nothing to ask), ``unparsed``, ``empty`` (question or answer), ``evidence`` (not
            verbatim in the passage), ``duplicate`` (question), ``surplus`` (more than asked for), ``too_long`` (the
            request does not fit the generator's window); ``given_up`` passages that yielded nothing usable.
        seconds: What it took.
    """

    pairs: tuple[Pair, ...]
    counts: Mapping[str, int]
    seconds: float = 0.0

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
            seconds = float(data["seconds"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not the pairs of a document: {error}") from error
        if not all(isinstance(value, str) for pair in pairs for value in asdict(pair).values()):
            raise ValueError("not the pairs of a document: a question, answer or evidence is no string")
        return cls(pairs, counts, seconds)


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
    began = time.perf_counter()
    counts: dict[str, int] = {}
    pairs = tuple(stream_pairs(document, settings, generator, seed, counts))
    return PairYield(pairs, counts, time.perf_counter() - began)


def stream_pairs(
    document: Document,
    settings: AuxiliarySettings,
    generator: PairGenerator,
    seed: int,
    counts: dict[str, int],
) -> Iterator[Pair]:
    """Yield a document's pairs as replies arrive, and count into ``counts``; see `make_pairs`."""
    passages = choose_passages(document, settings, torch.Generator().manual_seed(seed))
    counts.update(dict.fromkeys(("asked", "requests", "kept", *REASONS, "given_up"), 0), asked=len(passages))
    sampling = settings.strategy == "sentences" and settings.reply_format == "labels"
    check = _Check(settings, counts)
    waiting = list(passages)
    useless = set(range(len(passages)))
    numbers = {id(passage): number for number, passage in enumerate(passages)}
    for attempt in range(settings.pairs if sampling else settings.attempts):
        if not waiting:
            break
        replies = generator.generate(
            [passage.request for passage in waiting],
            temperature=settings.temperature if attempt else 0.0,
            seed=seed + attempt,
        )
        again = []
        for passage, reply in zip(waiting, replies, strict=True):
            counts["requests"] += 1
            pairs, final = check(passage, reply)
            counts["kept"] += len(pairs)
            if pairs or final:
                useless.discard(numbers[id(passage)])
            if not final and (sampling or not pairs):
                again.append(passage)
            yield from pairs
        waiting = again
    counts["given_up"] = len(useless)


class _Check:
    """Reads replies and keeps what is sound and new."""

    def __init__(self, settings: AuxiliarySettings, counts: dict[str, int]) -> None:
        self.settings, self.counts = settings, counts
        self.questions: set[str] = set()

    def __call__(self, passage: Passage, reply: str | None) -> tuple[list[Pair], bool]:
        """The new pairs of a reply, and whether asking again is pointless."""
        if reply is None:
            self.counts["too_long"] += 1
            return [], True
        if not reply.strip():
            self.counts["empty"] += 1
            return [], False
        reading = read_reply(reply, self.settings, passage.answer)
        self.counts["unparsed"] += reading.unparsed
        self.counts["no_pair"] += reading.no_pair
        pairs: list[Pair] = []
        for pair in reading.pairs:
            fault = self._fault(pair, passage, len(pairs))
            if fault:
                self.counts[fault] += 1
            else:
                self.questions.add(_normalised(pair.question))
                pairs.append(pair)
        return pairs, reading.no_pair

    def _fault(self, pair: Pair, passage: Passage, kept: int) -> str:
        if not pair.question.strip() or not pair.answer.strip():
            return "empty"
        if self.settings.needs_evidence and not _stands_in(pair.evidence, passage.text):
            return "evidence"
        if _normalised(pair.question) in self.questions:
            return "duplicate"
        return "surplus" if kept == self.settings.pairs else ""


def _stands_in(evidence: str, passage: str) -> bool:
    """Whether evidence is verbatim, white space and quotation marks around it aside."""
    for words in (_spaced(evidence), _spaced(evidence.strip().strip("\"'“”‘’"))):
        if words and words in _spaced(passage):
            return True
    return False


def _spaced(text: str) -> str:
    return " ".join(text.split())


def _normalised(question: str) -> str:
    return " ".join(re.findall(r"\w+", question.casefold())) or question


class PairSamples:
    """Training samples of a document's pairs: the prompt is read, the answer is learned.

    A pair that does not fit its prompt, even without the document, is left out.

    Args:
        document: The document.
        pairs: Its pairs, which may still be arriving.
        encoder: Of the prompts in which questions are asked in the test.
        settings: The recipe's auxiliary group.
        freezes: Whether the document in a prompt is a frozen prefix of the sample.

    Attributes:
        untrainable: Pairs left out so far.
    """

    def __init__(
        self,
        document: Document,
        pairs: Iterable[Pair],
        encoder: PromptEncoder,
        settings: AuxiliarySettings,
        *,
        freezes: bool = False,
    ) -> None:
        self.document, self.encoder, self.settings = document, encoder, settings
        self.freezes = freezes
        self.untrainable = 0
        self._arriving = iter(pairs)
        self._encoded: list[tuple[Sample, ...]] = []

    def epoch(self, number: int) -> Iterator[Sample]:
        """One sample of each pair, in order, as soon as the pair is there; prompts take turns by pair and epoch."""
        place = 0
        while place < len(self._encoded) or self._encode_next():
            samples = self._encoded[place]
            yield samples[(place + number) % len(samples)]
            place += 1

    def _encode_next(self) -> bool:
        """Encode the next pair that can be trained; false where there is none."""
        for pair in self._arriving:
            samples = self._samples(pair)
            if samples:
                self._encoded.append(samples)
                return True
            self.untrainable += 1
        return False

    def _samples(self, pair: Pair) -> tuple[Sample, ...]:
        try:
            return tuple(self._encode(pair, prompt) for prompt in self.settings.prompts)
        except DocumentError:
            return ()

    def _encode(self, pair: Pair, prompt: str) -> Sample:
        target = self.encoder.plain_ids(self.encoder.settings.answer_prefix + pair.answer)
        if self.encoder.settings.eos_after_answer:
            target.append(self.encoder.tokenizer.eos_token_id)
        rendered = self.encoder.render(self.document, pair.question, closed_book=prompt == "closed_book")
        prompt_ids = self.encoder.encode(rendered, reserve=len(target))
        context = torch.tensor(prompt_ids.ids)
        frozen = min(prompt_ids.before_question, len(context) - 1) if self.freezes else 0
        return Sample(context[frozen:], torch.tensor(target), context[:frozen])
