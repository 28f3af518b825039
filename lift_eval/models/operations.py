"""Operations of forward and backward passes, counted by formula from the shapes of what a model is given.

Matrix products count, a multiplication and an addition as two operations, and attention's scores whole, masked or not:
the convention of ``torch.utils.flop_counter``. That counter watches every operation, which takes longer than the work
of a small model; here two hooks see the shapes. Quantized weights count as if they were not. Fused experts are left
out, and so is whatever layers without attention do besides their linear maps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.ln_tuning.layer import LNTuningLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from lift_eval.models.loading import base_of, body_of


@dataclass(frozen=True)
class Shape:
    """What of a model decides the operations of a pass.

    Attributes:
        base: Weights of the base's matrix products, without the output embedding.
        adapted: The same with the adapter at work.
        trained: Those that the adapter trains.
        behind: Those of ``adapted`` that a gradient passes: all behind the first one that is trained.
        head: Weights of the output embedding.
        channels: Channels of the queries, all layers together.
        channels_behind: Those of the layers that a gradient passes.
    """

    base: int
    adapted: int
    trained: int
    behind: int
    head: int
    channels: int
    channels_behind: int

    @classmethod
    def of(cls, model: Any) -> Shape:  # noqa: ANN401
        """Read a model of transformers, with or without an adapter; also one on the meta device."""
        base = base_of(model)
        config = base.config.get_text_config()
        layers = config.num_hidden_layers
        kinds = list(
            getattr(config, "per_layer_config", None) or [config] * layers
        )  # layers may differ in width
        channels = sum(map(_channels, kinds))
        plain = trained = behind = copied = 0
        for size, is_adapter, is_copy in _products(base):
            # Of a copy and the layer that it stands in for, only one is at work.
            behind += size if trained and not is_copy else 0
            plain += 0 if is_adapter else size
            trained += size if is_adapter else 0
            copied += size if is_copy else 0
        adapted = plain + trained - copied
        if not trained:  # what is trained is no weight of a product, such as a cartridge
            behind = adapted
        passed = round(layers * behind / adapted)
        head = config.vocab_size * config.hidden_size
        return cls(plain, adapted, trained, behind, head, channels, channels * passed // layers)

    def body(self, tokens: int, looks: int, *, adapted: bool, backward: bool) -> int:
        """Operations of all that stands before the output embedding.

        Args:
            tokens: Tokens of all rows, padding included.
            looks: Pairs of a token and a column of keys.
            adapted: Whether the adapter is at work.
            backward: Whether a backward pass follows, which counts too.
        """
        forward = 2 * tokens * (self.adapted if adapted else self.base) + 4 * self.channels * looks
        if not backward:
            return forward
        return forward + 2 * tokens * (self.behind + self.trained) + 8 * self.channels_behind * looks


def _channels(layer: Any) -> int:  # noqa: ANN401 - a PretrainedConfig
    """Channels of the queries of a layer."""
    heads = layer.num_attention_heads
    return int(heads * (getattr(layer, "head_dim", None) or layer.hidden_size // heads))


def _products(base: nn.Module) -> Iterator[tuple[int, bool, bool]]:
    """Weights of each matrix product but the output embedding's, in the order in which layers are registered.

    Yields:
        Their number, whether they are an adapter's, and whether they are a copy that stands in for a layer of the base.
    """
    head = base.get_output_embeddings()  # type: ignore[operator]  # of PreTrainedModel
    left_out = set() if head is None else set(head.modules())
    adapters: dict[nn.Module, bool] = {}
    for layer in base.modules():
        if isinstance(layer, BaseTunerLayer):
            parts = [getattr(layer, name, None) for name in layer.adapter_layer_names]
            copies = isinstance(layer, LNTuningLayer)
            adapters |= {m: copies for part in parts if isinstance(part, nn.Module) for m in part.modules()}
    for module in base.modules():
        if module not in left_out and (size := _weights(module, is_adapter=module in adapters)):
            yield size, module in adapters, adapters.get(module, False)


def _weights(module: nn.Module, *, is_adapter: bool) -> int:
    """Weights of a module's own matrix products, without those of the modules in it."""
    if isinstance(module, (BaseTunerLayer, nn.Embedding)):
        return 0
    if hasattr(module, "in_features") and hasattr(
        module, "out_features"
    ):  # quantized weights have other shapes
        return int(module.in_features) * int(module.out_features)  # type: ignore[arg-type]
    dimensions = (2, 3) if is_adapter else (2,)
    own = module.named_parameters(recurse=False)
    return sum(p.numel() for name, p in own if p.dim() in dimensions and not name.endswith("bias"))


@contextmanager
def counting(model: Any, operations: MutableMapping[str, float], stage: str) -> Iterator[None]:  # noqa: ANN401
    """Add the operations of all passes inside to a stage.

    Args:
        model: A causal LM of transformers, with or without an adapter.
        operations: By stage.
        stage: Where to add them.
    """
    base, shape = base_of(model), Shape.of(model)
    body = body_of(base) or base
    tuner = tuner_of(base)
    operations.setdefault(stage, 0)

    def count_body(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ids = kwargs.get("input_ids", args[0] if args else None)
        if ids is None:  # the output embedding alone is run
            return
        rows, width = ids.shape
        adapted = tuner is not None and not tuner.disable_adapters
        looks = rows * width * (_columns(kwargs, width) + columns_before(tuner))
        backward = torch.is_grad_enabled() and adapted
        operations[stage] += shape.body(rows * width, looks, adapted=adapted, backward=backward)
        if backward and _recomputes(base):
            operations[stage] += shape.body(rows * width, looks, adapted=adapted, backward=False)

    def count_head(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
        positions = math.prod(args[0].shape[:-1])
        operations[stage] += 2 * shape.head * positions * (2 if args[0].requires_grad else 1)

    handles = [body.register_forward_pre_hook(count_body, with_kwargs=True)]
    head = base.get_output_embeddings()
    handles += [] if head is None else [head.register_forward_pre_hook(count_head)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def tuner_of(base: nn.Module) -> BaseTunerLayer | None:
    """The first layer of a model's adapter. None means that there is none."""
    return next((module for module in base.modules() if isinstance(module, BaseTunerLayer)), None)


def columns_before(tuner: BaseTunerLayer | None) -> int:
    """Columns of keys that an adapter puts before every text, as a cartridge does.

    Args:
        tuner: From `tuner_of`.
    """
    return int(getattr(tuner, "positions", 0))


def _recomputes(base: Any) -> bool:  # noqa: ANN401
    """Whether activations are computed anew in the backward pass; transformers 5.23 has another name for it."""
    name = "activation" if hasattr(base, "is_activation_checkpointing") else "gradient"
    return bool(getattr(base, f"is_{name}_checkpointing", False))


def _columns(kwargs: dict[str, Any], width: int) -> int:
    """Columns of keys that the tokens of a pass look at, those of its cache included."""
    mask, cache = kwargs.get("attention_mask"), kwargs.get("past_key_values")
    if isinstance(mask, Tensor) and mask.dim() == 4:
        return mask.shape[-1]
    return width + (0 if cache is None else int(cache.get_seq_length()))
