"""The loss on a document: that of the whole text, by the adapter that answers questions about it."""

from __future__ import annotations

import math
from pathlib import Path

import lm_eval
import pytest
from lm_eval.api.instance import Instance

from lift_eval.benchmarks import document_loss
from lift_eval.benchmarks.original_documents import read_originals
from lift_eval.harness.model import LiftLM
from tests.benchmarks.harness import manager

ARGUMENTS = {
    "recipe": "lora",
    "adapter.rank": 4,
    "training.context_epochs": 1,
    "training.segment_tokens": 512,
    "training.stride_tokens": 512,
    "training.learning_rate": 1e-3,
    "auxiliary.strategy": "none",
}


def test_each_document_is_one_row() -> None:
    rows = document_loss.load(prompts={"whole_text": "{context}"})["test"]
    assert list(rows["context"]) == [original.text for _, original in read_originals("report")]


def test_bits_per_byte_are_those_of_the_log_likelihood() -> None:
    row = {"doc_id": "a", "title": "", "context": "é" * 8}
    assert document_loss.score(dict(row), [-16 * math.log(2)]) == {"documents": "a", "bits_per_byte": 1.0}
    assert document_loss.score(dict(row), [-math.inf])["bits_per_byte"] is None


def test_training_lowers_the_loss_and_asks_no_question(checkpoint: str, tmp_path: Path) -> None:
    found = {}
    for recipe, arguments in {"icl": {"recipe": "icl"}, "lora": ARGUMENTS}.items():
        done = lm_eval.simple_evaluate(
            model="lift",
            model_args=arguments | {"pretrained": checkpoint, "store": str(tmp_path)},
            tasks=["lift_originals", "lift_document_loss"],
            task_manager=manager(documents=1, max_questions=1),
            device="cpu",
            bootstrap_iters=0,
        )
        assert done is not None
        found[recipe] = done
    base, trained = (done["results"]["lift_document_loss"]["bits_per_byte,none"] for done in found.values())
    assert trained < base - 0.1
    record = found["lora"]["config"]["lift"]
    (document,) = record["documents"]
    assert (document["questions"], document["aside"]["requests"]) == (1, 1)
    assert document["trained_tokens"] == record["totals"]["trained_tokens"] > 0
    assert document["reused_seconds"] == {}, "the adapter of the question is used, and its cost counted once"
    (sample,) = found["lora"]["samples"]["lift_document_loss"]
    assert sample["target"].startswith("sha256:"), "the log does not hold the text"


@pytest.mark.parametrize("setting", ["decoding.cache.type=streaming", "prompt.document=none"])
def test_it_is_measured_whatever_prompts_hold(setting: str, checkpoint: str) -> None:
    name, _, value = setting.partition("=")
    done = lm_eval.simple_evaluate(
        model="lift",
        model_args={"pretrained": checkpoint, "recipe": "icl", "store": "off", name: value},
        tasks=["lift_document_loss"],
        task_manager=manager(documents=1),
        device="cpu",
        bootstrap_iters=0,
    )
    assert done is not None
    assert 0 < done["results"]["lift_document_loss"]["bits_per_byte,none"] < 20


def test_pairs_trained_in_the_prompt_of_a_task_are_not_trained_again(tmp_path: Path) -> None:
    settings = {"training.context_epochs": 1, "training.joint_epochs": 1, "auxiliary.prompts": ["task"]}
    model = LiftLM(recipe="tiny", store=str(tmp_path), device="cpu", **settings)
    task = manager(documents=1, max_questions=1).load(["lift_tiny_shortqa"])["tasks"]["lift_tiny_shortqa"]
    task.build_all_requests(limit=None, rank=0, world_size=1)
    asked = task.instances[0]
    row = {**asked.doc, "prompt_style": "whole_text"}
    whole = Instance("loglikelihood_rolling", row, (row["context"],), 0, ("lift_document_loss", 0, 1))
    model.generate_until([asked], disable_tqdm=True)
    (document,) = model.record.documents
    trained, losses = document.trained_tokens, document.losses
    model.loglikelihood_rolling([whole], disable_tqdm=True)
    (document,) = model.record.documents
    assert (document.trained_tokens, document.losses) == (trained, losses)
    assert (document.questions, document.aside.requests) == (1, 1)
