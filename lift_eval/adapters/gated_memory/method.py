"""Gated Memory made known to peft."""

from __future__ import annotations

from lift_eval.adapters.gated_memory.config import GatedMemoryConfig
from lift_eval.adapters.gated_memory.model import GatedMemoryModel
from lift_eval.adapters.peft_registration import register_method


def register() -> None:
    """Make the method known to peft; done when this module is imported, and harmless when repeated."""
    register_method("GATED_MEMORY", GatedMemoryConfig, GatedMemoryModel)


register()
