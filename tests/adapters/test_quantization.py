"""Adapters on 4-bit and 8-bit base weights, on the CPU through bitsandbytes."""

from __future__ import annotations

from pathlib import Path

import bitsandbytes as bnb
import pytest
import torch
from peft.utils.integrations import dequantize_bnb_weight
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from lift_eval.adapters.attach import attach, unadapted
from lift_eval.adapters.quantization import quantize
from lift_eval.adapters.state import AdapterState
from lift_eval.errors import AdapterError, CheckpointError
from lift_eval.models.loading import load_model
from lift_eval.recipe import LoraSettings, NoAdapter, PissaSettings, PrecisionSettings
from tests.adapters.helpers import ON_QUANTIZED_BASE, logits, settings, tokens, train, trainable
from tests.tiny_models import ARCHITECTURES, save_checkpoint, tiny_config, tiny_model

CONFIGS = {
    "nf4": BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    ),
    "int8": BitsAndBytesConfig(load_in_8bit=True),
}
QUANTIZED = (bnb.nn.Linear4bit, bnb.nn.Linear8bitLt)

pytestmark = pytest.mark.filterwarnings("ignore:MatMul8bitLt")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(params=[False, True], ids=["any CPU", "AVX512-BF16"])
def processor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What bitsandbytes takes the processor for: it packs 4-bit weights anew on those with AVX512-BF16."""
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: request.param)


def wide_model(width: int) -> PreTrainedModel:
    config = tiny_config("llama")
    config.hidden_size, config.head_dim = width, width // 4
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config)


def loaded(checkpoint: Path, bits: str):
    return AutoModelForCausalLM.from_pretrained(
        checkpoint, quantization_config=CONFIGS[bits], dtype=torch.float32
    ).eval()


@pytest.mark.parametrize("checkpointing", [False, True], ids=["stored", "checkpointed"])
@pytest.mark.parametrize("bits", CONFIGS)
@pytest.mark.parametrize("kind", ON_QUANTIZED_BASE)
def test_training_moves_every_tensor_and_reset_is_exact(kind: str, bits: str, checkpointing: bool) -> None:
    model, inputs = attach(tiny_model(), settings(kind), seed=0, quantization=CONFIGS[bits]), tokens()
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    expected = logits(model, inputs)
    initial = AdapterState.capture(model)
    losses = train(model, inputs)
    assert losses[1] < losses[0]
    after = AdapterState.capture(model).tensors
    assert [name for name, tensor in initial.tensors.items() if torch.equal(tensor, after[name])] == []
    initial.restore(model)
    assert torch.equal(logits(model, inputs), expected)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gated_memory_trains_on_nf4_on_every_architecture(architecture: str) -> None:
    model = attach(
        tiny_model(architecture), settings("gated_memory", architecture), seed=0, quantization=CONFIGS["nf4"]
    )
    before = {name: tensor.detach().clone() for name, tensor in trainable(model).items()}
    train(model, tokens())
    assert not any(torch.equal(tensor, before[name]) for name, tensor in trainable(model).items())


@pytest.mark.parametrize("bits", CONFIGS)
@pytest.mark.parametrize("kind", ["lora", "gated_memory"])
def test_quantizing_afterwards_is_loading_quantized(kind: str, bits: str, checkpoint: Path) -> None:
    inputs = tokens()
    one = attach(loaded(checkpoint, bits), settings(kind), seed=0)
    other = attach(tiny_model(), settings(kind), seed=0, quantization=CONFIGS[bits])
    assert torch.equal(logits(one, inputs), logits(other, inputs))


@pytest.mark.parametrize("bits", CONFIGS)
def test_every_base_linear_layer_but_the_output_embedding_is_quantized(bits: str) -> None:
    model = attach(tiny_model(), settings("gated_memory"), seed=0, quantization=CONFIGS[bits])
    assert sum(isinstance(module, QUANTIZED) for module in model.modules()) == 2 * 7
    assert type(model.get_base_model().lm_head.base_layer) is torch.nn.Linear
    bare = tiny_model()
    quantize(bare, CONFIGS[bits])
    assert sum(isinstance(module, QUANTIZED) for module in bare.modules()) == 2 * 7
    assert type(bare.lm_head) is torch.nn.Linear


@pytest.mark.parametrize("width", [32, 64, 576])
@pytest.mark.parametrize(
    "way", ["loaded quantized", "quantized afterwards", "handed over", "without an adapter"]
)
def test_an_evaluation_pass_changes_nothing(way: str, width: int, processor: None, tmp_path: Path) -> None:
    if way == "quantized afterwards":
        model = attach(wide_model(width), settings("lora"), seed=0, quantization=CONFIGS["nf4"])
    else:
        wide_model(width).save_pretrained(tmp_path)
        if way == "loaded quantized":
            model = load_model(
                str(tmp_path), PrecisionSettings(quantization="nf4"), device=torch.device("cpu")
            )
        else:
            adapter = NoAdapter() if way == "without an adapter" else settings("lora")
            model = attach(loaded(tmp_path, "nf4"), adapter, seed=0)
    inputs = tokens()
    trained = logits(model.train(), inputs)
    evaluated = logits(model.eval(), inputs)
    assert torch.equal(evaluated, trained), "training and answering see the same weights"
    assert torch.equal(logits(model.train(), inputs), trained)


def test_weights_that_an_evaluation_pass_has_changed_are_refused(tmp_path: Path) -> None:
    wide_model(64).save_pretrained(tmp_path)
    model = loaded(tmp_path, "nf4")
    weight = model.model.layers[0].mlp.up_proj.weight
    bnb.functional._convert_weight_packed_for_cpu(weight.data, weight.quant_state)  # what that pass does
    with pytest.raises(CheckpointError, match="load the model again"):
        attach(model, settings("lora"), seed=0)


def test_pissa_quantizes_the_residual() -> None:
    adapter = PissaSettings(rank=8, alpha=8, targets="all-linear")
    full = attach(tiny_model(), adapter, seed=0)
    model = attach(tiny_model(), adapter, seed=0, quantization=CONFIGS["nf4"])
    name = "base_model.model.model.layers.0.mlp.up_proj"
    residual = full.get_submodule(name).base_layer.weight
    packed, state = bnb.functional.quantize_4bit(residual, quant_type="nf4", compress_statistics=True)
    weight = model.get_submodule(name).base_layer.weight
    assert torch.equal(
        dequantize_bnb_weight(weight, state=weight.quant_state), bnb.functional.dequantize_4bit(packed, state)
    )
    # It is what PiSSA is for: a smaller error than that of quantizing the weight itself.
    inputs = tokens()
    base, whole = logits(tiny_model(), inputs), tiny_model()
    quantize(whole, CONFIGS["nf4"])
    assert (logits(model, inputs) - base).norm() < (logits(whole, inputs) - base).norm()


def test_unadapted_pissa_on_nf4_is_its_initial_state() -> None:
    model, inputs = attach(tiny_model(), settings("pissa"), seed=0, quantization=CONFIGS["nf4"]), tokens()
    initial, expected = AdapterState.capture(model), logits(model, inputs)
    train(model, inputs)
    with unadapted(model, initial, settings("pissa")):
        assert torch.equal(logits(model, inputs), expected)


def test_pissa_refuses_weights_that_were_loaded_quantized(checkpoint: Path) -> None:
    with pytest.raises(AdapterError, match="16 or 32 bits, got 4; load the model without quantization"):
        attach(loaded(checkpoint, "nf4"), settings("pissa"), seed=0)


def test_dora_works_on_nf4_and_is_refused_on_int8(checkpoint: Path) -> None:
    adapter = LoraSettings(rank=4, alpha=8, dora=True)
    losses = train(attach(loaded(checkpoint, "nf4"), adapter, seed=0), tokens())
    assert losses[1] < losses[0]
    with pytest.raises(AdapterError, match=r"'adapter\.dora' does not work on 8-bit"):
        attach(loaded(checkpoint, "int8"), adapter, seed=0)
    with pytest.raises(AdapterError, match=r"'adapter\.dora' does not work on 8-bit"):
        attach(tiny_model(), adapter, seed=0, quantization=CONFIGS["int8"])
