"""Exported adapters do in a process without this package what they did in ours."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lift_eval import Document, Lifter, load_recipe
from lift_eval.cli import main
from lift_eval.errors import AdapterError, DocumentError
from lift_eval.store import Store
from tests.conftest import ROOT, untraced
from tests.tiny_models import save_checkpoint, tiny_tokenizer

TEXT = "The mill at Kirmoor was built in 1842. Otto Larkley owned it until it burnt. " * 4
QUICK = {
    "training.context_epochs": 2,
    "training.segment_tokens": 128,
    "training.stride_tokens": 128,
    "training.learning_rate": 2e-2,
    "precision.dtype": "float32",
}
SMALL = {"adapter.rank": 4, "adapter.alpha": 8, "adapter.targets": ["q_proj", "down_proj"]}
KINDS: dict[str, dict[str, Any]] = {
    "lora": SMALL,
    "rslora_of_all_layers": {**SMALL, "adapter.rslora": True, "adapter.targets": "all-linear"},
    "dora": {**SMALL, "adapter.dora": True},
    "pissa": {**SMALL, "adapter.type": "pissa"},
    "pissa_with_rslora": {**SMALL, "adapter.init": "pissa", "adapter.rslora": True},
    "olora": {**SMALL, "adapter.init": "olora"},
    "weights": {"adapter.type": "weights", "adapter.targets": ["q_proj"]},
    "gated_memory": {"adapter.type": "gated_memory", "adapter.lm_head_rank": 2},
    "cartridge": {"adapter.type": "cartridge", "adapter.tokens": 8},
}
MERGED = ("lora", "pissa", "weights")
ELSEWHERE = {**untraced(), "PYTHONPATH": str(ROOT), "LIFT_EVAL_AUTOLOAD": "0"}
"""Of a process that can import this package, but does not by itself."""
# Run where this package is not: it reads folders of exports, each with the logits that it must give.
PLAIN_PEFT = """
import json, sys, torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
base, *folders = sys.argv[1:]
far = {}
for folder in folders:
    if folder.endswith("gated_memory"):
        assert "lift_eval" not in sys.modules
        import lift_eval
    if folder.endswith("merged"):
        model = AutoModelForCausalLM.from_pretrained(folder)
    else:
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)
    kept = load_file(folder + ".logits")
    with torch.no_grad():
        far[folder] = float((model.eval()(kept["ids"]).logits - kept["logits"]).abs().max())
print(json.dumps(far))
"""


def recipe(kind: str) -> Any:
    return load_recipe("lora", {**QUICK, **KINDS[kind]})


def logits(lifter: Lifter, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return lifter.model(ids).logits


def plain_peft(base: Path, folders: list[Path]) -> dict[str, float]:
    """How far the logits of each export are from ours, in a process that can import this package, but does not."""
    command = [sys.executable, "-c", PLAIN_PEFT, str(base), *map(str, folders)]
    ran = subprocess.run(command, env=ELSEWHERE, capture_output=True, text=True, timeout=500, check=False)
    assert ran.returncode == 0, ran.stderr
    far: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return {Path(folder).name: distance for folder, distance in far.items()}


def test_every_export_gives_the_same_logits_without_this_package(tmp_path: Path) -> None:
    base = save_checkpoint(tmp_path / "base")
    ids = torch.randint(0, 256, (1, 40), generator=torch.Generator().manual_seed(0))
    folders = []
    for kind in KINDS:
        lifter = Lifter.from_pretrained(base, recipe(kind))
        before = logits(lifter, ids)
        with lifter.lift(Document(TEXT, title="The mill")) as session:
            learned = logits(lifter, ids)
            assert (learned - before).abs().max() > 0.1, kind  # it has learned something that could be lost
            folders.append(tmp_path / kind)
            session.save(folders[-1])
            if kind in MERGED:
                folders.append(tmp_path / f"{kind}_merged")
                session.save(folders[-1], merged=True)
            assert torch.equal(logits(lifter, ids), learned), kind  # an export leaves the session as it was
        for folder in folders[-1 - (kind in MERGED) :]:
            save_file({"ids": ids, "logits": learned}, f"{folder}.logits")
        assert torch.equal(logits(lifter, ids), before), kind
    far = plain_peft(base, folders)
    assert far.keys() == {folder.name for folder in folders}
    assert {name: distance for name, distance in far.items() if distance > 1e-3} == {}


def test_gated_memory_loads_where_this_package_is_imported_first(tmp_path: Path) -> None:
    """The other order is among the exports above; until peft is imported, this package imports no other library."""
    base = save_checkpoint(tmp_path / "base")
    with Lifter.from_pretrained(base, recipe("gated_memory")).lift(Document(TEXT)) as session:
        session.save(tmp_path / "out")
    script = """
