"""Quantizing a model that is already in memory, adapters and all."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel

from lift_eval.models.loading import keep_quantized_weights


def quantize(model: nn.Module, config: BitsAndBytesConfig) -> None:
    """Quantize the base's linear layers in place, as loading with this configuration would have.

    The adapter and the output embedding stay as they are. A PiSSA adapter is thus made from the full weights, and
    its residual is what gets quantized (Meng et al. 2024, section 4).

    Args:
        model: A model with or without an adapter.
        config: 4-bit or 8-bit settings of bitsandbytes.
    """
    for parent, name, layer in list(quantizable(model)):
        setattr(parent, name, _quantized(layer, config))
    keep_quantized_weights(model)
    base = _base(model)
    base.is_loaded_in_4bit, base.is_loaded_in_8bit = config.load_in_4bit, config.load_in_8bit


def quantizable(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    """The layers that `quantize` changes: the module that each is part of, its name there, and the layer."""
    kept = _adapter_modules(model) | set(_output_embedding(model).modules())
    for parent in model.modules():
        for name, child in parent.named_children():
            if type(child) is nn.Linear and child not in kept:
                yield parent, name, child


def quantized_bits(model: nn.Module) -> int:
    """Bits of the base weights as bitsandbytes quantized them: 4, 8, or 0 for weights that are not quantized."""
    # By name, since bitsandbytes is not on every platform; without it nothing is quantized.
    kinds = {type(weight).__name__ for weight in model.parameters()}
    return 4 if "Params4bit" in kinds else 8 if "Int8Params" in kinds else 0


def _adapter_modules(model: nn.Module) -> set[nn.Module]:
    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    owned = [getattr(layer, name) for layer in layers for name in layer.adapter_layer_names]
    return {module for part in owned if isinstance(part, nn.Module) for module in part.modules()}


def _base(model: nn.Module) -> PreTrainedModel:
    return model.get_base_model() if isinstance(model, PeftModel) else model


def _output_embedding(model: nn.Module) -> nn.Module:
    head = _base(model).get_output_embeddings()
    return nn.Identity() if head is None else head


def _quantized(linear: nn.Linear, config: BitsAndBytesConfig) -> nn.Module:
    import bitsandbytes as bnb

    weight, shape = linear.weight.data, (linear.in_features, linear.out_features)
    new: nn.Module
    with torch.device("meta"):
        if config.load_in_8bit:
            new = bnb.nn.Linear8bitLt(
                *shape, bias=False, has_fp16_weights=False, threshold=config.llm_int8_threshold
            )
        else:
            new = bnb.nn.Linear4bit(
                *shape,
                bias=False,
                compute_dtype=config.bnb_4bit_compute_dtype,
                compress_statistics=config.bnb_4bit_use_double_quant,
                quant_type=config.bnb_4bit_quant_type,
                quant_storage=config.bnb_4bit_quant_storage,
            )
    if config.load_in_8bit:
        new.weight = bnb.nn.Int8Params(weight, requires_grad=False, has_fp16_weights=False)
    else:
        new.weight = bnb.nn.Params4bit(
            weight,
            requires_grad=False,
            compress_statistics=config.bnb_4bit_use_double_quant,
            quant_type=config.bnb_4bit_quant_type,
            quant_storage=config.bnb_4bit_quant_storage,
            module=new,
        )
    new.bias = linear.bias
    new = new.to(weight.device)  # bitsandbytes quantizes where a weight is moved
    return new.train(linear.training)
