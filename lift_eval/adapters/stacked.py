"""The LoRA of several documents in the place of that of one: each row of a batch goes through its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from lift_eval.adapters.state import trainable
from lift_eval.errors import AdapterError

_NAME = "default"
"""What peft calls the one adapter of a model."""


class StackedLora:
    """The LoRA weights of several documents, all as in the model at first.

    Each is kept once, with a leading dimension for the document, so that one batched product serves all documents. What
    an optimizer of one document changes are views of it.

    Args:
        model: A peft model with LoRA. Its own weights are never written.
        documents: How many there are.

    Raises:
        AdapterError: If something else is trained than plain LoRA of layers that see whole rows.
    """

    def __init__(self, model: Any, documents: int) -> None:  # noqa: ANN401
        self._layers = _lora_layers(model)
        self._blocks = {
            name: tensor.detach().repeat(documents, *[1] * tensor.dim()).requires_grad_()
            for name, tensor in trainable(model).items()
        }
        self._views = [
            {name: nn.Parameter(block.detach()[number]) for name, block in self._blocks.items()}
            for number in range(documents)
        ]
        self._rows = torch.empty(0, dtype=torch.int64)

    def weights(self, document: int) -> Mapping[str, nn.Parameter]:
        """A document's weights by the model's names for them; they share memory with the stack."""
        return self._views[document]

    def hand_out_gradients(self, document: int) -> None:
        """Let a document's weights have their part of the gradient."""
        for name, weight in self._views[document].items():
            gradient = self._blocks[name].grad
            weight.grad = None if gradient is None else gradient[document]

    def zero_grad(self) -> None:
        """Drop the gradients of all documents."""
        for block in self._blocks.values():
            block.grad = None
        for weights in self._views:
            for weight in weights.values():
                weight.grad = None

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the model's layers use the stack inside."""
        with ExitStack() as stack:
            for name, layer in self._layers.items():
                replaced = vars(layer).get("forward")
                stack.callback(_put_back, layer, replaced)
                layer.forward = partial(
                    self._forward,
                    layer.base_layer,
                    self._blocks[f"{name}.lora_A.{_NAME}.weight"],
                    self._blocks[f"{name}.lora_B.{_NAME}.weight"],
                    layer.scaling[_NAME],
                )
            yield

    @contextmanager
    def serving(self, rows: Tensor) -> Iterator[None]:
        """Say of which document each row of a batch is that goes forward, and backward, inside.

        Args:
            rows: Shape (rows,), int64.
        """
        self._rows = rows
        try:
            yield
        finally:
            self._rows = rows[:0]

    def _forward(
        self,
        base: nn.Module,
        down: Tensor,
        up: Tensor,
        scaling: float,
        x: Tensor,
        *args: Any,  # noqa: ANN401
        **kwargs: Any,  # noqa: ANN401
    ) -> Tensor:
        """The base layer's output and each row's own part, as peft's LoRA computes it."""
        if x.dim() != 3 or len(x) != len(self._rows):
            raise AdapterError(
                f"adapters can be trained in one batch only if layers see {len(self._rows)} whole rows, got a tensor "
                f"of shape {tuple(x.shape)}; set compute.documents=1"
            )
        out: Tensor = base(x, *args, **kwargs)
        rows = self._rows.to(down.device)
        low = x.to(down.dtype) @ down[rows].mT @ up[rows].mT
        return (out + low * scaling).to(out.dtype)


def _put_back(layer: nn.Module, forward: Any) -> None:  # noqa: ANN401
    del layer.forward
    if forward is not None:
        layer.forward = forward


def _lora_layers(model: Any) -> dict[str, Any]:  # noqa: ANN401
    """The LoRA layers of a model by name.

    Raises:
        AdapterError: If something else is trained, or the output embedding, which sees some tokens only.
    """
    layers = {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, LoraLayer)
        and isinstance(layer.base_layer, nn.Linear)
        and layer.base_layer is not _output_embedding(model)
        and not layer.lora_variant
    }
    known = {f"{name}.lora_{part}.{_NAME}.weight" for name in layers for part in "AB"}
    unknown = sorted(trainable(model).keys() ^ known)
    if unknown:
        raise AdapterError(
            f"adapters can be trained in one batch only if they are plain LoRA of linear layers, got '{unknown[0]}'; "
            "set compute.documents=1"
        )
    return layers


def _output_embedding(model: Any) -> Any:  # noqa: ANN401
    head = model.get_output_embeddings()
    return head.base_layer if isinstance(head, LoraLayer) else head
