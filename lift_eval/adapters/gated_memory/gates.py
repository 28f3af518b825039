"""How far the gates open: how much a model relies on its memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from lift_eval.adapters.gated_memory.layer import GatedMemoryAttention, GateRecord
from lift_eval.errors import AdapterError


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
