"""The formula of the operations against torch's own counter, and what else a record says of costs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM

from lift_eval.document import Document
from lift_eval.lifter.lifter import Lifter
from lift_eval.record.record import DocumentRecord
from lift_eval.store import Store
from tests.store.runs import DOCUMENTS, QUESTIONS, recipe
from tests.tiny_models import tiny_config, tiny_tokenizer

PAIRS = {
    "auxiliary__strategy": "passages",
    "auxiliary__passage_sentences": 1,
    "auxiliary__pairs": 1,
    "auxiliary__attempts": 1,
    "auxiliary__max_tokens": 8,
    "training__joint_epochs": 1,
    # Nothing is left to choose by memory, whose simulated passes torch would count too.
    "compute__micro_batch_tokens": 2048,
    "compute__gradient_checkpointing": False,
}
METHODS: dict[str, dict[str, Any]] = {
    "lora": {},
    "lora on down projections": {"adapter__targets": ("down_proj",)},
    "pissa": {"adapter__type": "pissa", "adapter__rank": 4},
    "gated memory": {"adapter__type": "gated_memory"},
    "weights": {"adapter__type": "weights"},
    "upper weights": {
        "adapter__type": "weights",
        "adapter__targets": ("up_proj",),
        "adapter__layers": (0.5, 1.0),
    },
    "cartridge": {"adapter__type": "cartridge", "adapter__tokens": 8},
    "windows": {
        "training__contextualized": True,
        "training__window_tokens": 64,
        "training__window_draw": "step",
        "training__samples_per_step": "all",
    },
    "distillation": {"training__objective": "distillation", "training__samples": "halves"},
}
LONG = Document(" ".join(document.text for document in DOCUMENTS[:2]), "Cats")


def lifter(store: Store | None = None, **overrides: Any) -> Lifter:
    config = tiny_config("llama")
    config.num_hidden_layers = 8
    # Only eager attention is counted by torch on every machine.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32)
    return Lifter(model, tiny_tokenizer(), recipe(**overrides), store=store)


@contextmanager
def torch_counts() -> Iterator[list[float]]:
    found: list[float] = []
    with FlopCounterMode(display=False) as counter:
        yield found
    found.append(counter.get_total_flops())


@pytest.mark.parametrize("name", METHODS)
def test_operations_are_those_that_torch_counts(name: str) -> None:
    tool = lifter(**METHODS[name])
    with tool.session(LONG) as session:
        with torch_counts() as training:
            session.train()
        with torch_counts() as answering:
            session.answer(QUESTIONS)
    counted = session.record.operations
    assert counted["answer"] == pytest.approx(answering[0], rel=0.01)
    # The layer in which the first trained weight stands is counted roughly.
    assert counted["train"] == pytest.approx(training[0], rel=0.03)


def test_checkpointing_computes_the_body_once_more() -> None:
    spent = {}
    for checkpointing in (False, True):
        with lifter(compute__gradient_checkpointing=checkpointing).lift(LONG) as session:
            spent[checkpointing] = session.record.operations["train"]
    assert 1.3 < spent[True] / spent[False] < 1.5


def test_pairs_count_as_synthesis_and_what_is_reused_counts_as_when_it_was_made(tmp_path: Path) -> None:
    records: list[DocumentRecord] = []
    prepared: list[float] = []
    for _ in range(2):
        with lifter(Store(tmp_path), **PAIRS).session(LONG) as session:
            with torch_counts() as counted:
                session.train()
            session.answer(QUESTIONS)
        records.append(session.record)
        prepared += counted
    assert records[1].reused == ["adapter", "answers"]
    spent = records[0].operations
    assert prepared == [pytest.approx(spent["synthesis"] + spent["train"], rel=0.03), 0]
    assert spent["synthesis"] > spent["answer"] > 0
    for name in ("operations", "stored_bytes", "prompt_tokens", "answer_tokens"):
        assert getattr(records[0], name) == getattr(records[1], name)


def test_what_must_be_stored_is_the_adapter_and_the_text_that_prompts_need() -> None:
    text = len(LONG.training_text.encode())
    stored = {}
    for name, overrides in {
        "lifted": {"adapter__targets": ("q_proj",)},
        "closed book": {"adapter__targets": ("q_proj",), "prompt__document": "none"},
        "read": {"adapter__type": "none", "training__context_epochs": 0},
    }.items():
        with lifter(**overrides).lift(LONG) as session:
            stored[name] = session.record.stored_bytes
    adapter = 8 * 4 * (4 * 32 + 32 * 4)  # layers, bytes, and the two matrices of rank 4
    assert stored == {"lifted": adapter + text, "closed book": adapter, "read": text}


def test_tokens_of_an_answer_are_those_that_were_read_and_written() -> None:
    with lifter(decoding__max_new_tokens=3).lift(LONG) as session:
        session.answer(QUESTIONS)
    assert session.record.answer_tokens == 3 * len(QUESTIONS)
    assert session.record.prompt_tokens > 2 * len(LONG.text)  # a token is a byte
