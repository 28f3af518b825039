"""Documents trained on pairs: by the model itself, by a server, ahead of time, from the store."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from lift_eval.document import Document
from lift_eval.errors import GeneratorError
from lift_eval.lifter.lifter import Lifter
from lift_eval.recipe import load_recipe
from lift_eval.record.progress import OnProgress, StageProgress
from lift_eval.record.record import DocumentRecord
from lift_eval.store import Store
from tests.synthesis.server import Log, Reply, chat_server, wait_until
from tests.tiny_models import tiny_model, tiny_tokenizer

COMMON: dict[str, Any] = {
    "adapter.rank": 4,
    "training.learning_rate": 1e-3,
    "training.schedule": "constant",
    "training.context_epochs": 0,
    "training.joint_epochs": 2,
    "training.joint_segments": False,
    "training.samples_per_step": 2,
    "training.segment_tokens": 256,
    "training.stride_tokens": 128,
    "prompt.max_tokens": 300,
}
SERVER = {
    "auxiliary.strategy": "sentences",
    "auxiliary.generator": "openai:m",
    "auxiliary.request": "{{ sentence }}",
    "auxiliary.timeout_seconds": 20.0,
    "auxiliary.retries": 0,
}
FIRST = Document(" ".join(f"Mill {number} was built in {1800 + number}." for number in range(6)), "Mills")
SECOND = Document(" ".join(f"Ship {number} was sunk in {1900 + number}." for number in range(6)), "Ships")


def lifter(changes: dict[str, Any], store: Store | None = None) -> Lifter:
    recipe = load_recipe("lora", {**COMMON, **changes})
    return Lifter(model(), tiny_tokenizer(), recipe, store=store)


def model(seed: int = 0) -> PreTrainedModel:
    """A random model that ends its replies soon; one that was cut off is no summary."""
    made = tiny_model(seed=seed)
    made.generation_config.eos_token_id = [257, *range(150, 200)]
    return made


def trained(made: Lifter, document: Document = FIRST, following: Document | None = None) -> DocumentRecord:
    with made.session(document) as session:
        session.train(following=following)
        return session.record


def pair_about(sentence: str) -> str:
    return json.dumps({"pairs": [{"question": f"What of this: {sentence}", "answer": sentence[:4]}]})


def answer_well(request: dict[str, Any], _: int) -> str:
    return pair_about(request["messages"][0]["content"])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    with chat_server(answer_well) as log:
        connect(log, monkeypatch)
        yield log


def connect(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", log.url)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


# --- the model itself ----------------------------------------------------------------------------------------------

PARAGRAPHS = Document("\n\n".join(f"Paragraph {number}: It rained {number} times." for number in range(1, 7)))
SUMMARIES = {"auxiliary.strategy": "paragraphs", "auxiliary.pairs": 4, "auxiliary.max_tokens": 24}


def test_a_random_model_summarizes_paragraphs_and_is_trained_on_their_names() -> None:
    record = trained(lifter(SUMMARIES), PARAGRAPHS)
    assert record.pairs["kept"] == record.pairs["asked"] == 4
    assert len(record.losses) == 4
    assert record.supervised_tokens == 2 * 4 * len("Paragraph 1")
    assert record.seconds["synthesis"] > 0


def test_segments_are_the_paragraphs() -> None:
    changes = {"training.context_epochs": 1, "training.samples_per_step": "all"}
    record = trained(lifter({**SUMMARIES, **changes}), PARAGRAPHS)
    paragraphs = PARAGRAPHS.text.count("Paragraph")
    supervised = (
        len(PARAGRAPHS.text) - paragraphs
    )  # blank lines too; nothing is before a paragraph's first token
    assert record.supervised_tokens == supervised + 2 * 4 * len("Paragraph 1")


def test_the_pairs_of_a_document_depend_on_no_other_document() -> None:
    changes = {**SUMMARIES, "auxiliary.pairs": 12}
    alone = trained(lifter(changes), PARAGRAPHS)
    other = Document(PARAGRAPHS.text.replace("rained", "snowed"))
    made = lifter(changes)
    trained(made, other)
    after = trained(made, PARAGRAPHS)
    assert after.pairs == alone.pairs
    assert after.pairs["duplicate"] > 0  # so that some were sampled
    assert after.losses == alone.losses


def test_a_model_that_writes_nothing_usable_trains_on_segments_alone() -> None:
    changes = {"auxiliary.strategy": "passages", "auxiliary.pairs": 2, "auxiliary.attempts": 2}
    record = trained(lifter({**changes, "auxiliary.max_tokens": 8, "training.joint_segments": True}))
    assert (record.pairs["kept"], record.pairs["given_up"], record.pairs["requests"]) == (0, 2, 4)
    assert record.losses


# --- a server ------------------------------------------------------------------------------------------------------


def test_training_starts_on_the_first_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    stepped = threading.Event()

    def hold_last(request: dict[str, Any], _: int) -> str:
        sentence = request["messages"][0]["content"]
        if sentence.startswith("Mill 5"):
            assert stepped.wait(20)
        return pair_about(sentence)

    with chat_server(hold_last) as log:
        connect(log, monkeypatch)
        made = lifter(SERVER)
        with made.session(FIRST) as session:
            session.train(on_step=lambda *_: stepped.set())
    assert session.record.pairs["kept"] == 6
    assert len(session.record.losses) == 6


def test_when_pairs_arrive_changes_nothing_about_the_training(
    server: Log, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    at_once = trained(lifter(SERVER))
    with chat_server(
        lambda request, number: Reply(answer_well(request, number), delay=0.02 * (number % 3))
    ) as slow:
        connect(slow, monkeypatch)
        assert trained(lifter(SERVER)).losses == at_once.losses
    connect(server, monkeypatch)
    made = lifter(SERVER, Store(tmp_path))
    trained(made, SECOND, following=FIRST)
    ahead = trained(made)
    assert ahead.losses == at_once.losses
    for entry in made.store.entries():  # type: ignore[union-attr]
        if entry.kind == "adapters":
            next(tmp_path.rglob(f"*{entry.key}*")).unlink()
    stored = trained(made)
    assert stored.losses == at_once.losses
    assert stored.reused == ["pairs"]
    assert stored.pairs == at_once.pairs
    assert stored.made_pairs == at_once.made_pairs
    assert len(at_once.made_pairs) == at_once.pairs["kept"]


def test_the_next_documents_pairs_are_made_while_one_trains(server: Log) -> None:
    made = lifter(SERVER)
    with made.session(FIRST) as session:
        session.train(on_step=lambda *_: wait_until(lambda: len(server.requests) == 12), following=SECOND)
    record = trained(made, SECOND)
    assert record.pairs["kept"] == 6
    assert len(server.requests) == 12
    assert [prompt[:4] for prompt in server.prompts] == ["Mill"] * 6 + ["Ship"] * 6


def test_pairs_are_shared_by_recipes_that_differ_in_training_alone(server: Log, tmp_path: Path) -> None:
    store = Store(tmp_path)
    trained(lifter(SERVER, store))
    record = trained(
        lifter({**SERVER, "training.learning_rate": 1e-4, "auxiliary.prompts": ["closed_book"]}, store)
    )
    assert record.reused == ["pairs"]
    assert len(server.requests) == 6
    trained(lifter({**SERVER, "auxiliary.pairs": 3}, store))
    assert len(server.requests) == 12


def test_a_server_that_gave_no_pair_is_asked_again_by_the_next_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with chat_server(lambda body, number: "no JSON") as log:
        connect(log, monkeypatch)
        for asked in (6, 12):
            with pytest.raises(GeneratorError, match="0 kept from 6 passages, 0 replies cut off, 6 unparsed"):
                trained(lifter({**SERVER, "auxiliary.attempts": 1}, Store(tmp_path)))
            assert len(log.requests) == asked


def test_pairs_of_the_model_itself_are_found_again_and_of_another_are_not(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = trained(lifter(SUMMARIES, store), PARAGRAPHS)
    again = trained(lifter({**SUMMARIES, "training.learning_rate": 1e-4}, store), PARAGRAPHS)
    assert (again.reused, again.pairs) == (["pairs"], first.pairs)
    recipe = load_recipe("lora", {**COMMON, **SUMMARIES})
    other = Lifter(model(seed=1), tiny_tokenizer(), recipe, store=store)
    assert trained(other, PARAGRAPHS).reused == []


def test_the_second_implementation_from_its_own_form_of_reply_to_its_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two pairs of each of six sentences, four a step, for five epochs; answers are sampled as the checkpoint says."""

    def reply(request: dict[str, Any], number: int) -> str:
        assert (request["model"], request["max_tokens"]) == ("Qwen/Qwen2.5-72B-Instruct", 8000)
        assert 'what the last sentence states ("Mill' in request["messages"][0]["content"]
        pairs = [{"question": f"{word} {number}?", "answer": "It was."} for word in ("Who", "When")]
        return json.dumps({"qa_list": pairs})

    answers = {}
    with chat_server(reply) as log:
        connect(log, monkeypatch)
        for samples in (False, True):
            recipe = load_recipe(
                "v2", {"adapter.rank": 4, "precision.dtype": "float32", "decoding.max_new_tokens": 8}
            )
            made = Lifter(model(), tiny_tokenizer(chat_template=True), recipe)
            made.model.generation_config.update(do_sample=samples, temperature=2.0)
            with made.lift(FIRST) as session:
                answers[samples] = session.answer(["When was mill 3 built?"] * 3)
            assert session.record.pairs["kept"] == 12
            assert len(session.record.losses) == 15
    assert len(set(answers[False])) == 1 < len(set(answers[True]))


