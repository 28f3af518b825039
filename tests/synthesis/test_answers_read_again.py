"""Questions whose answers the generator reads again in the passage, and pairs that their passage must hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import ValidationError

from lift_eval.answering.decoding import Answer
from lift_eval.document import Document
from lift_eval.recipe import AuxiliarySettings
from lift_eval.settings import Demonstration
from lift_eval.synthesis.base import Request
from lift_eval.synthesis.pairs import PairYield, make_pairs

DOCUMENT = Document("The mill was built by Otto Larkley in 1842. It burned down ten years later.", "Mills")
QUESTIONS = {"The mill was": "Who built the mill?", "It burned": "When did the mill burn down?"}
ANSWERS = {"Who built the mill?": "Otto Larkley", "When did the mill burn down?": "ten years later"}
TEMPLATE = "Text: {{ passage }}\nQuestion: {{ question }}\nAnswer:"
READ_AGAIN: dict[str, Any] = {
    "strategy": "sentences",
    "pairs": 1,
    "request": "Sentence: {{ sentence }}\n",
    "reply": "labels",
    "evidence": False,
    "answer_request": TEMPLATE,
}


def reads(request: Request) -> Answer:
    """What a good reader answers: the last question of the request."""
    asked = request.text.rpartition("Question: ")[2].removesuffix("\nAnswer:")
    return Answer(f" {ANSWERS[asked]}", complete=True)


@dataclass
class Reader:
    """A generator that writes a question about a sentence, and answers one about a passage."""

    answer: Callable[[Request], Answer | None] = reads
    calls: list[tuple[list[str], float]] = field(default_factory=list)
    identity: str = "reader"
    operations: float = 0.0

    def generate(
        self, requests: Sequence[Request], *, temperature: float, seed: int
    ) -> Iterator[Answer | None]:
        self.calls.append(([request.text for request in requests], temperature))
        for request in requests:
            if request.text.endswith("Answer:"):
                yield self.answer(request)
            else:
                begins = next(start for start in QUESTIONS if f"Sentence: {start}" in request.text)
                yield Answer(f"Question: {QUESTIONS[begins]}", complete=True)


def made(reader: Reader | None = None, **changes: Any) -> tuple[PairYield, Reader]:
    reader = reader or Reader()
    return make_pairs(DOCUMENT, AuxiliarySettings(**{**READ_AGAIN, **changes}), reader, seed=3), reader


def test_a_question_is_written_about_a_sentence_and_answered_with_the_text_before_it() -> None:
    result, reader = made()
    assert [(pair.question, pair.answer) for pair in result.pairs] == list(ANSWERS.items())
    (questions, _), (answers, temperature) = reader.calls
    assert questions[1] == "Sentence: It burned down ten years later.\n"
    assert answers[1] == f"Text: {DOCUMENT.text}\nQuestion: When did the mill burn down?\nAnswer:"
    assert temperature == 0.0
    assert (result.counts["asked"], result.counts["requests"], result.counts["kept"]) == (2, 4, 2)


def test_demonstrations_stand_before_both_requests_in_their_own_forms() -> None:
    shown = Demonstration(
        title="A barn", passage="The barn is red.", question="What is red?", answer="the barn"
    )
    _, reader = made(demonstrations=(shown,))
    (questions, _), (answers, _) = reader.calls
    assert questions[0].startswith("Sentence: The barn is red.\nQuestion: What is red?\n\nSentence: The mill")
    assert answers[0].startswith(
        "Text: The barn is red.\nQuestion: What is red?\nAnswer: the barn\n\nText: The mill"
    )


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (None, "too_long"),
        (Answer(" \n", complete=True), "empty"),
        (Answer("\ud800", complete=True), "unparsed"),
        (Answer("Otto Lark", complete=False), "cut"),
    ],
)
def test_a_question_without_a_whole_answer_is_left_out_and_counted(reply: Answer | None, reason: str) -> None:
    result, _ = made(Reader(lambda _: reply))
    assert (result.pairs, result.counts[reason], result.counts["kept"]) == ((), 2, 0)


@pytest.mark.parametrize(
    ("question", "answer", "kept"),
    [
        ("Who built the mill?", "Otto Larkley", True),
        ("Who built the mill?", "otto larkley.", True),
        ("Was the mill built in 1842?", "Yes", True),
        ("Who built the mill?", "Pettigrew", False),  # stands nowhere
        ("How old was it?", "0 years", False),  # stands in "10 years" at most
        ("Was it built by Otto Larkley?", "Otto Larkley", False),  # the question gives it away
        ("What did Pettigrew build in 1842?", "the mill", False),  # a name from elsewhere
    ],
)
@pytest.mark.parametrize("asked_apart", [True, False])
def test_a_grounded_pair_is_one_that_its_passage_holds(
    question: str, answer: str, kept: bool, asked_apart: bool
) -> None:
    class Fixed(Reader):
        def generate(
            self, requests: Sequence[Request], *, temperature: float, seed: int
        ) -> Iterator[Answer | None]:
            for request in requests:
                text = (
                    answer if request.text.endswith("Answer:") else f"Question: {question}\nAnswer: {answer}"
                )
                yield Answer(text, complete=True)

    one = Document("The mill was built by Otto Larkley in 1842, 10 years after the barn.", "Mills")
    settings = AuxiliarySettings(
        **{**READ_AGAIN, "grounded": True, "attempts": 1, "answer_request": TEMPLATE if asked_apart else None}
    )
    result = make_pairs(one, settings, Fixed(), seed=0)
    assert (len(result.pairs), result.counts["ungrounded"]) == ((1, 0) if kept else (0, 1))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"answer_request": "{{ passage }}"}, "'auxiliary.answer_request' must be a Jinja template of"),
        ({"reply": "json"}, "'auxiliary.answer_request' needs 'reply: labels'"),
        ({"evidence": True}, "'auxiliary.answer_request' needs 'reply: labels' and 'evidence: false'"),
    ],
)
def test_what_does_not_go_with_a_request_for_answers_is_refused(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        made(**changes)
