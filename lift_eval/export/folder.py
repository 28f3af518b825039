"""A trained adapter as a folder that peft loads, over the base's original weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import safetensors.torch
from peft import PeftConfig, PeftModel, PeftType, get_peft_model_state_dict
from torch import Tensor, cat

from lift_eval.adapters.base import AdapterSettings
from lift_eval.adapters.folder import WEIGHTS_FILE
from lift_eval.adapters.quantization import quantized_bits
from lift_eval.errors import AdapterError


def export_adapter(
    model: PeftModel,
    adapter: AdapterSettings,
    folder: Path,
    unadapted: Callable[[], AbstractContextManager[None]],
) -> PeftConfig:
    """Write an adapter as peft does: one that has moved a part of the base as LoRA, a cartridge as peft's own.

    Args:
        model: The model with the trained adapter.
        adapter: Its settings.
        folder: A new or empty folder, for ``adapter_config.json`` and ``adapter_model.safetensors``.
        unadapted: Lets the adapter be what it was before training.

    Returns:
        The configuration that was written.

    Raises:
        AdapterError: If the adapter cannot be written as plain LoRA, or the folder cannot be used.
    """
    as_it_is = copy.deepcopy(model.peft_config[model.active_adapter]), _tensors(model)
    config, tensors = adapter.exported(model) or as_it_is
    if adapter.changes_base:
        if config.use_dora:
            raise AdapterError(
                "an adapter with 'adapter.dora' that has moved a part of the base cannot be written as LoRA; export it "
                "merged"
            )
        with unadapted():
            tensors = _difference(tensors, _tensors(model))
        config = _doubled(config)
    if config.peft_type == PeftType.LORA:
        config.init_lora_weights = True  # nothing is computed from the base where it is loaded
    config.inference_mode = True
    prepare(folder)
    config.save_pretrained(folder)
    safetensors.torch.save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    return config


def export_merged(model: PeftModel, adapter: AdapterSettings, folder: Path) -> None:
    """Write a checkpoint of the base with the adapter in its weights; the model stays as it is.

    Args:
        model: The model with the trained adapter.
        adapter: Its settings.
        folder: A new or empty folder, for the checkpoint.

    Raises:
        AdapterError: If the adapter cannot be merged, the base is quantized, or the folder cannot be used.
    """
    if not adapter.can_merge:
        raise AdapterError(
            f"adapter '{adapter.type}' cannot be merged into the base; export it without --merged"
        )
    if bits := quantized_bits(model):
        raise AdapterError(
            f"an adapter is merged into weights of 16 or 32 bits, got a base of {bits} bits; export it without "
            "--merged, and merge it by peft over the unquantized base"
        )
    prepare(folder)
    copy.deepcopy(model).merge_and_unload().save_pretrained(folder)


def prepare(folder: Path) -> None:
    """Make a folder, which must hold nothing yet.

    Raises:
        AdapterError: If it cannot be made, or holds something.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = next(folder.iterdir(), None)
    except OSError as error:
        raise AdapterError(f"folder '{folder}' cannot be written ({error.strerror}); name another") from error
    if held is not None:
        raise AdapterError(
            f"folder '{folder}' must be new or empty, got one with '{held.name}'; name another"
        )


def _tensors(model: PeftModel) -> dict[str, Tensor]:
    """Copies of the adapter's tensors on the CPU, by the names that peft gives them in a file."""
    found: Mapping[str, Tensor] = get_peft_model_state_dict(model, save_embedding_layers=False)
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in found.items()}


def _difference(learned: Mapping[str, Tensor], initial: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """LoRA of B A - B0 A0, which is what training has changed: [A; A0] and [B, -B0], of twice the rank."""
    return {
        name: cat([tensor, initial[name]], dim=0)
        if ".lora_A" in name or ".lora_embedding_A" in name
        else cat([tensor, -initial[name]], dim=1)
        for name, tensor in learned.items()
    }


def _doubled(config: Any) -> Any:  # noqa: ANN401 - LoraConfig
    """A configuration of twice the rank, with the factor on B A as it was."""
    factor = math.sqrt(2) if config.use_rslora else 2
    config.r *= 2
    config.lora_alpha *= factor
    config.rank_pattern = {name: 2 * rank for name, rank in config.rank_pattern.items()}
    config.alpha_pattern = {name: factor * alpha for name, alpha in config.alpha_pattern.items()}
    return config
