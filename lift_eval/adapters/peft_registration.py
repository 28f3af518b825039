"""Methods of our own made known to peft."""

from __future__ import annotations

from typing import Any

from peft import PeftType
from peft.utils import register_peft_method


def register_method(name: str, config_class: Any, model_class: Any) -> None:  # noqa: ANN401 - peft has no types
    """Make a method known to peft; harmless when repeated.

    Peft's registry takes only members of `PeftType`, an enumeration that is closed to other packages, and peft
    compares by those members when it saves. So the member is added as the enumeration itself would have made it.

    Args:
        name: Of the method, in capitals.
        config_class: Its configuration.
        model_class: Its tuner.
    """
    if name in PeftType.__members__:
        return
    member = str.__new__(PeftType, name)
    member._name_ = name
    member._value_ = name
    setattr(PeftType, name, member)
    PeftType._member_names_.append(name)
    PeftType._member_map_[name] = member
    PeftType._value2member_map_[name] = member
    register_peft_method(name=name.lower(), config_cls=config_class, model_cls=model_class)
