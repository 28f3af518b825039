"""What an adapter has learned, as something to keep and to put back."""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from lift_eval.errors import AdapterError


@dataclass(frozen=True)
class AdapterState:
    """A copy of all tensors that training an adapter changes.

    Restoring writes into the tensors that the model has, so a model is reset without loading, unloading or
    allocating anything, and bit for bit. PiSSA must be reset this way: unloading it rounds the base weights.

    Attributes:
        tensors: Copies by name.
        known: The model that they were copied from, with its tensors, so that it need not be searched again.
    """

    tensors: Mapping[str, Tensor]
    known: _Known | None = field(default=None, repr=False, compare=False)

    @classmethod
    def capture(cls, model: nn.Module) -> AdapterState:
        """Copy the adapter's tensors, on their own device, into one block of memory for each device and type.

        Args:
            model: A model with or without an adapter; without one the state is empty. Its layers are searched once:
                to restore the state to the same model later, its adapter must not have been replaced meanwhile.
        """
        blocks: defaultdict[tuple[torch.device, torch.dtype], list[str]] = defaultdict(list)
        live = _adapter_tensors(model)
        for name, tensor in live.items():
            blocks[tensor.device, tensor.dtype].append(name)
        copies: dict[str, Tensor] = {}
        for names in blocks.values():
            block = torch.cat([live[name].detach().flatten() for name in names])
            parts = torch.split(block, [live[name].numel() for name in names])
            copies.update(
                (name, part.view(live[name].shape)) for name, part in zip(names, parts, strict=True)
            )
        # Moving a model keeps its parameters, but replaces its buffers.
        lasting = all(isinstance(tensor, nn.Parameter) for tensor in live.values())
        known = _Known(weakref.ref(model), live) if lasting else None
        return cls({name: copies[name] for name in live}, known)

    def updated(self, tensors: Mapping[str, Tensor]) -> AdapterState:
        """The same state, with other values of some of the tensors.

        Args:
            tensors: Values by name.
        """
        return AdapterState({**self.tensors, **tensors}, self.known)

    def restore(self, model: nn.Module) -> None:
        """Write the tensors back and drop all gradients.

        Args:
            model: The model of `capture`, or one with the same adapter.

        Raises:
            AdapterError: If the model's adapter has other tensors; nothing is written then.
        """
        known = self.known if self.known is not None and self.known.model() is model else None
        live = _adapter_tensors(model) if known is None else known.tensors
        ours = {name: tensor.shape for name, tensor in self.tensors.items()}
        theirs = {name: tensor.shape for name, tensor in live.items()}
        if ours != theirs:
            name = min(name for name in ours | theirs if ours.get(name) != theirs.get(name))
            raise AdapterError(
                "an adapter's state can be restored only to the same adapter on the same model, but tensor "
                f"'{name}' is {_described(ours, name)} in the state and {_described(theirs, name)} in the model"
            )
        with torch.no_grad():
            for name, tensor in live.items():
                tensor.copy_(self.tensors[name])
                tensor.grad = None


@dataclass(frozen=True)
class _Known:
    """A model that has been searched for its adapter's tensors.

    Attributes:
        model: The model, if it still is.
        tensors: Its adapter's tensors by name.
    """

    model: weakref.ref[nn.Module]
    tensors: Mapping[str, Tensor]


def trainable(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of an adapted model that training changes, by name."""
    return {name: tensor for name, tensor in model.named_parameters() if tensor.requires_grad}


def _described(shapes: Mapping[str, torch.Size], name: str) -> str:
    return f"of shape {tuple(shapes[name])}" if name in shapes else "missing"


def _adapter_tensors(model: nn.Module) -> dict[str, Tensor]:
    """All tensors of the adapter's layers, trainable or not, and whatever else is trainable, in the model's order.

    A tensor that several layers share is there once, under the name that `trainable` has for it.
    """
    names = {id(tensor): name for name, tensor in chain(model.named_parameters(), model.named_buffers())}
    tensors: dict[str, Tensor] = {}
    for layer in model.modules():
        if isinstance(layer, BaseTunerLayer):
            for attribute in (*layer.adapter_layer_names, *layer.other_param_names):
                part = getattr(layer, attribute, None)
                if isinstance(part, nn.Module):
                    for tensor in chain(part.parameters(), part.buffers()):
                        tensors[names[id(tensor)]] = tensor
    return tensors | trainable(model)