import sys
import lift_eval
assert {"torch", "peft"}.isdisjoint(sys.modules)
from peft import PeftModel
from transformers import AutoModelForCausalLM
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(sys.argv[1]), sys.argv[2])
print(model.peft_config["default"].peft_type.value)
"""
    command = [sys.executable, "-W", "error::UserWarning", "-c", script, str(base), str(tmp_path / "out")]
    ran = subprocess.run(command, env=ELSEWHERE, capture_output=True, text=True, timeout=500, check=False)
    assert (ran.returncode, ran.stdout) == (0, "GATED_MEMORY\n"), ran.stderr
    assert "cannot extend" not in ran.stderr


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("lora", ["| Rank | 4; vLLM: `--max-lora-rank 8` |", "base_model: "]),
        ("pissa", ["| Rank | 8; vLLM: `--max-lora-rank 8` |"]),
        ("dora", ["| Rank | 4; vLLM does not load DoRA |"]),
        ("cartridge", ["peft's own CARTRIDGE", "cannot be merged"]),
        ("gated_memory", ["`import lift_eval` before", "cannot be merged"]),
    ],
)
def test_the_card_says_what_it_is_and_what_it_needs(tmp_path: Path, kind: str, said: list[str]) -> None:
    base = save_checkpoint(tmp_path / "base")
    document = Document(TEXT, title="The mill")
    with Lifter.from_pretrained(base, recipe(kind)).lift(document) as session:
        session.save(tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    for words in [*said, str(base), "# The mill", document.digest, "lora", "Question: {{ question }}"]:
        assert words in card
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def test_what_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    base = save_checkpoint(tmp_path / "base")
    document = Document(TEXT)
    with (
        Lifter.from_pretrained(base, "icl").lift(document) as session,
        pytest.raises(AdapterError, match="no adapter"),
    ):
        session.save(tmp_path / "out")
    lifter = Lifter.from_pretrained(base, recipe("gated_memory"))
    with lifter.session(document) as session:
        with pytest.raises(DocumentError, match="not trained yet"):
            session.save(tmp_path / "out")
        session.train()
        with pytest.raises(AdapterError, match="cannot be merged"):
            session.save(tmp_path / "out", merged=True)
        with pytest.raises(AdapterError, match="new or empty, got one with 'base'"):
            session.save(tmp_path)
    with pytest.raises(DocumentError, match="no longer lifted"):
        session.save(tmp_path / "other")


def test_the_store_exports_what_a_session_would(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = save_checkpoint(tmp_path / "base")
    store = tmp_path / "store"
    with Lifter.from_pretrained(base, recipe("pissa"), store=store).lift(
        Document(TEXT, "The mill")
    ) as session:
        session.save(tmp_path / "saved")
    (entry,) = (entry for entry in Store(store).entries() if entry.kind == "adapters")
    arguments = ["store", "--store", str(store), "export", entry.key[:12], str(tmp_path / "exported")]
    assert main(arguments) == 0
    said = capsys.readouterr()
    assert "adapter_config.json, adapter_model.safetensors" in said.out
    assert "differs from the base" not in said.err
    for path in (tmp_path / "saved").iterdir():
        assert (tmp_path / "exported" / path.name).read_bytes() == path.read_bytes(), path.name
    assert main(["store", "--store", str(store), "export", "0000", str(tmp_path / "x")]) == 2
    assert "with which 0 begin" in capsys.readouterr().err


def test_a_cartridge_leaves_its_session_and_not_the_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, store = save_checkpoint(tmp_path / "base"), str(tmp_path / "store")
    with Lifter.from_pretrained(base, recipe("cartridge"), store=store).lift(Document(TEXT)):
        pass
    (entry,) = (entry for entry in Store(store).entries() if entry.kind == "adapters")
    assert main(["store", "--store", store, "export", entry.key, str(tmp_path / "out")]) == 2
    assert "is a cartridge, which starts from its document" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_card_says_how_a_model_with_a_chat_template_is_asked(tmp_path: Path) -> None:
    base = save_checkpoint(tmp_path / "base")
    tiny_tokenizer(chat_template=True).save_pretrained(base)
    chosen = load_recipe("lora", {**QUICK, **SMALL, "prompt.system": "Be brief."})
    with Lifter.from_pretrained(base, chosen).lift(Document(TEXT)) as session:
        session.save(tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "in the tokenizer's chat template, with the system message `Be brief.`. With" in card
    assert 'Without it:\n\n    Please answer the question based on "{{ title }}".' in card


def test_another_base_than_the_trained_one_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    base, other = save_checkpoint(tmp_path / "base"), save_checkpoint(tmp_path / "other", seed=1)
    store = tmp_path / "store"
    with Lifter.from_pretrained(base, recipe("lora"), store=store).lift(Document(TEXT)):
        pass
    (entry,) = (entry for entry in Store(store).entries() if entry.kind == "adapters")
    export = [
        "store",
        "--store",
        str(store),
        "export",
        entry.key,
        str(tmp_path / "out"),
        "--model",
        str(other),
    ]
    assert main(export) == 0
    assert "differs from the base that the adapter was trained on" in caplog.text


def test_the_card_shows_the_documents_scores_where_results_are_given(tmp_path: Path) -> None:
    base, store = str(save_checkpoint(tmp_path / "base")), str(tmp_path / "store")
    arguments = {"pretrained": base, "recipe": "lora", "store": store, **QUICK, **SMALL}
    (tmp_path / "mill.txt").write_text(TEXT)
    (tmp_path / "questions.jsonl").write_text('{"question": "When was the mill built?", "answer": "1842"}')
    places = {"documents": str(tmp_path / "mill.txt"), "questions": str(tmp_path / "questions.jsonl")}
    lm_eval = [
        sys.executable,
        "-m",
        "lm_eval",
        "run",
        "--model",
        "lift",
        "--tasks",
        "lift_own",
        "--log_samples",
    ]
    lm_eval += ["--model_args", json.dumps(arguments), "--metadata", json.dumps(places)]
    subprocess.run([*lm_eval, "--output_path", str(tmp_path / "runs")], check=True, timeout=500)
    (entry,) = (entry for entry in Store(store).entries() if entry.kind == "adapters")
    export = ["store", "--store", store, "export", entry.key, str(tmp_path / "out")]
    assert main([*export, "--results", str(tmp_path / "runs")]) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert re.search(r"\| Score, lift_own, token_f1 \| \d\.\d{3} \(1 question\) \|", card), card


def test_an_adapter_made_elsewhere_answers_after_its_import(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, store = str(save_checkpoint(tmp_path / "base")), str(tmp_path / "store")
    (tmp_path / "mill.txt").write_text(TEXT)
    with Lifter.from_pretrained(base, recipe("lora")).lift(Document(TEXT, "mill")) as session:
        expected = session.answer(["Who owned the mill?"])[0]
        session.save(tmp_path / "made")
    bring = [
        "store",
        "--store",
        store,
        "import",
        str(tmp_path / "made"),
        str(tmp_path / "mill.txt"),
        "--model",
    ]
    assert main([*bring, base]) == 0
    entered = capsys.readouterr().out.strip()
    shutil.rmtree(tmp_path / "made")  # the store has a copy
    ask = ["ask", str(tmp_path / "mill.txt"), "Who owned the mill?", "--model", base]
    assert main([*ask, "--recipe", entered]) == 0
    assert (expected or "(no answer)") in capsys.readouterr().out
    (tmp_path / "made").mkdir()
    assert main([*bring, base]) == 2
    assert f"'{tmp_path / 'made'}' must hold adapter_config.json and" in capsys.readouterr().err
    (tmp_path / "made" / "adapter_config.json").write_text("{}")
    (tmp_path / "made" / "adapter_model.safetensors").touch()
    assert main([*bring, base]) == 2
    assert f"'{tmp_path / 'made' / 'adapter_config.json'}' is not" in capsys.readouterr().err
