"""What a teacher says is kept with a document's pairs: by every run, recipe and adapter it is made once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lift_eval.lifter.lifter import Lifter
from lift_eval.store import Distributions, Store
from lift_eval.training.teacher import Teacher
from tests.store.runs import DOCUMENTS, recipe
from tests.store.runs import lifter as made
from tests.synthesis.test_synthesizer import model
from tests.tiny_models import tiny_tokenizer

LEARNED: dict[str, Any] = {
    "training__objective": "distillation",
    "training__context_epochs": 0,
    "training__joint_epochs": 2,
    "training__joint_segments": False,
    "training__samples_per_step": 2,
    "training__teacher_top_k": 5,
    "auxiliary__strategy": "conversations",
    "auxiliary__pairs": 3,
    "auxiliary__max_tokens": 24,
    "auxiliary__template": "{{ question }}\n",
}
CARTRIDGE = {"adapter__type": "cartridge", "adapter__tokens": 8}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def losses(
    store: Store | None, silenced: pytest.MonkeyPatch | None = None, **changes: Any
) -> tuple[list[float], list[str]]:
    """Of the training of a document, and what came from the store; a silenced teacher cannot be asked."""
    tool = Lifter(model(), tiny_tokenizer(), recipe(**{**LEARNED, **changes}), store=store)
    if silenced is not None:
        silenced.delattr(Teacher, "_teaching", raising=False)
    with tool.lift(DOCUMENTS[0]) as session:
        return session.record.losses, session.record.reused


def test_another_recipe_learns_the_same_conversations_and_asks_no_teacher(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = losses(None, **CARTRIDGE)
    first, reused = losses(store)
    assert reused == []
    assert len(first) == 4
    assert losses(store, monkeypatch, **CARTRIDGE) == (expected[0], ["pairs"])


@pytest.mark.parametrize(
    "change", [{"training__teacher_top_k": 6}, {"training__temperature": 2.0}, {"auxiliary__seeds": ["question"]}]
)  # fmt: skip
def test_other_teaching_is_made_anew(
    change: dict[str, Any], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses(store)
    with pytest.raises(AttributeError, match="_teaching"):
        losses(store, monkeypatch, **change)


def test_what_is_kept_is_whole_and_belongs_to_the_document(store: Store) -> None:
    losses(store)
    (entry,) = (entry for entry in store.entries() if entry.kind == Distributions.kind)
    found = store.load_tensors(Distributions, entry.key)
    assert found is not None
    kept, tensors = found
    assert len(kept.samples) == 3
    assert tensors["ids"].shape == (sum(kept.samples.values()), 5)
    assert tensors["ids"].dtype == torch.int32
    assert (tensors["log_probabilities"].diff(dim=-1) <= 0).all()
    assert store.describe(entry)["about"]["document"] == DOCUMENTS[0].name
    assert store.verify() == []


def test_prompts_with_another_form_are_added_to_what_is_kept(store: Store) -> None:
    losses(store)
    losses(store, auxiliary__template="Tell me. {{ question }}\n")
    (entry,) = (entry for entry in store.entries() if entry.kind == Distributions.kind)
    found = store.load_tensors(Distributions, entry.key)
    assert found is not None
    assert len(found[0].samples) == 6


def test_nothing_is_kept_of_samples_that_each_epoch_draws_anew(store: Store) -> None:
    with made(store, training__objective="distillation", training__samples="halves").lift(DOCUMENTS[0]):
        pass
    assert {entry.kind for entry in store.entries()} == {"adapters"}
