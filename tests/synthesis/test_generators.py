"""Generators on this machine: the model that is lifted, and another checkpoint."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from lift_eval.adapters.attach import attach, unadapted
from lift_eval.adapters.state import AdapterState
from lift_eval.answering.decoding import Answer
from lift_eval.answering.thinking import Thinking
from lift_eval.errors import CheckpointError
from lift_eval.lifter.lifter import Lifter
from lift_eval.recipe import AuxiliarySettings, LoraSettings, PissaSettings, PrecisionSettings, load_recipe
from lift_eval.synthesis.base import Request
from lift_eval.synthesis.generators import LocalGenerator, ModelGenerator
from tests.answering.models import COPIED, any_model
from tests.tiny_models import bigram_model, save_checkpoint, thinking_tokenizer, tiny_model, tiny_tokenizer

REQUESTS = ["Write a question.", "Write another question about the mill.", "And one more, please?"]


def generator(
    model: Any = None, window: int = 16384, *, chat: bool = False, **settings: Any
) -> ModelGenerator:
    settings = {"max_tokens": 16, "batch": 2, **settings}
    model = tiny_model() if model is None else model
    return ModelGenerator(model, tiny_tokenizer(chat_template=chat), AuxiliarySettings(**settings), window)


def replies(made: Any, temperature: float = 0.0, seed: int = 0) -> list[Answer | None]:
    return list(made.generate(list(map(Request, REQUESTS)), temperature=temperature, seed=seed))


def test_sampling_depends_on_the_seed_alone() -> None:
    model = tiny_model()
    torch.manual_seed(1)
    first = replies(generator(model), 1.0, seed=7)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert replies(generator(model), 1.0, seed=7) == first
    assert torch.equal(torch.get_rng_state(), state)
    assert replies(generator(model), 1.0, seed=8) != first


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_replies_do_not_depend_on_the_batch(temperature: float) -> None:
    model = tiny_model()
    assert replies(generator(model, batch=1), temperature) == replies(generator(model, batch=3), temperature)


@pytest.mark.parametrize(
    "adapter", [LoraSettings(rank=4, alpha=8), PissaSettings(rank=4)], ids=["lora", "pissa"]
)
def test_pairs_come_from_the_base_whatever_the_adapter_has_learned(adapter: Any) -> None:
    expected = replies(generator())
    model = attach(tiny_model(), adapter, seed=0)
    initial = AdapterState.capture(model)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    made = generator(model)
    assert replies(made) != expected
    made.base = partial(unadapted, model, initial, adapter)
    learned = AdapterState.capture(model)
    assert replies(made) == expected
    now = AdapterState.capture(model)
    assert all(torch.equal(now.tensors[name], tensor) for name, tensor in learned.tensors.items())


def test_a_request_that_does_not_fit_has_no_reply_and_the_others_have() -> None:
    short, long, other = replies(generator(window=40))
    assert (long, type(short), type(other)) == (None, Answer, Answer)


def test_a_reply_that_was_cut_off_says_so() -> None:
    assert [reply.complete for reply in replies(generator(max_tokens=4)) if reply] == [False] * 3


@pytest.mark.parametrize("temperature", [0.0, 1e-4])
@pytest.mark.parametrize("count", [1, 3])
def test_a_labelled_reply_ends_with_its_form(count: int, temperature: float) -> None:
    """A model that writes on and on is not waited for."""
    model, read = bigram_model(".Qw\nAz\n"), []
    settings: dict[str, Any] = {"strategy": "sentences", "reply": "labels", "labels": ("Q", "A")}
    made = generator(model, **settings, evidence=False, max_tokens=200)
    model.get_input_embeddings().register_forward_pre_hook(lambda _, ids: read.append(ids[0].shape))
    requests = [Request(f"Ask number {number}.") for number in range(count)]
    found = list(made.generate(requests, temperature=temperature, seed=0))
    assert found == [Answer("Qw\nAz", complete=True)] * count
    assert len(read) < 20


def test_an_answer_has_no_form_that_could_end_it() -> None:
    made = generator(
        bigram_model(".Qw\nAz<eos>"),
        strategy="sentences",
        reply="labels",
        labels=("Q", "A"),
        answer_request="{{ passage }}{{ question }}",
        evidence=False,
    )
    requests = [Request("Ask.", formatted=formatted) for formatted in (True, False)]
    replies = [next(iter(made.generate([one], temperature=0.0, seed=0))) for one in requests]
    assert replies == [Answer("Qw", complete=True), Answer("Qw\nAz", complete=True)]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("architecture", ["llama", *COPIED])
def test_what_requests_begin_with_is_read_once(architecture: str, temperature: float) -> None:
    """Messages of a conversation begin with their passage, and requests behind demonstrations with these."""
    model, read = any_model(architecture), []
    passage = "The mill by the river was built in 1842 and has ground rye ever since. " * 5
    requests = [Request(f"Ask {number}.", system=passage) for number in range(6)]
    alone = generator(model, max_tokens=4, batch=1)
    expected = [
        next(alone.generate([one], temperature=temperature, seed=number))
        for number, one in enumerate(requests)
    ]
    made = generator(model, max_tokens=4, batch=3)
    model.get_input_embeddings().register_forward_pre_hook(lambda _, ids: read.append(ids[0].numel()))
    assert list(made.generate(requests, temperature=temperature, seed=0)) == expected
    assert len(passage) < sum(read) < 2 * len(passage)


def test_the_chat_template_is_used_where_there_is_one() -> None:
    model = tiny_model()
    plain = replies(generator(model))
    assert replies(generator(model, chat=True)) != plain
    assert replies(generator(model, chat=True, chat_template=False)) == plain


def test_a_reasoning_model_writes_pairs_without_thinking_or_its_thinking_is_left_out() -> None:
    tokenizer = thinking_tokenizer()
    model, settings = bigram_model("\n<think>b</think>Ad<eos>"), AuxiliarySettings(max_tokens=16)
    made = ModelGenerator(model, tokenizer, settings, 16384, thinking=Thinking.of(tokenizer))
    assert tokenizer.decode(made._encode(Request("Ask."))).endswith("assistant\n<think>\n\n</think>\n\n")
    assert replies(made) == [Answer("Ad", complete=True, thinking_tokens=3)] * 3


def test_another_checkpoint_is_loaded_at_the_first_request_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_checkpoint(tmp_path / "other", seed=5)
    settings = AuxiliarySettings(max_tokens=16, batch=2, generator=f"local:{folder}")
    made = LocalGenerator(str(folder), settings, PrecisionSettings(), torch.device("cpu"))
    assert replies(made) == replies(generator(tiny_model(seed=5)))
    for path in folder.iterdir():
        path.unlink()
    assert replies(made) == replies(generator(tiny_model(seed=5)))


def test_a_rewritten_checkpoint_is_another_generator(tmp_path: Path) -> None:
    def identity() -> str:
        return LocalGenerator(
            str(tmp_path), AuxiliarySettings(), PrecisionSettings(), torch.device("cpu")
        ).identity

    save_checkpoint(tmp_path)
    before = identity()
    assert identity() == before
    (tmp_path / "config.json").write_text("{}")
    assert identity() != before


def test_a_checkpoint_that_is_not_there_ends_in_one_line(tmp_path: Path) -> None:
    name = str(tmp_path / "nowhere")
    made = LocalGenerator(name, AuxiliarySettings(), PrecisionSettings(), torch.device("cpu"))
    with pytest.raises(CheckpointError, match=r"local:.*nowhere") as caught:
        replies(made)
    assert "\n" not in str(caught.value)


def test_a_name_on_the_hub_is_another_generator_when_it_means_another_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--some--model"
    (repository / "refs").mkdir(parents=True)

    def identity(commit: str) -> str:
        save_checkpoint(repository / "snapshots" / commit)
        (repository / "refs" / "main").write_text(commit)
        return LocalGenerator(
            "some/model", AuxiliarySettings(), PrecisionSettings(), torch.device("cpu")
        ).identity

    assert identity("a" * 40) == identity("a" * 40)
    assert identity("b" * 40) != identity("a" * 40)


def test_a_checkpoint_that_is_not_there_is_told_when_its_pairs_are_looked_for() -> None:
    missing = LocalGenerator("no/where", AuxiliarySettings(), PrecisionSettings(), torch.device("cpu"))
    with pytest.raises(CheckpointError, match="'local:no/where' cannot be used"):
        _ = missing.identity


@pytest.mark.parametrize("lacks", ["config.json", "tokenizer.json"])
def test_what_another_checkpoint_lacks_is_told_before_any_document(lacks: str, tmp_path: Path) -> None:
    (save_checkpoint(tmp_path) / lacks).write_text("[]")
    pairs = {
        "auxiliary.strategy": "passages",
        "auxiliary.generator": f"local:{tmp_path}",
        "training.joint_epochs": 1,
    }
    with pytest.raises(CheckpointError, match=r"auxiliary\.generator 'local:.*' cannot be used: pretrained="):
        Lifter(tiny_model(), tiny_tokenizer(), load_recipe("lora", pairs))
    icl = load_recipe("icl")
    asks_nobody = icl.model_copy(update={"auxiliary": load_recipe("lora", pairs).auxiliary})
    Lifter(tiny_model(), tiny_tokenizer(), asks_nobody)
