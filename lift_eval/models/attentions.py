"""Where a model attends."""

from __future__ import annotations

import inspect

from torch import nn


def attention_modules(model: nn.Module) -> dict[str, nn.Module]:
    """The attention module of each layer that takes a cache, by its full name.

    It has the layer's number, and no layer's parts around it.

    Args:
        model: A model of transformers.
    """
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(getattr(module, "layer_idx", None), int)
        and "past_key_values" in inspect.signature(module.forward).parameters
        and not any(hasattr(child, "layer_idx") for child in module.modules() if child is not module)
    }
