"""Any other method of peft, by its name and with its own settings."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator

from lift_eval.adapters.base import AdapterSettings
from lift_eval.errors import AdapterError, nearest

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel

OWN_TYPES = {
    "CARTRIDGE": "cartridge",
    "GATED_MEMORY": "gated_memory",
    "KV_CARTRIDGE": "cartridge",
    "LORA": "lora",
}
"""Methods that are a ``type`` of their own."""

UNFIT = {
    "ADALORA": "it changes its ranks between steps and adds a loss of its own",
    "POLY": "it learns one adapter from many tasks",
    "SHADOW": "it adds a loss of its own",
    "XLORA": "it mixes adapters that were trained before",
}
"""Methods that cannot be trained on one document, and why."""
VIRTUAL_TOKENS = "its virtual tokens precede the prompt and shift all positions"

OURS = {
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "peft_type",
    "peft_version",
    "revision",
    "task_type",
}
"""Fields of peft's configurations that are no settings of a method."""


class PeftSettings(AdapterSettings):
    """Any other suitable method of peft."""

    type: Literal["peft"] = "peft"
    method: str
    """Peft's name of the method, such as OFT."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Settings of the method, as in its configuration class in peft."""

    cure: ClassVar[str] = "set adapter.config to what fits, e.g. its target_modules"

    @field_validator("method")
    @classmethod
    def _method_is_in_capitals(cls, method: str) -> str:
        return method.upper()

    def check_settings(self) -> None:
        """Let peft check method and settings; see `AdapterSettings.check_settings`."""
        self._configured()

    def peft_config(self, model: PreTrainedModel) -> PeftConfig:
        """The method's configuration; see `AdapterSettings.peft_config`."""
        return self._configured()

    def _configured(self) -> PeftConfig:
        from peft import TaskType

        from lift_eval.models.faults import first_line

        config_class = _config_class_of(self.method)
        known = {field.name for field in fields(config_class) if field.init} - OURS
        for key, value in self.config.items():
            if key not in known:
                raise AdapterError(
                    f"unknown key 'adapter.config.{key}' (value {value!r}) of peft's {self.method}{nearest(key, known)}"
                )
        try:
            return config_class(task_type=TaskType.CAUSAL_LM, **self.config)
        except (TypeError, ValueError) as error:
            raise AdapterError(
                f"'adapter.config' is refused by peft's {self.method}: {first_line(error)}; {self.cure}"
            ) from error


def _config_class_of(method: str) -> type[PeftConfig]:
    """Peft's configuration class of a method.

    Raises:
        AdapterError: If there is no such method, or it does not fit.
    """
    from peft import PromptLearningConfig, __version__
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    methods: dict[str, type[PeftConfig]] = {
        str(name.value): found for name, found in PEFT_TYPE_TO_CONFIG_MAPPING.items()
    }
    if method not in methods:
        known = methods.keys() - UNFIT.keys() - OWN_TYPES.keys()
        raise AdapterError(
            f"'adapter.method' must be a method of peft {__version__}, got '{method}'{nearest(method, known)}"
        )
    if method in OWN_TYPES:
        raise AdapterError(f"'adapter.method: {method}' is adapter.type={OWN_TYPES[method]}; set that")
    virtual = issubclass(methods[method], PromptLearningConfig)
    if virtual or method in UNFIT:
        reason = VIRTUAL_TOKENS if virtual else UNFIT[method]
        raise AdapterError(
            f"'adapter.method: {method}' cannot be trained on one document, since {reason}; use another method"
        )
    return methods[method]
