"""A model without data: tensors with a shape and a device, so that a run can be simulated without memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModelForCausalLM

from lift_eval.adapters.attach import attach
from lift_eval.adapters.quantization import quantizable
from lift_eval.errors import AdapterError
from lift_eval.models.faults import first_line
from lift_eval.models.loading import resolve_dtype
from lift_eval.recipe import Recipe

_NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Of a weight: four bits, a byte of scale for 64 of them, and four bytes for 256 of these scales."""


def fake_model(config: Any, recipe: Recipe, device: torch.device) -> Any:  # noqa: ANN401 - PreTrainedModel or PeftModel
    """The model of a run with the recipe's adapter, its tensors without data.

    Args:
        config: Of a causal language model.
        recipe: Its adapter and precision groups count.
        device: Where the model would be.

    Returns:
        The model in evaluation mode. It takes real token ids.

    Raises:
        AdapterError: If the adapter does not fit the model, or is made from the values of its weights.
    """
    dtype = resolve_dtype(recipe.precision, device)
    with torch.device("meta"):
        base = AutoModelForCausalLM.from_config(config, dtype=dtype).requires_grad_(False)
        try:
            model = attach(base, recipe.adapter.without_initialisation, seed=0)
        except RuntimeError as error:
            raise AdapterError(
                f"memory cannot be predicted with adapter '{recipe.adapter.type}', which is made from weights that "
                f"are not loaded yet ({first_line(error)}); run without a prediction"
            ) from error
    _leave_meta(model, device)
    if recipe.precision.quantization != "none":
        for _, _, layer in list(quantizable(model)):
            _quantize(layer, recipe.precision.quantization, dtype)
    return model.eval()


def _leave_meta(model: nn.Module, device: torch.device) -> None:
    """Give every tensor a device; tied ones stay tied."""
    made: dict[Tensor, Tensor] = {}
    with FakeTensorMode(allow_non_fake_inputs=True):
        for module in model.modules():
            for tensors in (module._parameters, module._buffers):
                for name, tensor in tensors.items():
                    if tensor is None:
                        continue
                    if tensor not in made:
                        new = torch.empty_like(tensor, device=device)
                        trained = tensor.requires_grad
                        made[tensor] = nn.Parameter(new, trained) if isinstance(tensor, nn.Parameter) else new
                    tensors[name] = made[tensor]  # type: ignore[assignment]


def _quantize(layer: nn.Linear, kind: str, dtype: torch.dtype) -> None:
    """Let a layer take the memory of bitsandbytes' one: a packed weight, made whole for each product."""
    per_weight = _NF4_BYTES if kind == "nf4" else 1
    packed = layer.weight.new_empty(int(layer.weight.numel() * per_weight), dtype=torch.uint8)
    layer.weight = nn.Parameter(packed, requires_grad=False)
    whole = partial(packed.new_empty, (layer.out_features, layer.in_features), dtype=dtype)

    def forward(input: Tensor) -> Tensor:  # noqa: A002 - as nn.Linear has it
        outputs: Tensor = _Product.apply(input.to(dtype), whole)  # type: ignore[no-untyped-call]
        return outputs if layer.bias is None else outputs + layer.bias

    layer.forward = forward  # type: ignore[method-assign]


class _Product(torch.autograd.Function):
    """A product with a weight that is made whole in the forward pass, and again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, whole: Any) -> Tensor:  # noqa: ANN401
        ctx.with_prefix_inlined = whole
        return nn.functional.linear(inputs, whole())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        return gradient @ ctx.with_prefix_inlined(), None


def trained_parameters(model: nn.Module) -> Iterator[nn.Parameter]:
    """The parameters that training changes."""
    return (parameter for parameter in model.parameters() if parameter.requires_grad)


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Bytes of tensors; memory that several share counts once."""
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())
