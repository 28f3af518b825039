"""Adapters made elsewhere are entered in place of training, one for each document."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lift_eval.document import Document
from lift_eval.errors import AdapterError, DocumentError
from lift_eval.lifter.lifter import Lifter
from lift_eval.memory.predict import predict
from lift_eval.recipe import Recipe, load_recipe
from lift_eval.store import Store
from tests.store.runs import DOCUMENTS, QUESTIONS, recipe
from tests.tiny_models import tiny_config, tiny_model, tiny_tokenizer

ADA, BOB, CLEO = DOCUMENTS
NAMED_BY = {ADA: ADA.title, BOB: BOB.digest}
KINDS: dict[str, dict[str, Any]] = {
    "lora": {},
    "gated_memory": {"adapter__type": "gated_memory"},
    "weights": {"adapter__type": "weights", "adapter__targets": ["q_proj"]},
}


def behaviour(tool: Lifter) -> dict[Document, tuple[list[str], list[float]]]:
    """What is answered about each document, and the logits behind a short text."""
    found = {}
    for document in NAMED_BY:
        with tool.lift(document) as session:
            found[document] = (session.answer(QUESTIONS), logits(tool))
    return found


def logits(tool: Lifter) -> list[float]:
    with torch.no_grad():
        numbers: list[float] = tool.model(torch.arange(20).unsqueeze(0)).logits[0, -1].tolist()
    return numbers


def save_trained(folder: Path, **overrides: Any) -> Lifter:
    """Train on two documents and save their adapters."""
    tool = Lifter(tiny_model(), tiny_tokenizer(), recipe(**overrides))
    for document, name in NAMED_BY.items():
        with tool.lift(document) as session:
            session.save(folder / name)
    return tool


def entering(folder: Path) -> Recipe:
    """The recipe that enters adapters and asks as the trained recipe does."""
    return recipe(
        adapter__type="folder",
        adapter__path=str(folder),
        training__context_epochs=0,
        training__joint_epochs=0,
    )


def entered(folder: Path, store: Store | None = None) -> Lifter:
    return Lifter(tiny_model(), tiny_tokenizer(), entering(folder), store=store)


@pytest.mark.parametrize("kind", KINDS)
def test_entered_adapters_answer_as_where_they_were_trained(kind: str, tmp_path: Path) -> None:
    trained = behaviour(save_trained(tmp_path, **KINDS[kind]))
    tool = entered(tmp_path)
    base = logits(tool)
    assert behaviour(tool) == trained
    assert logits(tool) == base  # nothing is left of them
    assert all(numbers != base for _, numbers in trained.values())


def test_a_document_without_an_adapter_is_refused_by_the_names_that_it_could_have(tmp_path: Path) -> None:
    save_trained(tmp_path)
    tool = entered(tmp_path)
    told = f"'Cleo' has no adapter in .* its title, 'Cleo', or its digest, {CLEO.digest}; make one, or leave"
    with pytest.raises(DocumentError, match=told):
        tool.check(CLEO)  # as a run does before its first document
    with pytest.raises(DocumentError, match=told), tool.lift(CLEO):
        pass
    outside = Document("It lies beside the folder.", f"../{tmp_path.name}/Ada")
    with pytest.raises(DocumentError, match="has no adapter"):
        tool.check(outside)


def test_answers_are_kept_by_what_the_folder_holds(tmp_path: Path) -> None:
    folder, store = tmp_path / "adapters", Store(tmp_path / "store")
    save_trained(folder)
    reused = []
    for other in (False, False, True):
        if other:
            shutil.rmtree(folder)
            save_trained(folder, training__learning_rate=0.01)
        with entered(folder, store).lift(ADA) as session:
            session.answer(QUESTIONS)
            reused.append(session.record.reused)
    assert reused == [[], ["answers"], []]


# --- what cannot be entered ----------------------------------------------------------------------------------------


def configure(folder: Path, **values: Any) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def reweigh(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    file = folder / "adapter_model.safetensors"
    save_file(change(load_file(file)), file)


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no folder": (shutil.rmtree, "must be a folder that can be read, got"),
    "no adapters": (lambda at: [shutil.rmtree(inner) for inner in at.iterdir()], "which holds none; name another"),
    "unlike": (lambda at: configure(at / "Ada", r=8), r"differ in 'r': (4 and 8|8 and 4); put adapters with the same"),
    "damaged": (lambda at: (at / "Ada" / "adapter_config.json").write_text("{"), "that peft can read"),
    "pissa": (lambda at: configure(at / "Ada", init_lora_weights="pissa"), "has moved a part of the base"),
    "prompt": (
        lambda at: (at / "Ada" / "adapter_config.json").write_text('{"peft_type": "PROMPT_TUNING"}'),
        "PROMPT_TUNING and cannot be used, since its virtual tokens",
    ),
    "other layers": (lambda at: reweigh(at / "Ada", lambda old: {f"x.{k}": v for k, v in old.items()}), "lacks tensor"),
    "other sizes": (
        lambda at: reweigh(at / "Ada", lambda old: {k: v[:, :2].contiguous() for k, v in old.items()}),
        "does not fit the model: size mismatch for .*; use adapters that were made for this model",
    ),
    "more": (
        lambda at: reweigh(at / "Ada", lambda old: {**old, "base_model.x": torch.ones(1)}),
        "has the unknown tensor 'base_model.x'",
    ),
    "no tensors": (
        lambda at: (at / "Ada" / "adapter_model.safetensors").write_bytes(b"1"),
        "cannot be read: .*; make the adapter again",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters")
    save_trained(folder)
    return folder


@pytest.mark.parametrize("fault", BROKEN)
def test_what_cannot_be_entered_is_told_in_one_line(fault: str, adapters: Path, tmp_path: Path) -> None:
    folder = tmp_path / "adapters"
    shutil.copytree(adapters, folder)
    ruin, told = BROKEN[fault]
    ruin(folder)
    with pytest.raises(AdapterError, match=told) as raised:
        behaviour(entered(folder))
    assert "\n" not in str(raised.value)


def test_memory_is_predicted_without_any_of_training(adapters: Path) -> None:
    cpu = torch.device("cpu")
    predicted = predict(
        tiny_config("llama"), entering(adapters), device=cpu, document_tokens=80, window=1000, free=2**33
    )
    parts = {part.name: part.bytes for part in predicted.parts}
    assert parts.keys() == {"process", "base weights", "adapter", "answers"}
    tensors = load_file(adapters / "Ada" / "adapter_model.safetensors").values()
    assert parts["adapter"] == 2 * sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def test_a_line_more_than_icl_enters_adapters() -> None:
    entering = load_recipe("icl", {"adapter.type": "folder", "adapter.path": "adapters"})
    assert not entering.trains
