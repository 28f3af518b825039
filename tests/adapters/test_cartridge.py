"""Cartridges: keys and values in front of every text."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lift_eval.adapters.attach import attach
from lift_eval.adapters.cartridge.method import cartridges, sampled_ids
from lift_eval.adapters.state import trainable
from lift_eval.answering.decoding import Decoding
from lift_eval.answering.generate import answer
from lift_eval.answering.shared_prefix import MIN_SHARED_TOKENS
from lift_eval.document import Document
from lift_eval.errors import AdapterError, DocumentError
from lift_eval.lifter.lifter import Lifter
from lift_eval.memory.predict import predict
from lift_eval.recipe import CartridgeSettings, Recipe, load_recipe
from lift_eval.training.batching import micro_batches
from lift_eval.training.loss import step_gradient
from lift_eval.training.samples import Sample
from tests.adapters.helpers import logits, tokens, train
from tests.tiny_models import tiny_config, tiny_model, tiny_tokenizer

FULL_ATTENTION = ("llama", "qwen2", "qwen3", "phi3")
CPU = torch.device("cpu")
LAMP = Document("The lamp was lit by Ann at nine. " * 12, "Lamp")
BOAT = Document("No boat came in before the storm. " * 9, "Boat")


def adapted(architecture: str = "llama", **settings: Any) -> tuple[Any, CartridgeSettings]:
    adapter = CartridgeSettings(**settings)
    return attach(tiny_model(architecture), adapter, seed=0), adapter


def recipe(**changes: Any) -> Recipe:
    small = {
        "adapter": {"type": "cartridge", "tokens": 24}, "training.segment_tokens": 64, "training.stride_tokens": 64,
        "training.context_epochs": 3, "training.learning_rate": 2e-2, "training.samples_per_step": 4,
        "training.schedule": "constant", "prompt.document": "none", "decoding.max_new_tokens": 8,
    }  # fmt: skip
    return load_recipe("lora", {**small, **{key.replace("__", "."): value for key, value in changes.items()}})


def lifter(**changes: Any) -> Lifter:
    return Lifter(tiny_model(), tiny_tokenizer(), recipe(**changes))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("architecture", FULL_ATTENTION)
def test_started_from_the_first_tokens_it_is_as_if_they_were_read(architecture: str, attention: str) -> None:
    ids = tokens(1, 40)
    base = tiny_model(architecture, attn_implementation=attention)
    whole, rest = logits(base, ids), logits(base, ids[:, 12:])
    adapter = CartridgeSettings(tokens=12)
    model = attach(base, adapter, seed=0)
    with adapter.prepared(model, ids[0], seed=0):
        torch.testing.assert_close(logits(model, ids[:, 12:]), whole[:, 12:], rtol=0, atol=1e-5)
        with model.disable_adapter():
            assert torch.equal(logits(model, ids[:, 12:]), rest)
    assert torch.equal(logits(model, ids), whole), "afterwards nothing stands in front"


@pytest.mark.parametrize("shared", [0, MIN_SHARED_TOKENS + 6], ids=["side by side", "behind a shared prefix"])
def test_answers_are_those_behind_the_tokens_themselves(shared: int) -> None:
    ids = tokens(1, 40)[0]
    prompts = [[*range(shared), 200 + number, 7, 9, *range(number)] for number in range(3)]
    with torch.inference_mode():
        expected = answer(
            tiny_model(), tiny_tokenizer(), [[*ids[:12].tolist(), *p] for p in prompts], Decoding(8), batch=4
        )
    model, adapter = adapted(tokens=12)
    with adapter.prepared(model, ids, seed=0):
        assert answer(model, tiny_tokenizer(), prompts, Decoding(8), batch=4) == expected


@pytest.mark.parametrize("frozen", [0, 40], ids=["with a gradient", "frozen"])
def test_what_shares_a_prefix_has_the_gradient_of_whole_samples(frozen: int) -> None:
    ids = tokens(1, 60)[0]
    samples = [
        Sample(torch.cat([ids[frozen:], ids[:number]]), ids[number : number + 5], ids[:frozen])
        for number in (3, 4, 5)
    ]
    gradients = []
    for cached in (True, False):
        model, adapter = adapted(tokens=12)
        with adapter.prepared(model, ids, seed=0):
            # A frozen prefix gives the cartridge less gradient, so it is compared with itself in other micro-batches.
            inlined = samples if frozen else [sample.with_prefix_inlined() for sample in samples]
            batches = micro_batches(
                inlined,
                64 if cached else 4096,
                share_prefixes=True,
                cache_prefixes=cached or bool(frozen),
                column_cost=1e-3,
            )
            loss = step_gradient(model, batches, 15)
            gradients.append([loss, *(tensor.grad for tensor in trainable(model).values())])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)


def test_all_but_the_first_position_are_trained() -> None:
    model, adapter = adapted(tokens=12)
    ids = tokens(1, 40)
    with adapter.prepared(model, ids[0], seed=0):
        first = [layer.kv_cartridge_first.clone() for layer in cartridges(model)]
        before = {name: tensor.detach().clone() for name, tensor in trainable(model).items()}
        assert {tuple(tensor.shape) for tensor in before.values()} == {(2, 2, 11, 8)}
        losses = train(model, ids[:, 12:], steps=3)
        assert losses[-1] < losses[0]
        assert not any(torch.equal(tensor, before[name]) for name, tensor in trainable(model).items())
        assert all(
            torch.equal(layer.kv_cartridge_first, one)
            for layer, one in zip(cartridges(model), first, strict=True)
        )


def starts(ids: Tensor, start: str, seed: int) -> Tensor:
    model, adapter = adapted(tokens=100, start=start)
    with adapter.prepared(model, ids, seed):
        return torch.cat([layer.trained.detach().clone().flatten() for layer in cartridges(model)])


def test_the_three_starts() -> None:
    ids = tokens(1, 400)[0]
    torch.testing.assert_close(starts(ids[:100], "document", 0), starts(ids, "document", 0))
    spread = torch.cat([ids[:64], ids[336:372]])
    assert sampled_ids(ids, 100).tolist() == spread.tolist()
    torch.testing.assert_close(starts(ids, "sampled", 0), starts(spread, "document", 0))
    drawn = starts(ids, "random", 1)
    assert torch.equal(drawn, starts(ids, "random", 1))
    assert not torch.equal(drawn, starts(ids, "random", 2))
    assert (drawn.mean().abs() < 0.1, abs(drawn.std() - 1) < 0.1) == (True, True)


@pytest.mark.parametrize(
    ("wanted", "document", "expected"), [(24, 400, 24), (24, 10, 10), (0.05, 400, 20), (0.05, 3, 1)]
)
def test_positions_are_a_number_or_a_share_of_the_document(
    wanted: float, document: int, expected: int
) -> None:
    assert CartridgeSettings(tokens=wanted).positions(document) == expected


def test_documents_of_different_lengths_leave_no_trace() -> None:
    questions = ["Who lit the lamp?", "When?"]

    def answers(tool: Lifter, document: Document) -> list[str]:
        with tool.lift(document) as lifted:
            return lifted.answer(questions)

    alone = {document: answers(lifter(adapter__tokens=0.1), document) for document in (LAMP, BOAT)}
    tool = lifter(adapter__tokens=0.1)
    start = logits(tool.model, tokens())
    for document in (BOAT, LAMP, BOAT):
        assert answers(tool, document) == alone[document]
    assert torch.equal(logits(tool.model, tokens()), start)


def test_activations_computed_anew_make_no_difference() -> None:
    def losses(*, checkpointing: bool) -> list[float]:
        tool = lifter(compute__gradient_checkpointing=checkpointing, compute__micro_batch_tokens=128)
        with tool.lift(LAMP) as lifted:
            return lifted.record.losses

    assert losses(checkpointing=True) == losses(checkpointing=False)


@pytest.mark.parametrize("architecture", ["mistral", "gemma3"])
def test_sliding_windows_are_refused(architecture: str) -> None:
    with pytest.raises(
        AdapterError, match="'cartridge' needs attention to all earlier tokens in every layer"
    ):
        attach(tiny_model(architecture), CartridgeSettings(), seed=0)


def test_positions_that_leave_no_room_in_the_window_are_refused() -> None:
    tool = Lifter(tiny_model(), tiny_tokenizer(), recipe(adapter__tokens=90), window=100)
    with (
        pytest.raises(DocumentError, match=r"gets 90 positions .* must fit the model's window of 100"),
        tool.lift(LAMP),
    ):
        pass
    assert tool.current is None


def test_memory_is_predicted_for_the_document() -> None:
    def parts(**changes: Any) -> dict[str, int]:
        found = predict(
            tiny_config("llama"), recipe(**changes), device=CPU, document_tokens=2000, window=4096, free=2**33
        )
        return {part.name: part.bytes for part in found.parts}

    per_position = 2 * 2 * 2 * 8 * 4  # layers, keys and values, heads, channels, bytes
    fixed, share = parts(adapter__tokens=101), parts(adapter__tokens=0.5)
    assert (fixed["adapter"], fixed["optimizer"]) == (2 * 100 * per_position, 2 * 100 * per_position)
    assert share["adapter"] == 2 * 999 * per_position
    assert share["gradient"] > fixed["gradient"]
