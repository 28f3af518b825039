"""LoRA and PiSSA, built by peft from a recipe's settings."""

from __future__ import annotations

import re

from peft import LoraConfig, PeftModel, TaskType
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from lift_eval.errors import AdapterError, nearest
from lift_eval.recipe import LoraSettings, PissaSettings

INITS = ("gaussian", "mica", "olora", "orthogonal", "pissa")
"""Peft's initialisations that need the weights alone; its other ones need data, gradients or a GPU first."""
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
"""What ``targets: auto`` trains, where a model has layers of all four names."""
_FAST_PISSA = re.compile(r"pissa_niter_\d+")
_MOVES_WEIGHTS = ("olora", "pissa")


def lora_config(model: PreTrainedModel, settings: LoraSettings | PissaSettings) -> LoraConfig:
    """Translate settings for peft, after checking them against the model.

    Args:
        model: The model that the adapter is for.
        settings: Of LoRA (Hu et al. 2021) or PiSSA (Meng et al. 2024).

    Returns:
        Peft's configuration.

    Raises:
        AdapterError: If a target names no layer of the model, or the initialisation is unknown.
    """
    if isinstance(settings, PissaSettings):
        init: bool | str = f"pissa_niter_{settings.iterations}" if settings.iterations else "pissa"
        rslora = dora = False
    else:
        init, rslora, dora = settings.init, settings.rslora, settings.dora
    _check_init(init)
    targets = _targets(model, settings.targets)
    return LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=targets,
        exclude_modules=_untrainable(model) or None if targets == "all-linear" else None,
        init_lora_weights=init,
        use_rslora=rslora,
        use_dora=dora,
    )


def changes_base(model: PeftModel) -> bool:
    """Whether attaching the adapter moved a part of the base weights into it."""
    init = str(getattr(model.peft_config[model.active_adapter], "init_lora_weights", ""))
    return init.startswith(_MOVES_WEIGHTS)


def _check_init(init: bool | str) -> None:
    if isinstance(init, str) and init not in INITS and not _FAST_PISSA.fullmatch(init):
        raise AdapterError(
            f"'adapter.init' must be true, false, one of {', '.join(INITS)}, or pissa_niter_N, got '{init}'"
        )


def _targets(model: PreTrainedModel, targets: tuple[str, ...] | str) -> list[str] | str:
    """What peft is told: names, each of which the model has, or ``all-linear``."""
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

    A state-space mixer, told by its convolution, uses the weights of its output projection past the layer, and a
    router's class returns more than a linear layer does.
    """
    names = [
        f"{name}.out_proj"
        for name, module in model.named_modules()
        if hasattr(module, "conv1d") and isinstance(getattr(module, "out_proj", None), nn.Linear)
    ]
    routers = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and type(module).__name__.endswith("Router")
    ]
    return names + routers
