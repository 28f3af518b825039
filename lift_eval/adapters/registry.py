"""All adapters. A recipe's group ``adapter`` is the settings of one of them, chosen by ``type``."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import Field

from lift_eval.adapters.base import AdapterSettings
from lift_eval.adapters.cartridge.settings import CartridgeSettings
from lift_eval.adapters.folder import FolderSettings
from lift_eval.adapters.gated_memory.settings import GatedMemorySettings
from lift_eval.adapters.lora import LoraSettings
from lift_eval.adapters.peft_method import PeftSettings
from lift_eval.adapters.pissa import PissaSettings
from lift_eval.adapters.weights import WeightsSettings


class NoAdapter(AdapterSettings):
    """No adapter: the document is read in the prompt only (in-context learning, ICL)."""

    type: Literal["none"] = "none"

    trained: ClassVar[bool] = False


Adapter: TypeAlias = Annotated[
    NoAdapter
    | LoraSettings
    | PissaSettings
    | GatedMemorySettings
    | WeightsSettings
    | PeftSettings
    | CartridgeSettings
    | FolderSettings,
    Field(discriminator="type"),
]
