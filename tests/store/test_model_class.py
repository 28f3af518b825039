"""The store as a run of lm-eval uses it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lift_eval.errors import StoreError
from tests.store.runs import DOCUMENTS
from tests.tiny_models import save_checkpoint

ARGUMENTS = {
    "recipe": "lora",
    "device": "cpu",
    "adapter.rank": 4,
    "training.learning_rate": 0.05,
    "training.context_epochs": 2,
    "training.segment_tokens": 64,
    "training.stride_tokens": 32,
    "precision.dtype": "float32",
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    return str(save_checkpoint(tmp_path_factory.mktemp("checkpoint")))


def model(checkpoint: str, store: Path | str | bool):
    from lift_eval.harness.model import LiftLM

    return LiftLM(pretrained=checkpoint, store=store if isinstance(store, bool) else str(store), **ARGUMENTS)


def requests(kind: str):
    from lm_eval.api.instance import Instance

    rest = {"generate_until": {"until": ["\n"], "max_gen_toks": 4}, "loglikelihood": " two"}[kind]
    return [
        Instance(
            request_type=kind,
            doc={"context": document.text, "title": document.title},
            arguments=(f"{document.text}\nHow many cats?", rest),
            idx=0,
            metadata=("cats", number, 1),
        )
        for number, document in enumerate(DOCUMENTS)
    ]


def test_a_document_of_two_kinds_of_requests_is_trained_once(checkpoint, tmp_path):
    lift = model(checkpoint, tmp_path / "store")
    answers = lift.generate_until(requests("generate_until"), disable_tqdm=True)
    tokens = [record.trained_tokens for record in lift.record.documents]
    scores = lift.loglikelihood(requests("loglikelihood"), disable_tqdm=True)
    assert [record.trained_tokens for record in lift.record.documents] == tokens
    assert all(record.questions == 2 for record in lift.record.documents)
    assert all(record.reused == [] for record in lift.record.documents)  # nothing is from an earlier run

    again = model(checkpoint, tmp_path / "store")
    assert again.loglikelihood(requests("loglikelihood"), disable_tqdm=True) == scores
    assert again.generate_until(requests("generate_until"), disable_tqdm=True) == answers
    assert all(record.reused == ["adapter", "answers"] for record in again.record.documents)
    totals = again.get_model_info()["lift"]["totals"]
    assert totals["trained_tokens"] == sum(tokens)
    assert totals["reused_documents"] == len(DOCUMENTS)
    assert totals["reused_seconds"]["train"] > 0


def test_without_a_store_each_kind_trains_anew_and_says_so_with_equal_results(checkpoint, tmp_path):
    lift, kept = model(checkpoint, False), model(checkpoint, tmp_path / "store")
    for kind in ("generate_until", "loglikelihood"):
        assert getattr(lift, kind)(requests(kind), disable_tqdm=True) == getattr(kept, kind)(
            requests(kind), disable_tqdm=True
        )
    for without, with_store in zip(lift.record.documents, kept.record.documents, strict=True):
        assert without.trained_tokens == 2 * with_store.trained_tokens


def test_a_store_that_cannot_be_made_is_refused_before_the_weights_are_loaded(
    checkpoint, tmp_path, monkeypatch
):
    (tmp_path / "file").write_text("")
    monkeypatch.delattr("lift_eval.harness.model.load_model")
    with pytest.raises(StoreError, match="must be a folder"):
        model(checkpoint, tmp_path / "file")


def test_the_library_and_the_model_class_share_their_adapters(checkpoint, tmp_path):
    from lift_eval.lifter.lifter import Lifter

    lift = model(checkpoint, tmp_path / "store")
    lift.generate_until(requests("generate_until"), disable_tqdm=True)
    library = Lifter.from_pretrained(checkpoint, lift.recipe, device="cpu", store=str(tmp_path / "store"))
    with library.lift(DOCUMENTS[0]) as session:
        assert session.record.reused == ["adapter"]
