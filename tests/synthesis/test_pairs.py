"""From a document to checked question-answer pairs, and on to training samples."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from lift_eval.answering.decoding import Answer
from lift_eval.document import Document
from lift_eval.prompts.prompt import PromptEncoder
from lift_eval.recipe import AuxiliarySettings, PromptSettings
from lift_eval.synthesis.base import Request
from lift_eval.synthesis.pairs import PairYield, make_pairs
from lift_eval.synthesis.replies import Pair
from lift_eval.training.pair_samples import PairSamples
from tests.tiny_models import tiny_tokenizer

SENTENCES = [f"Mill {number} was built in {1800 + number}." for number in range(30)]
DOCUMENT = Document(" ".join(SENTENCES), "Mills")

CUT = "<CUT>"


@dataclass
class Script:
    """A generator whose replies are written beforehand: the same for all, or one for each call of a request.

    A reply that ends in CUT was cut off there.
    """

    replies: Sequence[str | None]
    calls: list[tuple[list[str], float, int]] = field(default_factory=list)
    identity: str = "script"
    operations: float = 0.0

    def generate(
        self, requests: Sequence[Request], *, temperature: float, seed: int
    ) -> Iterator[Answer | None]:
        reply = self.replies[min(len(self.calls), len(self.replies) - 1)]
        texts = [request.text for request in requests]
        self.calls.append((texts, temperature, seed))
        for request in texts:
            text = None if reply is None else reply.replace("<SENTENCE>", request.partition("|")[0])
            yield None if text is None else Answer(text.removesuffix(CUT), complete=not text.endswith(CUT))


def made(replies: Sequence[str | None], **settings: Any) -> tuple[PairYield, Script]:
    script = Script(replies)
    return make_pairs(DOCUMENT, AuxiliarySettings(**settings), script, seed=3), script


def labelled(question: str, answer: str = "x", evidence: str = SENTENCES[14]) -> str:
    return f"Question: {question}\nAnswer: {answer}\nEvidence: {evidence}"


PASSAGES: dict[str, Any] = {"strategy": "passages", "pairs": 4, "passage_sentences": 30}
EACH: dict[str, Any] = {"strategy": "sentences", "request": "{{ sentence }}"}


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("I cannot help with that.", "unparsed"),
        ("", "empty"),
        (labelled("Who?", answer=" "), "empty"),
        (labelled("Who?", evidence="Mill 14 was built in 1900."), "evidence"),
        (labelled("Who?", evidence=""), "evidence"),
    ],
)
def test_giving_up_is_bounded_and_counted(reply: str, reason: str) -> None:
    result, script = made([reply], **PASSAGES, attempts=3)
    assert result.pairs == ()
    assert len(script.calls) == 3
    assert result.counts[reason] == result.counts["requests"] == 12
    assert (result.counts["asked"], result.counts["given_up"], result.counts["kept"]) == (4, 4, 0)


def test_the_first_request_is_greedy_and_later_ones_are_sampled_with_other_seeds() -> None:
    _, script = made(["?"], **PASSAGES, attempts=3, temperature=0.6)
    assert [temperature for _, temperature, _ in script.calls] == [0.0, 0.6, 0.6]
    assert len({seed for _, _, seed in script.calls}) == 3


@pytest.mark.parametrize(
    "evidence", ["Mill 14 was  built\nin 1814.", '"Mill 14 was built in 1814."', "built in 1814"]
)
def test_evidence_is_compared_without_white_space_and_quotation_marks(evidence: str) -> None:
    result, _ = made([labelled("When?", evidence=evidence)], **{**PASSAGES, "pairs": 1})
    assert [pair.question for pair in result.pairs] == ["When?"]


def test_the_same_question_is_kept_once_and_asked_for_again() -> None:
    result, script = made([labelled("When?"), labelled(" when "), labelled("Where?")], **PASSAGES, attempts=3)
    assert [pair.question for pair in result.pairs] == ["When?", "Where?"]
    assert [len(requests) for requests, _, _ in script.calls] == [4, 3, 3]
    assert (result.counts["duplicate"], result.counts["given_up"]) == (3 + 3 + 2, 2)


def test_what_does_not_fit_or_has_no_question_is_not_asked_again() -> None:
    for reply, reason in ((None, "too_long"), ("None", "no_pair")):
        result, script = made([reply], **PASSAGES)
        assert len(script.calls) == 1
        assert (result.counts[reason], result.counts["given_up"]) == (4, 0)


def test_a_json_reply_holds_all_pairs_of_a_sentence() -> None:
    pairs = [{"question": f"{word} <SENTENCE>", "answer": "x"} for word in ("Who", "What", "Why")]
    result, script = made([json.dumps({"pairs": pairs})], **EACH, pairs=2)
    assert len(script.calls) == 1
    assert (result.counts["kept"], result.counts["surplus"]) == (60, 30)
    assert result.pairs[0] == Pair("Who Mill 0 was built in 1800.", "x")


def listed(*questions: str, cut: bool = False) -> str:
    reply = json.dumps({"pairs": [{"question": f"{word} <SENTENCE>", "answer": "x"} for word in questions]})
    return reply[: reply.rindex("answer")] + CUT if cut else reply


def test_of_a_cut_reply_whole_pairs_are_kept_and_the_rest_is_asked_for() -> None:
    request = "{{ sentence }}|{{ pairs }}|{{ questions | join('|') }}"
    replies = [listed("Who", "What", "Why", cut=True), listed("What", "How", "When", "Where")]
    result, script = made([*replies], **{**EACH, "request": request}, pairs=4)
    first, second = [requests for requests, _, _ in script.calls]
    assert first[0] == f"{SENTENCES[0]}|4|"
    assert second[0] == f"{SENTENCES[0]}|2|Who {SENTENCES[0]}|What {SENTENCES[0]}"
    assert [pair.question.split()[0] for pair in result.pairs[::30]] == ["Who", "Who", "How", "How"]
    assert {name: count for name, count in result.counts.items() if count} == {
        "asked": 30, "requests": 60, "kept": 120, "cut": 30, "duplicate": 30, "surplus": 30,
    }  # fmt: skip


def test_asking_for_the_rest_is_bounded() -> None:
    result, script = made(
        [listed("Who", "What", cut=True)], **{**EACH, "request": "{{ sentence }}"}, attempts=3
    )
    assert len(script.calls) == 3
    assert (result.counts["kept"], result.counts["cut"], result.counts["given_up"]) == (30, 90, 0)


def test_a_cut_reply_with_all_pairs_asked_for_is_not_asked_again() -> None:
    _, script = made([listed("Who", "What", cut=True)], **EACH, pairs=1)
    assert len(script.calls) == 1
    _, script = made([labelled("When?") + "\n\nI chose" + CUT], **{**PASSAGES, "pairs": 1})
    assert len(script.calls) == 1


def test_labelled_pairs_of_a_sentence_are_sampled_one_by_one() -> None:
    replies = [labelled(f"{word} <SENTENCE>") for word in ("Who", "What", "who")]
    result, script = made(replies, **EACH, reply="labels", pairs=3)
    assert len(script.calls) == 3
    assert (result.counts["kept"], result.counts["duplicate"], result.counts["given_up"]) == (60, 30, 0)


def test_a_sentence_without_a_pair_costs_one_request() -> None:
    result, script = made(["None"], **EACH, reply="labels", pairs=3)
    assert len(script.calls) == 1
    assert (result.counts["no_pair"], result.counts["requests"]) == (30, 30)


def test_pairs_survive_being_written_down() -> None:
    result, _ = made([labelled("Wann? é"), labelled("B?")], **PASSAGES)
    assert PairYield.from_json(json.loads(json.dumps(result.as_json()))) == result


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"pairs": 3, "counts": {}, "seconds": 0},
        {"pairs": [{"question": 1, "answer": "x"}], "counts": {}, "seconds": 0},
    ],
)
def test_other_data_is_no_pairs(data: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not the pairs"):
        PairYield.from_json(data)


# --- samples -------------------------------------------------------------------------------------------------------

PAIRS = [Pair("When was mill 3 built?", "In 1803"), Pair("When was mill 4 built?", "In 1804")]


def samples(epoch: int = 0, pairs: Sequence[Pair] = PAIRS, **settings: Any) -> list[tuple[str, str]]:
    tokenizer = tiny_tokenizer()
    prompts = settings.pop("prompts", ("test",))
    encoder = PromptEncoder(tokenizer, PromptSettings(**{"max_tokens": 400, **settings}), 1000)
    made = PairSamples(DOCUMENT, pairs, encoder, AuxiliarySettings(prompts=prompts)).epoch(epoch)
    return [(tokenizer.decode(sample.context), tokenizer.decode(sample.target)) for sample in made]


def test_the_prompt_is_that_of_the_test_and_the_answer_is_learned() -> None:
    (context, target), _ = samples()
    encoder = PromptEncoder(tiny_tokenizer(), PromptSettings(max_tokens=400), 1000)
    asked = encoder.encode(encoder.render(DOCUMENT, PAIRS[0].question), reserve=7)
    assert context == tiny_tokenizer().decode(asked.ids)
    assert "..." in context
    assert target == "In 1803"


def test_prefix_and_end_of_an_answer_are_the_recipes() -> None:
    assert samples(answer_prefix=" ", eos_after_answer=True)[0][1] == " In 1803<eos>"


def test_prompts_take_turns_by_pair_and_epoch() -> None:
    def closed(epoch: int) -> list[bool]:
        return [
            "The article" not in context for context, _ in samples(epoch, prompts=("test", "closed_book"))
        ]

    assert [closed(0), closed(1), closed(2)] == [[False, True], [True, False], [False, True]]


def test_a_question_that_fits_no_prompt_is_left_out_and_counted() -> None:
    encoder = PromptEncoder(tiny_tokenizer(), PromptSettings(max_tokens=400), 1000)
    long = Pair("Why " * 200, "x")
    made = PairSamples(DOCUMENT, [long, *PAIRS, long], encoder, AuxiliarySettings())
    assert len(list(made.epoch(0))) == len(list(made.epoch(1))) == 2
    assert made.untrainable == 2


def test_samples_are_there_before_the_last_pair() -> None:
    def arriving() -> Iterator[Pair]:
        yield PAIRS[0]
        pytest.fail("the second pair was waited for")

    encoder = PromptEncoder(tiny_tokenizer(), PromptSettings(), 16000)
    first = next(PairSamples(DOCUMENT, arriving(), encoder, AuxiliarySettings()).epoch(0))
    assert torch.equal(first.target, torch.tensor(encoder.plain_ids("In 1803")))
