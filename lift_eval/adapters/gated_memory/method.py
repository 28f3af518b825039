"""Gated Memory made known to peft."""

from __future__ import annotations

from peft import PeftType
from peft.utils import register_peft_method

from lift_eval.adapters.gated_memory.config import GatedMemoryConfig
from lift_eval.adapters.gated_memory.model import GatedMemoryModel


def register() -> None:
    """Make the method known to peft; done when this module is imported, and harmless when repeated.

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


register()
