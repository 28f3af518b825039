"""A GGUF file is a base model like any other: the same numbers, the same tokenizer, one line for each fault."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import nn
from transformers import AutoModelForCausalLM, GgufConfig

from lift_eval.document import Document
from lift_eval.errors import CheckpointError
from lift_eval.lifter.kept import export_kept
from lift_eval.lifter.lifter import Lifter
from lift_eval.models.loading import checkpoint_version, load_model, load_tokenizer
from lift_eval.models.settings import PrecisionSettings
from lift_eval.recipe import load_recipe
from lift_eval.store import Store, Training
from tests.tiny_models import BOS, CHAT_TEMPLATE, END, EOS, PAD, tiny_model, tiny_tokenizer, write_gguf

CPU = torch.device("cpu")
IDS = torch.tensor([[256, 40, 41, 42, 99, 7, 13]])


def load(path: Path, **precision: Any) -> Any:
    return load_model(str(path), PrecisionSettings(**{"dtype": "float32", **precision}), device=CPU)


def test_a_gguf_file_computes_what_the_checkpoint_it_was_made_from_computes(tmp_path: Path) -> None:
    model = load(write_gguf(tmp_path / "tiny.gguf"))
    torch.testing.assert_close(model(IDS).logits, tiny_model()(IDS).logits, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_packed_weights_become_plain_layers_of_the_recipes_precision(dtype: str, tmp_path: Path) -> None:
    model = load(write_gguf(tmp_path / "tiny.gguf", kind="Q8_0"), dtype=dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {getattr(torch, dtype)}
    expected = tiny_model().model.layers[1].mlp.down_proj
    layer = model.model.layers[1].mlp.down_proj
    assert type(layer) is nn.Linear
    assert type(model.get_input_embeddings()) is nn.Embedding
    torch.testing.assert_close(layer.weight.float(), expected.weight.detach(), rtol=0, atol=5e-3)


def test_the_tokenizer_is_the_one_of_the_file(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    (tmp_path / "tokenizer.json").write_text("that of another checkpoint, which happens to lie here")
    tokenizer = load_tokenizer(str(path))
    text = "<|start|>user\nÄ 42 snow,  one\n\n☃<|end|>"
    assert tokenizer(text)["input_ids"] == tiny_tokenizer()(text)["input_ids"]
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (BOS, EOS, PAD)
    assert tokenizer.chat_template == CHAT_TEMPLATE


@pytest.mark.parametrize(
    ("in_file", "asked", "first"),
    [
        (None, None, False),
        (True, None, True),
        (False, None, False),
        (True, False, False),
        (False, True, True),
    ],
)
def test_the_file_says_whether_a_text_begins_with_a_token_unless_the_recipe_does(
    in_file: bool | None, asked: bool | None, first: bool, tmp_path: Path
) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", adds_bos=in_file)
    assert (load_tokenizer(str(path), bos=asked)("x")["input_ids"][0] == 256) is first


def test_digits_are_tokens_of_their_own_where_the_model_has_learned_them_so(tmp_path: Path) -> None:
    # Where digits are split off first, the empty lines before a number are one word.
    texts = {}
    for kind in ("default", "smollm"):
        tokenizer = load_tokenizer(str(write_gguf(tmp_path / f"{kind}.gguf", tokenizer=kind)))
        words = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("\n\n12 to")
        texts[kind] = [word for word, _ in words]
    assert texts == {"default": ["Ċ", "Ċ", "12", "Ġto"], "smollm": ["ĊĊ", "1", "2", "Ġto"]}


@pytest.mark.parametrize(("eot", "ends"), [(None, [257]), (END, [257, 260])])
def test_an_answer_ends_at_the_end_of_a_text_or_of_a_turn(
    eot: str | None, ends: list[int], tmp_path: Path
) -> None:
    model = load(write_gguf(tmp_path / "tiny.gguf", eot=eot))
    assert model.generation_config.eos_token_id == ends


def test_a_file_is_named_by_its_path_or_by_folder_and_name(tmp_path: Path) -> None:
    from lift_eval.harness.model import LiftLM

    path = write_gguf(tmp_path / "tiny.gguf")
    common: dict[str, Any] = {"device": "cpu", "recipe": "icl", "precision.dtype": "float32"}
    models = [
        LiftLM(pretrained=str(path), store="off", **common),
        LiftLM(pretrained=str(tmp_path), gguf_file="tiny.gguf", store="off", **common),
        Lifter.from_pretrained(path, "icl", device="cpu"),
        Lifter.from_pretrained(tmp_path, "icl", gguf_file="tiny.gguf", device="cpu"),
    ]
    (tokens,) = {tuple(one.tokenizer("of one")["input_ids"]) for one in models}
    for one in models:
        base = one._model if isinstance(one, LiftLM) else one.model
        logits = base(torch.tensor([tokens])).logits.float()
        torch.testing.assert_close(logits, tiny_model()(torch.tensor([tokens])).logits, rtol=0, atol=0.05)
    assert models[1].get_model_info()["lift"]["pretrained"] == str(tmp_path)


def test_a_documents_adapter_is_kept_and_found_again(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", kind="Q8_0")
    recipe = load_recipe(
        "lora", {"adapter.rank": 4, "training.segment_tokens": 32, "training.stride_tokens": 32}
    )
    document = Document("The mill of Kirmoor was built by Otto Larkley in 1842, and it burned down twice.")
    reused, answers = [], []
    for _ in range(2):
        lifter = Lifter.from_pretrained(path, recipe, device="cpu", store=tmp_path / "store")
        with lifter.lift(document) as session:
            answers.append(session.answer(["Who built the mill?"]))
            reused.append(session.record.reused)
    assert reused == [[], ["adapter", "answers"]]
    assert answers[0] == answers[1]
    store = Store(tmp_path / "store")
    (key,) = [entry.key for entry in store.entries() if entry.kind == Training.kind]
    export_kept(store, key, tmp_path / "exported")  # which loads the base that the entry names
    config = json.loads((tmp_path / "exported" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(path)
    loaded = f'"{tmp_path}", gguf_file="tiny.gguf", quantization_config=GgufConfig(dequantize=True)'
    assert loaded in (tmp_path / "exported" / "README.md").read_text()
    base = AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="tiny.gguf", quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )
    model = PeftModel.from_pretrained(base, tmp_path / "exported")
    with lifter.lift(document):
        torch.testing.assert_close(model(IDS).logits, lifter.model(IDS).logits.float(), rtol=0, atol=1e-5)


def test_another_file_of_the_same_name_is_another_checkpoint(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    before = checkpoint_version(str(path))
    write_gguf(path, kind="Q8_0")
    assert checkpoint_version(str(path)) != before


def cut(size: int) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(path.read_bytes()[:size]) and None


def other_architecture(path: Path) -> None:
    write_gguf(path, architecture="abacus")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (cut(0), "is not a readable GGUF file: cannot mmap an empty file; the file may be truncated"),
        (cut(3), "the file may be truncated or damaged: download it again"),
        (cut(500), "the file may be truncated or damaged: download it again"),
        (cut(20_000), "the file may be truncated or damaged: download it again"),
        (cut(-1), "the file may be truncated or damaged: download it again"),
        (lambda path: path.write_bytes(b"PK, and not weights at all"), "the file may be truncated or damaged"),
        (other_architecture, "architecture abacus is not supported yet.; use a GGUF file of another architecture"),
        (Path.unlink, "tiny.gguf' is not a file; give the path of a GGUF file"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_ends_in_one_line(
    damage: Callable[[Path], None], told: str, tmp_path: Path
) -> None:
    damage(write_gguf(tmp_path / "tiny.gguf"))
    with pytest.raises(CheckpointError) as error:
        Lifter.from_pretrained(tmp_path / "tiny.gguf", "icl", device="cpu")
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("tinny.gguf", r"gguf_file='tinny.gguf' must be a file in '.*'; did you mean 'tiny.gguf'\?"),
        ("tiny.bin", r"gguf_file='tiny.bin' must be the name of a file that ends in \.gguf"),
    ],
)
def test_a_file_that_is_not_in_the_folder_is_told(name: str, told: str, tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf")
    with pytest.raises(CheckpointError, match=told):
        Lifter.from_pretrained(tmp_path, gguf_file=name)


def test_a_folder_without_such_a_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"gguf_file='tiny.gguf' must be a file in '.*'; no GGUF file is there"
    ):
        Lifter.from_pretrained(tmp_path, gguf_file="tiny.gguf")


def test_a_missing_package_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(
        CheckpointError, match=r"the package that reads it is missing; pip install 'lift-eval\[gguf\]'$"
    ):
        Lifter.from_pretrained(path)


@pytest.mark.parametrize("recipe", ["lora", "llama3_loogle_pissa"])
def test_a_file_is_not_quantized_anew(recipe: str, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    with pytest.raises(CheckpointError, match=r"precision\.quantization must be none for a GGUF file"):
        Lifter.from_pretrained(path, load_recipe(recipe, {"precision.quantization": "nf4"}), device="cpu")
