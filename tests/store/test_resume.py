"""What a run has made, the next one takes up; nothing else changes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lift_eval.lifter.lifter import Lifter
from lift_eval.store import Store
from tests.conftest import ROOT, untraced
from tests.store.runs import DOCUMENTS, QUESTIONS, lifter, outcome, run

KILLS = int(os.environ.get("LIFT_EVAL_KILLS", "12"))

ADAPTERS = {
    "lora": {},
    "dora": {"adapter__dora": True},
    "pissa": {"adapter__type": "pissa", "adapter__rank": 4},
    "gated_memory": {"adapter__type": "gated_memory", "adapter__lm_head_rank": 2},
    "weights": {"adapter__type": "weights"},
    "cartridge": {"adapter__type": "cartridge", "adapter__tokens": 0.2},
    "nf4": {"precision__quantization": "nf4"},
    "distilled_cartridge": {
        "adapter__type": "cartridge",
        "adapter__tokens": 0.2,
        "training__objective": "distillation",
        "training__samples": "halves",
    },
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.mark.parametrize("kind", ADAPTERS)
def test_a_second_run_trains_and_decodes_nothing_and_ends_the_same(kind, store, monkeypatch):
    first = run(store, **ADAPTERS[kind])
    assert all(result["reused"] == [] for result in first.values())
    assert outcome(first) == outcome(run(None, **ADAPTERS[kind]))
    monkeypatch.delattr("lift_eval.lifter.document_training.finetune")
    monkeypatch.delattr("lift_eval.lifter.session.answer")
    second = run(store, **ADAPTERS[kind])
    assert all(result["reused"] == ["adapter", "answers"] for result in second.values())
    assert outcome(second) == outcome(first)


@pytest.mark.parametrize("kind", ADAPTERS)
def test_an_adapter_from_the_store_answers_as_the_trained_one(kind, store, monkeypatch):
    first = run(store, **ADAPTERS[kind])
    for path in (store.folder / "answers").iterdir():
        path.unlink()
    monkeypatch.delattr("lift_eval.lifter.document_training.finetune")
    second = run(store, **ADAPTERS[kind])
    assert all(result["reused"] == ["adapter"] for result in second.values())
    assert outcome(second) == outcome(first)


def test_documents_change_the_answers_so_that_the_tests_above_can_fail():
    with lifter(None).base_model() as base:
        untrained = base.answer(QUESTIONS)
    assert any(result["answers"] != untrained for result in run(None).values())


def test_answers_without_an_adapter_are_kept_too(store):
    icl = {"adapter__type": "none", "training__context_epochs": 0}
    first = run(store, **icl)
    second = run(store, **icl)
    assert all(result["reused"] == ["answers"] for result in second.values())
    assert outcome(second) == outcome(first)


@pytest.mark.parametrize("change", [{"training__learning_rate": 0.01}, {"seed": 1}, {"adapter__rank": 2}])
def test_another_recipe_reuses_nothing(store, change):
    run(store)
    assert all(result["reused"] == [] for result in run(store, **change).values())


def test_a_closed_book_run_takes_up_the_adapters_of_the_run_that_read_the_document(store, monkeypatch):
    first = run(store)
    monkeypatch.delattr("lift_eval.lifter.document_training.finetune")
    second = run(store, prompt__document="none")
    assert all(result["reused"] == ["adapter"] for result in second.values())
    assert any(second[title]["answers"] != first[title]["answers"] for title in first)


def test_another_base_model_reuses_nothing(store):
    run(store)
    with lifter(store, seed=1).lift(DOCUMENTS[0]) as session:
        session.answer(QUESTIONS)
    assert session.record.reused == []


def test_how_work_is_laid_out_does_not_matter(store):
    run(store)
    other = run(store, compute__micro_batch_tokens=64, compute__answer_batch=1)
    assert all(result["reused"] == ["adapter", "answers"] for result in other.values())


def test_the_base_model_and_the_untrained_adapter_are_not_given_the_trained_ones_answers(store):
    with lifter(None).base_model() as base:
        expected = base.answer(QUESTIONS)
    tool = lifter(store)
    with tool.lift(DOCUMENTS[0]) as session:
        session.answer(QUESTIONS)
    with tool.base_model() as base:
        assert base.answer(QUESTIONS) == expected
    with tool.session(DOCUMENTS[0]) as untrained:
        untrained.answer(QUESTIONS)
    assert untrained.record.reused == []


def test_the_record_tells_what_it_cost_now_and_what_it_had_cost(store):
    with lifter(store).lift(DOCUMENTS[0]) as first:
        first.answer(QUESTIONS)
    with lifter(store).lift(DOCUMENTS[0]) as second:
        second.answer(QUESTIONS)
    assert second.record.trained_tokens == first.record.trained_tokens > 0
    assert second.record.losses == first.record.losses
    assert second.record.reused_seconds["train"] == first.record.seconds["train"]
    assert second.record.seconds["train"] > 0  # reading the entry
    assert first.record.reused_seconds == {}
    assert "adapter and answers from the store" in second.record.summary()


def test_the_model_is_reset_after_an_adapter_from_the_store(store):
    from lift_eval.adapters.state import AdapterState

    run(store)
    tool = lifter(store)
    before = AdapterState.capture(tool.model)
    with tool.lift(DOCUMENTS[0]):
        pass
    after = AdapterState.capture(tool.model)
    assert all(before.tensors[name].equal(after.tensors[name]) for name in before.tensors)


def test_a_model_that_is_not_in_memory_is_worked_with_but_not_kept(store, monkeypatch, caplog):
    monkeypatch.setattr("lift_eval.lifter.adapted_model.base_identity", lambda model: None)
    tool: Lifter = lifter(store)
    assert tool.store is None
    assert "nothing is kept" in caplog.text


def test_killed_runs_end_as_undisturbed_ones_and_train_no_finished_document_again(tmp_path):
    """Every moment kills the process itself by SIGKILL; LIFT_EVAL_KILLS says how many moments are tried."""
    ran = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "tests.store.killed_runs",
            str(tmp_path / "runs"),
            str(KILLS),
            "8",
        ],
        cwd=ROOT,
        env={**untraced(), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    *killed, both = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(killed) == KILLS
    for moment in killed:
        assert moment["killed"], moment
        assert moment["same"], moment
        assert moment["faults"] == 0, moment
        assert moment["adapters_reused"] == moment["adapters_kept"], moment
        assert moment["answers_reused"] == moment["answers_kept"], moment
    # They were killed at very different moments: before anything was kept, and after.
    assert {moment["adapters_kept"] for moment in killed} > {0}
    assert both["same"], "two runs at once on one store"
    assert both["faults"] == 0
