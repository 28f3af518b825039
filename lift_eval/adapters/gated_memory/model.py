"""Gated Memory in a model: which modules get it."""

from __future__ import annotations

from typing import Any

from peft.tuners.tuners_utils import BaseTuner
from torch import nn

from lift_eval.adapters.gated_memory.config import GatedMemoryConfig
from lift_eval.adapters.gated_memory.layer import (
    OUTPUT_PROJECTION,
    QUERY_PROJECTIONS,
    GatedMemoryAttention,
    GatedMemoryHead,
    GatedMemoryLayer,
)
from lift_eval.errors import AdapterError

_ATTENTION = r"layers\.\d+\.self_attn"
_ANYWHERE = rf"(.*\.)?{_ATTENTION}"

SUPPORTED_ARCHITECTURES: dict[str, str] = {
    "gemma2": _ANYWHERE,
    "gemma3": rf"(.*\.)?language_model\.{_ATTENTION}",  # its vision tower has attention modules too
    "gemma3_text": _ANYWHERE,
    "llama": _ANYWHERE,
    "mistral": _ANYWHERE,
    "phi3": _ANYWHERE,
    "qwen2": _ANYWHERE,
    "qwen3": _ANYWHERE,
}
"""Model type -> regular expression of the full names of its attention modules."""


class GatedMemoryModel(BaseTuner):  # type: ignore[misc]  # peft has no types
    """Puts a gated memory beside every attention head of a transformers model; peft's side of the method."""

    prefix = "gated_memory_"
    tuner_layer_cls = GatedMemoryLayer
    target_module_mapping = SUPPORTED_ARCHITECTURES

    def _prepare_adapter_config(
        self, peft_config: GatedMemoryConfig, model_config: dict[str, Any]
    ) -> GatedMemoryConfig:
        if peft_config.target_modules is None:
            model_type = str(model_config.get("model_type"))
            if model_type not in SUPPORTED_ARCHITECTURES:
                raise AdapterError(
                    f"Gated Memory looks for self_attn modules with {' or '.join(QUERY_PROJECTIONS)} and "
                    f"{OUTPUT_PROJECTION}, which are known for {', '.join(SUPPORTED_ARCHITECTURES)}, got model type "
                    f"'{model_type}'; use adapter.type=lora or adapter.type=pissa"
                )
            peft_config.target_modules = SUPPORTED_ARCHITECTURES[model_type]
        return peft_config

    @staticmethod
    def _check_target_module_exists(peft_config: GatedMemoryConfig, key: str) -> Any:  # noqa: ANN401 - as in peft
        if key.rpartition(".")[2] == "lm_head":
            return peft_config.lm_head_rank > 0
        return BaseTuner._check_target_module_exists(peft_config, key)

    def _create_and_replace(
        self,
        peft_config: GatedMemoryConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        if isinstance(target, (GatedMemoryAttention, GatedMemoryHead)):
            target.update_layer(adapter_name, peft_config)
            return
        layer = GatedMemoryHead if target_name == "lm_head" else GatedMemoryAttention
        self._replace_module(parent, target_name, layer(target, adapter_name, peft_config), target)

    def _replace_module(
        self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module
    ) -> None:
        # Peft would move weights between the two, which attention modules do not have; the layers place themselves.
        setattr(parent, child_name, new_module)
