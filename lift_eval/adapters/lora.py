"""LoRA, by peft."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import Field

from lift_eval.adapters.base import AdapterSettings
from lift_eval.errors import AdapterError, nearest
from lift_eval.settings import PositiveInt

if TYPE_CHECKING:
    from peft import PeftConfig
    from torch import nn
    from transformers import PreTrainedModel

INITS = ("gaussian", "mica", "olora", "orthogonal", "pissa")
"""Peft's initialisations that need the weights alone; its other ones need data, gradients or a GPU first."""
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
"""What ``targets: auto`` trains, where a model has layers of all four names."""
_FAST_PISSA = re.compile(r"pissa_niter_\d+")

Targets: TypeAlias = tuple[str, ...] | Literal["all-linear", "auto"]
"""Names of the layers that get an adapter; ``all-linear``: every linear layer but the output embedding; ``auto``:
q_proj, k_proj, v_proj and o_proj where the model has them, else every linear layer."""


class LoraSettings(AdapterSettings):
    """LoRA (Hu et al. 2021); the defaults are those of LIFT's published quick start."""

    type: Literal["lora"] = "lora"
    rank: PositiveInt = 128
    alpha: Annotated[float, Field(gt=0)] = 256
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: Targets = "auto"
    init: bool | str = "gaussian"
    """Any value of peft's ``init_lora_weights``."""
    rslora: bool = False
    dora: bool = False

    @property
    def needs_full_precision(self) -> bool:
        """Where the weights start as PiSSA's do."""
        return str(self.init).startswith("pissa")

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

    def config(self, model: PreTrainedModel) -> PeftConfig:
        """Peft's configuration, every target and the initialisation checked; see `AdapterSettings.config`."""
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
            exclude_modules=_untrainable(model) or None if targets == "all-linear" else None,
            init_lora_weights=self.init,
            use_rslora=self.rslora,
            use_dora=self.dora,
        )


def _targets(model: PreTrainedModel, targets: Targets) -> list[str] | str:
    """What peft is told: names, each of which the model has, or ``all-linear``."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    layers = {
        name
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, nn.Embedding, Conv1D))
    }
    missing = [target for target in ATTENTION if not _named(target, layers)]
    if targets == "auto":
        return "all-linear" if missing else list(ATTENTION)
    if targets == "all-linear":
        return "all-linear"
    # Every target is checked; peft minds only if none of them is found.
    for target in targets:
        if not _named(target, layers):
            known = {name.rpartition(".")[2] for name in layers}
            raise AdapterError(
                f"'adapter.targets' must name linear or embedding layers of {type(model).__name__}, got "
                f"'{target}'{nearest(target, known)}; adapter.targets=all-linear fits every model"
            )
    return list(targets)


def _named(target: str, layers: set[str]) -> bool:
    return any(name == target or name.endswith(f".{target}") for name in layers)


def _untrainable(model: PreTrainedModel) -> list[str]:
    """Full names of the linear layers that ``all-linear`` must leave out.

    A state-space mixer, told by its convolution, uses the weights of its output projection past the layer. Classes
    of an architecture's own, such as routers, may take or return something else than a linear layer does.
    """
    from torch import nn

    names = []
    for name, module in model.named_modules():
        if hasattr(module, "conv1d") and isinstance(getattr(module, "out_proj", None), nn.Linear):
            names.append(f"{name}.out_proj")
        if isinstance(module, nn.Linear) and not _maps_vectors(module):
            names.append(name)
    return names


def _maps_vectors(layer: nn.Linear) -> bool:
    """Whether a layer makes one vector of one vector; tried out where its class belongs to an architecture."""
    import torch

    if not type(layer).__module__.startswith("transformers.models."):
        return True
    try:
        with torch.no_grad():
            made = layer(layer.weight.new_zeros(1, layer.in_features))
    except Exception:  # it was made for something else
        return False
    return isinstance(made, torch.Tensor) and made.shape == (1, layer.out_features)
