"""How far the gates open: how much a model relies on its memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lift_eval.errors import AdapterError

if TYPE_CHECKING:
    from lift_eval.adapters.gated_memory.layer import GatedMemoryAttention


class GateRecord:
    """Gate values summed up on the device, so that recording does not wait for it."""

    def __init__(self, layers: list[GatedMemoryAttention]) -> None:
        """Start at zero.

        Args:
            layers: The layers to record, from the first to the last.
        """
        self._sums: dict[nn.Module, Tensor | float] = dict.fromkeys(layers, 0.0)
        self._counts: dict[nn.Module, Tensor | float] = dict.fromkeys(layers, 0.0)
        self._mask: Tensor | None = None

    def add(self, layer: GatedMemoryAttention, gate: Tensor) -> None:
        """Add the gates of one forward pass, shape (batch, tokens, heads, 1); padding does not count."""
        gate = gate.detach().float().mean(dim=(-2, -1))
        kept = torch.ones_like(gate) if self._mask is None else self._mask[:, -gate.shape[1] :].to(gate)
        self._sums[layer] = self._sums[layer] + (gate * kept).sum(dtype=torch.float64)
        self._counts[layer] = self._counts[layer] + kept.sum(dtype=torch.float64)

    def means(self) -> list[float]:
        """Mean gate of every layer over all its heads and the tokens seen, each in (0, 1).

        Raises:
            AdapterError: If no forward pass was recorded.
        """
        sums, counts = list(self._sums.values()), list(self._counts.values())
        if not all(isinstance(count, Tensor) for count in counts):
            raise AdapterError(
                "no gate was recorded; run the model inside 'with record_gates(model)', adapter on"
            )
        return [float(total) / float(count) for total, count in zip(sums, counts, strict=True)]

    def _see_mask(self, _model: nn.Module, _args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        mask = kwargs.get("attention_mask")
        self._mask = None
        if isinstance(mask, Tensor) and mask.dim() == 2:
            self._mask = mask
        elif isinstance(mask, Tensor) and mask.dtype.is_floating_point:
            # Rows of branches: padding looks at padding alone, everything else at the beginning that all share.
            self._mask = mask[:, 0, :, 0] == 0


@contextmanager
def record_gates(model: nn.Module) -> Iterator[GateRecord]:
    """Record the gates of all forward passes inside the block, generation included.

    Args:
        model: A model with Gated Memory.

    Yields:
        The record; its ``means()`` can be read at any time, also after the block.

    Raises:
        AdapterError: If the model has no Gated Memory.
    """
    from lift_eval.adapters.gated_memory.layer import GatedMemoryAttention

    layers = [module for module in model.modules() if isinstance(module, GatedMemoryAttention)]
    if not layers:
        raise AdapterError(f"gates are those of Gated Memory, which {type(model).__name__} does not have")
    record = GateRecord(layers)
    # The body of the model is what every way of running it passes through, and it is given the mask.
    base = getattr(model, "get_base_model", lambda: model)()
    body: nn.Module = getattr(base, "base_model", base)
    hook = body.register_forward_pre_hook(record._see_mask, with_kwargs=True)
    for layer in layers:
        layer.gate_record = record
    try:
        yield record
    finally:
        hook.remove()
        for layer in layers:
            layer.gate_record = None
