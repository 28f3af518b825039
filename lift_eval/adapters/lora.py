"""LoRA, by peft."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from lift_eval.adapters.base import AdapterSettings
from lift_eval.adapters.targets import (
    ATTENTION,
    Targets,
    check_targets,
    is_named,
    layers_with_weights,
    untrainable,
)
from lift_eval.errors import AdapterError
from lift_eval.settings import PositiveInt

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel

INITS = ("gaussian", "mica", "olora", "orthogonal", "pissa")
"""Peft's initialisations that need the weights alone; its other ones need data, gradients or a GPU first."""
_FAST_PISSA = re.compile(r"pissa_niter_\d+")


class LoraSettings(AdapterSettings):
    """LoRA (Hu et al. 2021); the defaults are those of LIFT's published quick start."""

    type: Literal["lora"] = "lora"
    rank: PositiveInt = 128
    """Rank of each update."""
    alpha: Annotated[float, Field(gt=0)] = 256
    """Updates are multiplied by ``alpha / rank``, or with ``rslora`` by ``alpha`` over the square root of the rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of an update's inputs that is dropped in training."""
    targets: Targets = "auto"
    """Names of linear layers; ``all-linear``: all except the output embedding; ``auto``: those of attention if the
    model has them under their usual names, otherwise ``all-linear``."""
    init: bool | str = "gaussian"
    """Any value of peft's ``init_lora_weights``."""
    rslora: bool = False
    """Whether updates are scaled as in rank-stabilized LoRA (Kalajdzievski 2023)."""
    dora: bool = False
    """Whether magnitude and direction of a weight are trained separately, as in DoRA (Liu et al. 2024)."""

    @property
    def needs_full_precision(self) -> bool:
        """Where the weights start as PiSSA's do."""
        return str(self.init).startswith("pissa")

    @property
    def stacks(self) -> bool:
        """Without dropout, whose draws are a whole batch's, and DoRA, which needs each document's merged weights."""
        return not (self.dropout or self.dora)

    @property
    def changes_base(self) -> bool:
        """Where peft moves what the weights start as out of the base."""
        return str(self.init).startswith(("olora", "pissa"))

    @property
    def without_initialisation(self) -> AdapterSettings:
        """The same with random weights."""
        return self.model_copy(update={"init": True})

    def check(self, bits: int) -> None:
        """Refuse DoRA on 8-bit weights; see `AdapterSettings.check`."""
        if bits == 8 and self.dora:
            # Peft's DoRA takes the scales away from bitsandbytes' 8-bit layers; the next forward pass fails.
            raise AdapterError(
                "'adapter.dora' does not work on 8-bit weights, got 'int8'; use 'nf4' or no quantization"
            )

    def peft_config(self, model: PreTrainedModel) -> PeftConfig:
        """Peft's configuration, every target and the initialisation checked; see `AdapterSettings.peft_config`."""
        from peft import LoraConfig, TaskType

        if isinstance(self.init, str) and self.init not in INITS and not _FAST_PISSA.fullmatch(self.init):
            raise AdapterError(
                f"'adapter.init' must be true, false, one of {', '.join(INITS)}, or pissa_niter_N, got '{self.init}'"
            )
        targets = _targets(model, self.targets)
        return LoraConfig(
            task_type=TaskType.CAUSAL_LM,
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=targets,
            exclude_modules=untrainable(model) or None if targets == "all-linear" else None,
            init_lora_weights=self.init,
            use_rslora=self.rslora,
            use_dora=self.dora,
        )


def _targets(model: PreTrainedModel, targets: Targets) -> list[str] | str:
    """What peft is told: names, each of which the model has, or ``all-linear``."""
    if targets == "auto":
        layers = layers_with_weights(model)
        return list(ATTENTION) if all(is_named(target, layers) for target in ATTENTION) else "all-linear"
    if targets == "all-linear":
        return "all-linear"
    check_targets(model, targets)
    return list(targets)


@contextmanager
def inputs_uncast(model: Any) -> Iterator[None]:  # noqa: ANN401 - PreTrainedModel or PeftModel
    """Let LoRA's layers take 16-bit inputs as they are, for passes under autocast.

    Peft casts inputs to the float32 of the weights, and autocast casts them back: the products are the same without,
    and the layers of a block share one input until the backward pass instead of keeping a copy each. Layers with
    dropout are left alone, since it scales what it keeps in the type of its input.

    Args:
        model: A model, with an adapter of any type or without.
    """
    from peft.tuners.lora import Linear
    from torch import nn

    layers = [
        module
        for module in model.modules()
        if isinstance(module, Linear)
        and module.cast_input_dtype_enabled
        and not module.lora_variant
        and all(isinstance(dropout, nn.Identity) for dropout in module.lora_dropout.values())
    ]
    for layer in layers:
        layer.cast_input_dtype_enabled = False
    try:
        yield
    finally:
        for layer in layers:
            layer.cast_input_dtype_enabled = True
