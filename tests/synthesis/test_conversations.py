"""Conversations about chunks of a document, and summaries of them: what is asked, kept, counted and trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from lift_eval.answering.decoding import Answer
from lift_eval.document import Document
from lift_eval.prompts.prompt import PromptEncoder
from lift_eval.recipe import AuxiliarySettings, PromptSettings
from lift_eval.synthesis.base import Request, system_message
from lift_eval.synthesis.conversations import INSTRUCTIONS
from lift_eval.synthesis.generators import Answered, ModelGenerator
from lift_eval.synthesis.pairs import PairYield, make_pairs, stream_pairs
from lift_eval.synthesis.replies import Pair
from lift_eval.training.pair_samples import PairSamples
from tests.answering.models import any_model
from tests.tiny_models import CHAT_TEMPLATE, bigram_model, thinking_tokenizer, tiny_model, tiny_tokenizer

SENTENCES = [f"Mill number {number} was built in the year {1800 + number}." for number in range(40)]
DOCUMENT = Document(" ".join(SENTENCES), "Mills")
SHORT: dict[str, Any] = {
    "strategy": "conversations", "pairs": 6, "chunk_characters": (100, 300), "temperature": 0.6, "batch": 4
}  # fmt: skip


@dataclass
class Speaker:
    """A generator whose messages are numbered, and whose answers say what they were asked."""

    answer: Callable[[Request], Answer | None] = lambda request: Answer(f"As to {request.text}", True)
    calls: list[tuple[list[Request], float, int]] = field(default_factory=list)
    identity: str = "speaker"
    operations: float = 0.0

    def generate(
        self, requests: Sequence[Request], *, temperature: float, seed: int
    ) -> Iterator[Answer | None]:
        self.calls.append((list(requests), temperature, seed))
        for number, request in enumerate(requests):
            if request.text.startswith("Write one message"):
                yield Answer(f"Message {len(self.calls)}.{number}", complete=True)
            else:
                yield self.answer(request)


def made(speaker: Speaker | None = None, **changes: Any) -> tuple[PairYield, Speaker]:
    speaker = speaker or Speaker()
    return make_pairs(DOCUMENT, AuxiliarySettings(**{**SHORT, **changes}), speaker, seed=3), speaker


def test_messages_are_sampled_and_answered_greedily_with_the_chunk_as_the_system_message() -> None:
    result, speaker = made()
    (messages, warm, _), *answers = speaker.calls
    assert (warm, [temperature for _, temperature, _ in answers]) == (0.6, [0.0, 0.0])
    assert [len(requests) for requests, _, _ in answers] == [4, 2]
    asked = [request for requests, _, _ in answers for request in requests]
    assert [request.system for request in asked] == [request.system for request in messages]
    for pair, request in zip(result.pairs, asked, strict=True):
        assert request.text == pair.question + "\n"
        assert request.system == f'This is a part of "Mills":\n\n{pair.passage}\n\n'
        assert pair.answer == f"As to {pair.question}"
    assert {name: result.counts[name] for name in ("asked", "requests", "kept", "given_up")} == {
        "asked": 6, "requests": 12, "kept": 6, "given_up": 0
    }  # fmt: skip


def test_a_chunk_is_whole_sentences_anywhere_within_the_limits_and_every_kind_is_drawn() -> None:
    result, speaker = made(pairs=200, attempts=1)
    lengths = [len(pair.passage) for pair in result.pairs]
    assert 100 - len(SENTENCES[0]) < min(lengths) < max(lengths) <= 300
    assert all(pair.passage in DOCUMENT.text for pair in result.pairs)
    assert all(pair.passage.startswith("Mill") and pair.passage.endswith(".") for pair in result.pairs)
    assert {pair.passage.split()[2] for pair in result.pairs} >= {"0", "20", "34"}
    (messages, _, _), *_ = speaker.calls
    for instruction in INSTRUCTIONS.values():
        assert any(instruction in request.text for request in messages)
    _, speaker = made(pairs=20, seeds=("question",))
    assert all(INSTRUCTIONS["question"] in request.text for request in speaker.calls[0][0])


def test_each_chunk_in_order_has_its_conversations_and_none_of_the_text_is_left_out() -> None:
    result, _ = made(chunk_draw="each", pairs=2)
    chunks = list(dict.fromkeys(pair.passage for pair in result.pairs))
    assert " ".join(chunks) == DOCUMENT.text
    assert [pair.passage for pair in result.pairs] == [chunk for chunk in chunks for _ in range(2)]


def test_a_short_document_is_one_chunk() -> None:
    short = Document(SENTENCES[0])
    result = make_pairs(short, AuxiliarySettings(**SHORT), Speaker(), seed=0)
    assert {pair.passage for pair in result.pairs} == {short.text}


def test_summaries_are_sampled_answers_to_one_message_about_each_chunk() -> None:
    result, speaker = made(strategy="summaries", pairs=3, batch=16)
    (requests, temperature, _) = speaker.calls[0]
    assert temperature == 0.6
    assert len(requests) == 16
    assert len({request.text for request in requests}) == 1
    assert len(set.union(*({seed + place for place in range(len(asked))} for asked, _, seed in speaker.calls))) == len(
        result.pairs
    )  # a server would repeat itself with the seed of another request  # fmt: skip
    chunks = list(dict.fromkeys(pair.passage for pair in result.pairs))
    assert " ".join(chunks) == DOCUMENT.text
    assert result.counts["kept"] == result.counts["requests"] == 3 * len(chunks)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "too_long"),
        (Answer(" ", complete=True), "empty"),
        (Answer("\ud800", complete=True), "unparsed"),
    ],
)
def test_a_message_without_an_answer_is_left_out_and_counted(answer: Answer | None, reason: str) -> None:
    result, _ = made(Speaker(lambda _: answer))
    assert result.pairs == ()
    assert (result.counts[reason], result.counts["kept"], result.counts["given_up"]) == (6, 0, 6)


def test_an_answer_that_was_cut_off_is_kept_as_it_is() -> None:
    result, _ = made(Speaker(lambda _: Answer("It was built in", complete=False)))
    assert {pair.answer for pair in result.pairs} == {"It was built in"}
    assert (result.counts["cut"], result.counts["kept"]) == (6, 6)


def test_answers_are_asked_for_before_all_messages_are_there() -> None:
    arriving = stream_pairs(DOCUMENT, AuxiliarySettings(**SHORT), speaker := Speaker(), 3, {})
    assert next(arriving).question == "Message 1.0"
    assert len(speaker.calls) == 2


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, None, "no system"])
def test_a_model_reads_the_chunk_as_its_teacher_will(template: str | None) -> None:
    """In the system message; before the message where there is none."""
    refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('none') }}{% endif %}"
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = refuses + CHAT_TEMPLATE if template == "no system" else template
    settings = AuxiliarySettings(**SHORT, template="{{ question }}\n")
    generator = ModelGenerator(tiny_model(), tokenizer, settings, 4096)
    read = generator._encode(Request("Who?\n", 'This is a part of "Mills":\n\nA mill.\n\n'))
    encoder = PromptEncoder(tokenizer, PromptSettings(chat_template=bool(template)), 4096)
    pair = Pair("Who?", "Ann", passage="A mill.")
    (sample,) = PairSamples(DOCUMENT, [pair], encoder, settings, distills=True).epoch(0)
    assert sample.teacher_context is not None
    assert tokenizer.decode(sample.teacher_context) == tokenizer.decode(read)
    assert "A mill." in tokenizer.decode(read)
    assert "A mill." not in tokenizer.decode(sample.context)
    assert ("system" in tokenizer.decode(read)) == (template == CHAT_TEMPLATE)


@pytest.mark.parametrize("strategy", ["conversations", "summaries"])
@pytest.mark.parametrize("architecture", ["llama", "mistral", "gemma2", "gemma3", "mamba2", "qwen3_next"])
def test_the_base_model_converses_with_itself_alike_in_every_batch(architecture: str, strategy: str) -> None:
    model = any_model(architecture)
    model.generation_config.eos_token_id = [257, *range(150, 200)]

    def talk(batch: int, seed: int = 3) -> PairYield:
        changes = {"strategy": strategy, "max_tokens": 24, "pairs": 3, "batch": batch}
        settings = AuxiliarySettings(**{**SHORT, **changes})
        return make_pairs(DOCUMENT, settings, ModelGenerator(model, tiny_tokenizer(), settings, 4096), seed)

    result = talk(batch=4)
    assert result.counts["kept"] > 0
    assert talk(batch=1).pairs == talk(batch=16).pairs == result.pairs
    assert talk(batch=4, seed=4).pairs != result.pairs
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("architecture", ["llama", "mistral", "gemma2", "gemma3", "mamba2", "qwen3_next"])
@pytest.mark.parametrize("draw", ["random", "each"])
def test_a_chunk_is_read_once_for_messages_about_it_and_their_answers(draw: str, architecture: str) -> None:
    model, read = any_model(architecture), []
    model.generation_config.eos_token_id = [257, *range(150, 200)]
    changes = {"chunk_characters": (1400, 1500), "chunk_draw": draw, "pairs": 4, "max_tokens": 24}
    settings = AuxiliarySettings(**{**SHORT, **changes, "attempts": 1})
    generator = ModelGenerator(model, tiny_tokenizer(), settings, 4096)
    model.get_input_embeddings().register_forward_pre_hook(lambda _, ids: read.append(ids[0].numel()))
    counts = make_pairs(DOCUMENT, settings, generator, seed=3).counts
    assert counts["requests"] > counts["asked"]  # messages were answered
    passages = list(settings.method.choose(DOCUMENT, settings, torch.Generator().manual_seed(3)))
    chunks = [passage.text for passage in passages]
    once = sum(map(len, chunks if draw == "random" else set(chunks)))
    requests = sum(len(passage.request()) for passage in passages)
    others = len(passages) * (len(system_message("Mills", "")) + 2 * 24 + 30)
    assert once < sum(read) < once + requests + others


@pytest.mark.parametrize("batch", [1, 2, 16])
def test_a_message_that_is_written_again_is_not_answered_again(batch: int) -> None:
    answers: list[Answer | None] = []

    class Recorded(ModelGenerator):
        def generate(self, requests: Sequence[Request], **how: Any) -> Iterator[Answer | None]:
            for reply in super().generate(requests, **how):
                answers.append(reply.answer if isinstance(reply, Answered) else reply)
                yield reply

    changes = {"temperature": 1e-4, "pairs": 4, "seeds": ("question",), "attempts": 2, "batch": batch}
    settings = AuxiliarySettings(**{**SHORT, **changes})
    generator = Recorded(bigram_model("\nWho<eos>"), thinking_tokenizer(), settings, 4096)
    result = make_pairs(Document(SENTENCES[0]), settings, generator, seed=3)
    assert [pair.question for pair in result.pairs] == ["Who"]
    assert result.counts["duplicate"] == 3 + 3  # of both attempts
    assert sum(answer is not None for answer in answers) == 1


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"chunk_characters": (300, 100)}, "least and then the most"),
        ({"seeds": ()}, "at least 1"),
        ({"reply": "json"}, "'reply: text' belongs to"),
        ({"demonstrations": [{"passage": "A", "question": "B", "answer": "C"}]}, "does not use"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        AuxiliarySettings(**{**SHORT, **changes})
