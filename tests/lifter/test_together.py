"""Documents whose adapters are trained in one batch: what their sessions, records and the store make of it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from lift_eval.adapters.state import AdapterState, trainable
from lift_eval.document import Document
from lift_eval.errors import RecipeError
from lift_eval.lifter.lifter import Lifter
from lift_eval.memory.predict import documents_at_once
from lift_eval.models.loading import base_of
from lift_eval.recipe import load_recipe
from lift_eval.store import Store, Training
from tests.store.runs import DOCUMENTS, lifter, recipe

LONGER = Document("Dora has a dog, three boats and no cats at all, which she regrets. " * 4, "Dora")
UPCOMING = [(document, ()) for document in (DOCUMENTS[0], LONGER, DOCUMENTS[1])]


def learned(tool: Lifter) -> dict[str, dict[str, Any]]:
    """Losses, tokens and trained tensors of each document."""
    found = {}
    for document, _ in UPCOMING:
        with tool.lift(document) as session:
            record = session.record
            tensors = {name: tensor.detach().clone() for name, tensor in trainable(tool.model).items()}
            counts = [record.trained_tokens, record.supervised_tokens, record.tokens, record.reused]
            found[document.title] = {"losses": record.losses, "counts": counts, "tensors": tensors}
            assert record.seconds["train"] > 0
    return found


def adapter_keys(store: Store) -> set[str]:
    return {entry.key for entry in store.entries() if entry.kind == Training.kind}


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"adapter__type": "pissa", "adapter__rank": 4},
        {"training__contextualized": True, "training__window_tokens": 40},
    ],
    ids=["lora", "pissa", "windows"],
)
def test_documents_trained_together_end_as_one_after_the_other_under_the_same_keys(overrides, tmp_path: Path):
    # With a smaller one AdamW takes steps of one size, also where a gradient is nothing but rounding.
    overrides |= {"training__eps": 1e-2}
    one_by_one, at_once = Store(tmp_path / "one"), Store(tmp_path / "many")
    expected = learned(lifter(one_by_one, **overrides))
    tool = lifter(at_once, **overrides, compute__documents=3)
    before = AdapterState.capture(tool.model)
    tool.train_ahead(UPCOMING)
    assert len(tool.ahead) == 3
    after = AdapterState.capture(tool.model)
    assert all(torch.equal(after.tensors[name], tensor) for name, tensor in before.tensors.items())
    found = learned(tool)
    for title, one in expected.items():
        assert found[title]["losses"] == pytest.approx(one["losses"], rel=1e-4)
        assert found[title]["counts"] == one["counts"]
        for name, tensor in one["tensors"].items():
            difference, moved = found[title]["tensors"][name] - tensor, tensor - before.tensors[name]
            assert difference.norm() < 0.001 * moved.norm(), name
    assert adapter_keys(at_once) == adapter_keys(one_by_one)
    assert not tool.ahead


def test_what_the_store_has_is_not_trained_again(tmp_path: Path):
    store = Store(tmp_path)
    with lifter(store).lift(LONGER):
        pass
    tool = lifter(store, compute__documents=3)
    tool.train_ahead(UPCOMING)
    assert sorted(trained.record.digest for trained in tool.ahead.values()) == sorted(
        document.digest for document in DOCUMENTS[:2]
    )


def test_a_document_that_cannot_be_trained_is_left_to_its_session():
    tool = lifter(None, compute__documents=3)
    tool.train_ahead([UPCOMING[0], (Document("x"), ()), UPCOMING[1]])
    assert len(tool.ahead) == 2


def test_a_model_whose_adapter_cannot_be_stacked_trains_one_by_one_and_says_so(caplog):
    tool = lifter(None, compute__documents=2, adapter__targets=["embed_tokens", "q_proj"])
    with caplog.at_level(logging.WARNING):
        tool.train_ahead(UPCOMING)
    assert not tool.ahead
    assert "trained one by one from here on: adapters can be trained in one batch only if" in caplog.text
    with tool.lift(LONGER) as session:
        assert session.record.losses


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("adapter__type", "weights", "'adapter.type: weights'"),
        ("adapter__dropout", 0.1, "'adapter.type: lora' and its dropout"),
        ("auxiliary__generator", "openai:m", "'auxiliary.generator: openai:m'"),
    ],
)
def test_what_cannot_be_trained_in_one_batch_is_refused_before_anything_is_loaded(key, value, reason):
    pairs = {"auxiliary__strategy": "passages", "training__joint_epochs": 1} if "auxiliary" in key else {}
    with pytest.raises(RecipeError, match=f"'compute.documents' must be 1 or auto with {reason}"):
        recipe(**{key: value}, **pairs, compute__documents=2)


def test_left_open_a_cpu_trains_one_document_at_a_time():
    tool = lifter(None)
    tool.train_ahead(UPCOMING)
    assert not tool.ahead


def test_left_open_a_gpu_trains_as_many_as_fill_a_micro_batch_and_fit(monkeypatch: pytest.MonkeyPatch):
    """There is no GPU here: the model says that it is on one, and how much is free is told."""
    tool = lifter(None)
    monkeypatch.setattr(type(base_of(tool.model)), "device", torch.device("cuda"))
    trained = 16 * sum(tensor.numel() for tensor in trainable(tool.model).values())

    def at_once(free: int, document_tokens: int) -> int:
        monkeypatch.setattr("lift_eval.memory.predict.free_bytes", lambda _: free)
        return documents_at_once(tool.recipe, tool.model, document_tokens, tool.window)

    assert at_once(2**40, 64) == 16
    assert at_once(2**40, 64 * 120) == 1  # its step alone fills a micro-batch
    assert at_once(4 * 3 * trained, 64) == 3
    assert at_once(0, 64) == 1


def test_the_number_of_documents_decides_no_result():
    assert load_recipe("lora", {"compute.documents": 4}).digest == load_recipe("lora").digest
