"""Passages in other words, which stand behind them where pairs are trained with their passage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import ValidationError

from lift_eval.answering.decoding import Answer
from lift_eval.document import Document
from lift_eval.recipe import AuxiliarySettings
from lift_eval.synthesis.base import Request
from lift_eval.synthesis.pairs import PairYield, make_pairs

DOCUMENT = Document("The mill was built in 1842. It burned down later. The barn stands.", "Mills")
REWRITTEN: dict[str, Any] = {
    "strategy": "passages",
    "pairs": 12,
    "passage_sentences": 1,
    "evidence": False,
    "prompts": ["passage", "closed_book"],
    "rewrite_request": "Say otherwise, from {{ title }}: {{ passage }}",
    "batch": 5,
}


@dataclass
class Writer:
    """A generator that asks a new question each time, and rewrites as it is told."""

    rewrite: Callable[[str], Answer | None]
    rewrites: list[tuple[str, float]] = field(default_factory=list)
    identity: str = "writer"
    operations: float = 0.0
    asked: int = 0

    def generate(
        self, requests: Sequence[Request], *, temperature: float, seed: int
    ) -> Iterator[Answer | None]:
        for request in requests:
            if request.text.startswith("Say otherwise"):
                self.rewrites.append((request.text, temperature))
                yield self.rewrite(request.text)
            else:
                self.asked += 1
                yield Answer(f"Question: Number {self.asked}?\nAnswer: yes", complete=True)


def made(rewrite: Callable[[str], Answer | None], **changes: Any) -> tuple[PairYield, Writer]:
    writer = Writer(rewrite)
    return make_pairs(DOCUMENT, AuxiliarySettings(**{**REWRITTEN, **changes}), writer, seed=0), writer


def test_each_passage_is_rewritten_once_and_stands_before_its_rewrite() -> None:
    result, writer = made(lambda text: Answer(f" In other words: {text[-9:]}\n", complete=True))
    sentences = {"The mill was built in 1842.", "It burned down later.", "The barn stands."}
    assert {pair.passage for pair in result.pairs} == {
        f"{sentence}\n\nIn other words: {sentence[-9:]}" for sentence in sentences
    }
    assert sorted(writer.rewrites) == sorted(
        (f"Say otherwise, from Mills: {sentence}", 0.0) for sentence in sentences
    )
    assert (result.counts["kept"], result.counts["requests"]) == (12, 15)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (None, "too_long"),
        (Answer(" ", complete=True), "empty"),
        (Answer("\ud800", complete=True), "unparsed"),
        (Answer("The mill was", complete=False), "cut"),
    ],
)
def test_a_passage_stays_alone_where_its_rewrite_is_of_no_use(reply: Answer | None, reason: str) -> None:
    result, _ = made(lambda _: reply)
    assert {pair.passage for pair in result.pairs} == set(DOCUMENT.text.replace(". ", ".|").split("|"))
    assert (result.counts[reason], result.counts["kept"]) == (3, 12)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"rewrite_request": "{{ title }}"}, "'auxiliary.rewrite_request' must be a Jinja template of"),
        ({"prompts": ["closed_book"]}, "'auxiliary.rewrite_request' needs a prompt that shows it"),
    ],
)
def test_a_rewrite_that_nobody_would_read_is_refused(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        made(lambda _: None, **changes)
