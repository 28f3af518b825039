"""From an adapter's settings to a model that has it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from peft import PeftConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel

from lift_eval.adapters.base import AdapterSettings
from lift_eval.adapters.lazy_import import nothing_quantized
from lift_eval.adapters.quantization import quantize, quantized_bits
from lift_eval.adapters.state import AdapterState, trainable
from lift_eval.errors import AdapterError
from lift_eval.models.faults import first_line
from lift_eval.models.loading import keep_quantized_weights


def attach(
    model: PreTrainedModel,
    adapter: AdapterSettings,
    *,
    seed: int,
    quantization: BitsAndBytesConfig | None = None,
) -> PeftModel | PreTrainedModel:
    """Put an adapter into a model, in place; its weights are made from the seed alone.

    Args:
        model: A causal language model without adapters. Its own weights are frozen.
        adapter: What to attach; with ``type: none`` the model comes back as it is.
        seed: Of the adapter's weights. The global random state is as before afterwards.
        quantization: Quantize the base weights after the adapter is made from them. PiSSA needs this way, since its
            residual is what gets quantized; the others may also take a model that was loaded quantized.

    Returns:
        The adapted model in evaluation mode, adapter trainable in float32; the model itself with ``type: none``.

    Raises:
        AdapterError: If the adapter does not fit the model, or the model has an adapter already.
        CheckpointError: If bitsandbytes has changed the model's 4-bit weights since they were loaded.
    """
    if any(isinstance(module, BaseTunerLayer) for module in model.modules()):
        raise AdapterError(
            "the model already has an adapter, which another Lifter may train; give each Lifter its own model"
        )
    keep_quantized_weights(model)
    if adapter.type == "none":
        adapted = model
    else:
        _check_precision(model, adapter, quantization)
        config = adapter.peft_config(model)
        unneeded = nullcontext() if quantized_bits(model) else nothing_quantized()
        with _seeded(model, seed), unneeded, warnings.catch_warnings():
            # peft calls transformers by a deprecated name, which a user cannot fix.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            warnings.filterwarnings(
                "ignore", "fan_in_fan_out is set to False"
            )  # peft does what it says for GPT-2
            # peft looks for the ranks of fused experts among modules alone; they are parameters, and have their ranks.
            warnings.filterwarnings("ignore", r"The following (rank|alpha)_pattern keys did not match")
            adapted = _adapted(model, adapter, config)
    if quantization is not None:
        quantize(adapted, quantization)
    return adapted


@contextmanager
def unadapted(
    model: PeftModel | PreTrainedModel, initial: AdapterState, adapter: AdapterSettings
) -> Iterator[None]:
    """Let the model be its base for a while, whatever its adapter has learned; its gradients are kept.

    Disabling the adapter is not enough for PiSSA and its like: they moved a part of the base weights into the
    adapter, so there the base is the adapter's initial state.

    Args:
        model: The model that `attach` returned.
        initial: The adapter's state before any training.
        adapter: Its settings.
    """
    if not isinstance(model, PeftModel):
        yield
    elif adapter.changes_base:
        learned = AdapterState.capture(model)
        gradients = [(tensor, tensor.grad) for tensor in trainable(model).values()]
        initial.restore(model)
        try:
            yield
        finally:
            learned.restore(model)
            for tensor, gradient in gradients:
                tensor.grad = gradient
    else:
        with model.disable_adapter():
            yield


def _check_precision(
    model: PreTrainedModel, adapter: AdapterSettings, quantization: BitsAndBytesConfig | None
) -> None:
    loaded = quantized_bits(model)
    if adapter.needs_full_precision and loaded:
        raise AdapterError(
            f"adapter '{adapter.type}' is made from the base weights, which must be in 16 or 32 bits, got {loaded}; "
            "load the model without quantization and give attach() the 'quantization' for the residual"
        )
    asked = 0 if quantization is None else 8 if quantization.load_in_8bit else 4
    adapter.check(loaded or asked)


def _adapted(model: PreTrainedModel, adapter: AdapterSettings, config: PeftConfig) -> PeftModel:
    try:
        adapted = get_peft_model(model, config).eval()
    except (TypeError, ValueError) as error:  # of a rule of peft's own
        raise AdapterError(
            f"adapter '{adapter.type}' does not fit {type(model).__name__}: {first_line(error)}; {adapter.cure}"
        ) from error
    for parameter in adapted.parameters():
        if parameter.requires_grad:  # peft leaves copies of base weights in 16 bits, too few for small steps
            parameter.data = parameter.data.float()
    return adapted


@contextmanager
def _seeded(model: nn.Module, seed: int) -> Iterator[None]:
    """Seed all generators of the model's devices, and put them back afterwards."""
    devices = sorted({parameter.device.index or 0 for parameter in model.parameters() if parameter.is_cuda})
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
