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
    if settings.targets != "all-linear":
        _check_targets(model, settings.targets)
    return LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules="all-linear" if settings.targets == "all-linear" else list(settings.targets),
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


def _check_targets(model: PreTrainedModel, targets: tuple[str, ...]) -> None:
    """Check every target; peft minds only if none of them is found."""
    layers = [
        name
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, nn.Embedding, Conv1D))
    ]
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in layers):
            known = {name.rpartition(".")[2] for name in layers}
            raise AdapterError(
                f"'adapter.targets' must name linear or embedding layers of {type(model).__name__}, got "
                f"'{target}'{nearest(target, known)}"
            )