def test_a_server_that_fails_midway_leaves_the_model_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_last(request: dict[str, Any], _: int) -> Reply:
        sentence = request["messages"][0]["content"]
        return Reply("down", status=500) if sentence.startswith("Mill 5") else Reply(pair_about(sentence))

    with chat_server(fail_last) as log:
        connect(log, monkeypatch)
        made = lifter(SERVER)
        before = {name: tensor.clone() for name, tensor in made.model.state_dict().items()}
        steps: list[int] = []
        with pytest.raises(GeneratorError, match="status 500"), made.session(FIRST) as session:
            session.train(on_step=lambda step, *_: steps.append(step))
    assert steps
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.model.state_dict().items())


@pytest.mark.parametrize("schedule", ["constant", "linear"])
def test_a_document_that_waits_for_a_server_shows_its_progress(
    schedule: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the training already under way, and before it."""
    seen = threading.Event()

    class Watched(StageProgress):
        @contextmanager
        def stage(self, name: str) -> Iterator[OnProgress]:
            with super().stage(name) as show:

                def watched(done: int, total: int, note: str = "") -> None:
                    show(done, total, note)
                    if name == "making pairs":
                        seen.set()

                yield watched

    def hold_last(request: dict[str, Any], _: int) -> str:
        sentence = request["messages"][0]["content"]
        if sentence.startswith("Mill 5"):
            assert seen.wait(20)
        return pair_about(sentence)

    with chat_server(hold_last) as log:
        connect(log, monkeypatch)
        made = lifter({**SERVER, "training.schedule": schedule})
        with made.session(FIRST, progress=Watched()) as session:
            session.train()
    shown = capsys.readouterr().err
    assert re.search(r"making pairs \d/6 \[", shown)
    assert re.search(r"training \d/\d \[", shown)


def test_a_schedule_that_must_know_its_length_waits_for_all_pairs(server: Log) -> None:
    totals: list[int] = []
    made = lifter({**SERVER, "training.schedule": "linear"})
    with made.session(FIRST) as session:
        session.train(on_step=lambda _, total, __: totals.append(total))
    assert totals == [6] * 6


def test_a_missing_server_is_told_before_any_document(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(GeneratorError, match="OPENAI_BASE_URL"):
        lifter(SERVER)


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_the_server_wants_is_missed_before_any_document(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def models(key: str) -> Reply:
        return Reply("[]") if key == "Bearer the-key" else Reply("no key, no pairs", status=status)

    with chat_server(lambda *_: Reply(status=status), models) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        with pytest.raises(GeneratorError, match=f"refused with status {status} .*no key, no pairs.*the key"):
            lifter(SERVER)
        monkeypatch.setenv("OPENAI_API_KEY", "the-key")
        lifter(SERVER)
        assert server.requests == []


@pytest.mark.parametrize(
    "models", [Reply(status=500), Reply(status=404), Reply(body=b"no JSON"), Reply(cut=True)]
)
def test_a_server_that_does_not_list_its_models_is_asked_for_pairs(
    models: Reply, monkeypatch: pytest.MonkeyPatch
) -> None:
    with chat_server(lambda *_: "x", lambda _: models) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        lifter(SERVER)
