"""Gated Memory (LIFT paper, section 3.4) as a method of peft.

The public names below are imported when they are first used, since recipes read ``settings`` without torch. Using one
registers the method, so that ``get_peft_model``, ``PeftModel.from_pretrained``, ``save_pretrained`` and
``disable_adapter`` work on a `GatedMemoryConfig` as they do on a ``LoraConfig``.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "GateRecord": "layer",
    "GatedMemoryAttention": "layer",
    "GatedMemoryConfig": "config",
    "GatedMemoryHead": "layer",
    "GatedMemoryModel": "model",
    "MemoryCell": "layer",
    "SUPPORTED_ARCHITECTURES": "model",
    "record_gates": "gates",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    importlib.import_module(f"{__name__}.method")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
