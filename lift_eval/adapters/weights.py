"""Weights of the base model themselves, without any low-rank form: raw fine-tuning."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, field_validator

from lift_eval.adapters.base import AdapterSettings
from lift_eval.adapters.targets import all_linear, check_targets, is_named, layers_with_weights
from lift_eval.errors import AdapterError

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel

_LAYER = re.compile(r"\.(\d+)\.")
"""The number of a decoder layer in the full name of a module."""


class WeightsSettings(AdapterSettings):
    """The weights of linear layers, trained directly.

    Training changes copies in float32, which stand in for the layers; the base's own weights stay as they were loaded.
    """

    type: Literal["weights"] = "weights"
    targets: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    """Names of linear layers; ``all-linear``: all except the output embedding."""
    layers: tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1)]] = (0.0, 1.0)
    """The decoder layers whose weights are trained, from one share of the depth to another: [0.2, 1] is the upper
    80 %, rounded to whole layers."""

    @field_validator("layers")
    @classmethod
    def _layers_are_a_range(cls, layers: tuple[float, float]) -> tuple[float, float]:
        if layers[0] >= layers[1]:
            raise ValueError(
                f"'adapter.layers' must go from a share of the depth to a larger one, such as [0.2, 1], got {layers}"
            )
        return layers

    def check(self, bits: int) -> None:
        """Refuse quantized weights, which no small step changes; see `AdapterSettings.check`."""
        if bits:
            raise AdapterError(
                f"adapter 'weights' trains the base's own weights, which must be in 16 or 32 bits, got {bits}; set "
                "precision.quantization=none, or use adapter.type=lora"
            )

    def peft_config(self, model: PreTrainedModel) -> PeftConfig:
        """Peft's method for the weights of normalisation layers, which trains those of any layer."""
        from peft import LNTuningConfig, TaskType

        names = self._chosen(model)
        if not names:
            raise AdapterError(
                f"'adapter.layers' must hold a layer of {type(model).__name__} that 'adapter.targets' names, got "
                f"{list(self.layers)}; set a wider range"
            )
        return LNTuningConfig(task_type=TaskType.CAUSAL_LM, target_modules=names)

    def _chosen(self, model: PreTrainedModel) -> list[str]:
        """Full names of the layers to train. What belongs to no decoder layer is trained with all of them alone."""
        if self.targets == "all-linear":
            names = all_linear(model)
        else:
            check_targets(model, self.targets, embeddings=False)
            names = [
                name
                for name in layers_with_weights(model, embeddings=False)
                if any(is_named(target, [name]) for target in self.targets)
            ]
        depth = model.config.get_text_config().num_hidden_layers
        first, end = (round(share * depth) for share in self.layers)
        if (first, end) == (0, depth):
            return names
        numbers = {name: _LAYER.search(name) for name in names}
        return [name for name, number in numbers.items() if number and first <= int(number[1]) < end]
