"""Adapters: LoRA, PiSSA and Gated Memory, all as peft methods, all reset in place.

Example::

    model = attach(model, recipe.adapter, seed=recipe.seed)
    initial = AdapterState.capture(model)
    ...  # train and answer
    initial.restore(model)  # bit for bit
"""

from __future__ import annotations

from lift_eval.adapters.on_demand import wait_for_need

wait_for_need()  # before anything below imports peft

# ruff: noqa: E402
from lift_eval.adapters.attach import attach, needs_full_precision, unadapted
from lift_eval.adapters.gated_memory import GatedMemoryConfig, GateRecord, record_gates
from lift_eval.adapters.quantization import quantize
from lift_eval.adapters.state import AdapterState

__all__ = [
    "AdapterState",
    "GateRecord",
    "GatedMemoryConfig",
    "attach",
    "needs_full_precision",
    "quantize",
    "record_gates",
    "unadapted",
]
