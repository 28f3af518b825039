"""Checkpoints that cannot be loaded end in one line that says why and what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, GPT2Config, XLNetConfig

from lift_eval.errors import CheckpointError
from lift_eval.lifter.lifter import Lifter
from lift_eval.models.loading import _say_bfloat16, context_window, load_model
from lift_eval.models.settings import PrecisionSettings
from lift_eval.recipe import load_recipe
from tests.tiny_models import save_checkpoint, tiny_tokenizer

Break = Callable[[Path], None]


def cut(name: str, size: int) -> Break:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


def write(name: str, content: bytes) -> Break:
    return lambda folder: (folder / name).write_bytes(content) and None


def set_config(**values: Any) -> Break:
    def set_values(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return set_values


def cut_shard(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="30KB")
    cut("model-00002-of-00005.safetensors", 100)(folder)


def weights_of_torch(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (cut("model.safetensors", 5000), "truncated or damaged: download it again"),
        (cut("model.safetensors", 8), "truncated or damaged: download it again"),
        (cut("model.safetensors", 0), "truncated or damaged: download it again"),
        (write("model.safetensors", b"not weights at all"), "truncated or damaged: download it again"),
        (cut_shard, "truncated or damaged: download it again"),
        (weights_of_torch, "weights must be in *.safetensors; convert the checkpoint"),
        (set_config(hidden_size=64), "but lm_head.weight is (264, 32) and not (264, 64)"),
        (set_config(num_hidden_layers=3), "9 are missing (such as model.layers.2.input_layernorm.weight)"),
        (set_config(num_attention_heads=5), "not a multiple of the number of attention heads (5)"),
        (set_config(hidden_size="big"), "'hidden_size' expected int, got str"),
        (set_config(vocab_size=100), "Padding_idx must be within num_embeddings"),
        (set_config(rope_parameters={"rope_type": "round"}), "KeyError: 'round'"),
        (set_config(dtype="float99"), "has no attribute 'float99'"),
        (
            set_config(auto_map={"AutoConfig": "own.Config"}, model_type="own"),
            "set trust_remote_code=True if you",
        ),
        (cut("config.json", 100), "has no readable config.json"),
        (write("config.json", b"[]"), "has no readable config.json"),
        (write("generation_config.json", b"[]"), "cannot be loaded"),
        (
            write("generation_config.json", b'{"eos_token_id": "x"}'),
            "since it fails on a short test text: TypeError",
        ),
        (cut("tokenizer.json", 500), "has no tokenizer that loads: Unterminated string"),
        (write("tokenizer.json", b"{}"), "has no tokenizer that loads: KeyError: 'added_tokens'"),
        (cut("tokenizer_config.json", 20), "has no tokenizer that loads"),
    ],
)
def test_a_damaged_checkpoint_ends_in_one_line(damage: Break, told: str, tmp_path: Path) -> None:
    damage(save_checkpoint(tmp_path))
    with pytest.raises(CheckpointError) as error:
        Lifter.from_pretrained(tmp_path, "icl", device="cpu")
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("instructions", "dtype"),
    [
        ({}, torch.float32),
        ({"avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, torch.float32),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"avx512_bf16": False, "amx_bf16": True}, torch.bfloat16),
        ({"architecture": "aarch64", "bf16": True}, torch.bfloat16),
    ],
)
def test_auto_takes_the_format_that_the_processor_multiplies_and_says_so_once(
    instructions: dict[str, Any],
    dtype: torch.dtype,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: instructions)
    _say_bfloat16.cache_clear()
    recipe = load_recipe("lora", {"adapter.rank": 2})
    lifters = [Lifter.from_pretrained(save_checkpoint(tmp_path), recipe, device="cpu") for _ in range(2)]
    assert {lifter.model.dtype for lifter in lifters} == {dtype}
    assert {weight.dtype for weight in lifters[0].model.parameters() if weight.requires_grad} == {
        torch.float32
    }
    said = [record.getMessage() for record in caplog.records if "precision.dtype" in record.getMessage()]
    assert len(said) == (dtype == torch.bfloat16)


@pytest.mark.parametrize("recipe", ["tiny", "tiny_icl"])
def test_the_demonstration_is_the_same_on_every_processor(
    recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_bf16": True})
    assert Lifter.from_pretrained(recipe=recipe, device="cpu").model.dtype == torch.float32


def test_a_tokenizer_of_its_own_is_blamed_by_its_own_name(tmp_path: Path) -> None:
    from lift_eval.harness.model import LiftLM

    save_checkpoint(tmp_path / "model")
    (tmp_path / "bad").mkdir()
    with pytest.raises(CheckpointError, match=r"^tokenizer='.*bad' has no tokenizer that loads"):
        LiftLM(pretrained=str(tmp_path / "model"), tokenizer=str(tmp_path / "bad"), device="cpu", store="off")


@pytest.mark.parametrize(
    ("config", "window"),
    [(GPT2Config(n_positions=77), 77), (XLNetConfig(), 16384), (AutoConfig.for_model("mamba"), 16384)],
    ids=["its own", "no limit", "none named"],
)
def test_the_window_is_the_models_or_else_the_tokenizers(config: Any, window: int) -> None:
    assert context_window(config, tiny_tokenizer()) == window


def test_an_8_bit_model_does_not_log_each_of_its_products(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    precision = PrecisionSettings(quantization="int8", dtype="float32")
    model = load_model(str(save_checkpoint(tmp_path)), precision, device=torch.device("cpu"))
    model(torch.tensor([[1, 2, 3]]))
    assert "inputs will be cast" not in caplog.text
