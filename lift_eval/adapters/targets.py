"""Which layers of a model an adapter is put on."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

from lift_eval.errors import AdapterError, nearest

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
"""What ``targets: auto`` trains, where a model has layers of all four names."""

Targets: TypeAlias = tuple[str, ...] | Literal["all-linear", "auto"]
"""Names of the layers that get an adapter; ``all-linear``: every linear layer but the output embedding; ``auto``:
q_proj, k_proj, v_proj and o_proj where the model has them, else every linear layer."""


def layers_with_weights(model: nn.Module, *, embeddings: bool = True) -> list[str]:
    """Full names of a model's linear layers, and of its embeddings where they are wanted."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    kinds = (nn.Linear, Conv1D, nn.Embedding) if embeddings else (nn.Linear, Conv1D)
    return [name for name, module in model.named_modules() if isinstance(module, kinds)]


def all_linear(model: PreTrainedModel) -> list[str]:
    """Full names of every linear layer but the output embedding, and but those that cannot be trained."""
    head, left_out = model.get_output_embeddings(), set(untrainable(model))
    names = layers_with_weights(model, embeddings=False)
    return [name for name in names if name not in left_out and model.get_submodule(name) is not head]


def is_named(target: str, layers: Collection[str]) -> bool:
    """Whether a target is the full name of a layer, or its last parts."""
    return any(name == target or name.endswith(f".{target}") for name in layers)


def check_targets(model: nn.Module, targets: Sequence[str], *, embeddings: bool = True) -> None:
    """Refuse a target that is no layer's name; peft minds only if none of them is one.

    Args:
        model: The model, for the message.
        targets: Names.
        embeddings: Whether embeddings may be named, besides linear layers.

    Raises:
        AdapterError: If a target names no layer.
    """
    layers = layers_with_weights(model, embeddings=embeddings)
    for target in targets:
        if not is_named(target, layers):
            known = {name.rpartition(".")[2] for name in layers}
            raise AdapterError(
                f"'adapter.targets' must name linear {'or embedding ' if embeddings else ''}layers of "
                f"{type(model).__name__}, got '{target}'{nearest(target, known)}; adapter.targets=all-linear fits "
                "every model"
            )


def untrainable(model: PreTrainedModel) -> list[str]:
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
