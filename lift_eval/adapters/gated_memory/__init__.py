"""Gated Memory (LIFT paper, section 3.4) as a method of peft.

Importing this package registers it, so that ``get_peft_model``, ``PeftModel.from_pretrained``, ``save_pretrained``
and ``disable_adapter`` work on a `GatedMemoryConfig` as they do on a ``LoraConfig``.
"""

from __future__ import annotations

from peft import PeftType
from peft.utils import register_peft_method

from lift_eval.adapters.gated_memory.config import GatedMemoryConfig
from lift_eval.adapters.gated_memory.gates import record_gates
from lift_eval.adapters.gated_memory.layer import (
    GatedMemoryAttention,
    GatedMemoryHead,
    GateRecord,
    MemoryCell,
)
from lift_eval.adapters.gated_memory.model import SUPPORTED_ARCHITECTURES, GatedMemoryModel

__all__ = [
    "SUPPORTED_ARCHITECTURES",
    "GateRecord",
    "GatedMemoryAttention",
    "GatedMemoryConfig",
    "GatedMemoryHead",
    "GatedMemoryModel",
    "MemoryCell",
    "record_gates",
]


def _register() -> None:
    """Make the method known to peft.

    Peft's registry takes only members of `PeftType`, an enumeration that is closed to other packages, and peft
    compares by those members when it saves. So the member is added as the enumeration itself would have made it.
    """
    name = "GATED_MEMORY"
    if name in PeftType.__members__:
        return
    member = str.__new__(PeftType, name)
    member._name_ = name
    member._value_ = name
    setattr(PeftType, name, member)
    PeftType._member_names_.append(name)
    PeftType._member_map_[name] = member
    PeftType._value2member_map_[name] = member
    register_peft_method(name=name.lower(), config_cls=GatedMemoryConfig, model_cls=GatedMemoryModel)


_register()
