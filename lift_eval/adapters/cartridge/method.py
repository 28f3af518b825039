"""Cartridges as a method of peft: layers that put keys and values in front of those of an attention.

Peft's own CARTRIDGE hands them to the model as a cache from outside, so that training and decoding could have no cache
of their own. Here every attention sees them in front of whatever its cache holds, and the positions of all texts move
behind them. So what shares prefixes, in training and in decoding, works as it does without them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from peft import PeftConfig, PeftType, TaskType
from peft import __version__ as peft_version
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import Tensor, nn
from transformers import DynamicCache

from lift_eval.adapters.peft_registration import register_method
from lift_eval.errors import AdapterError
from lift_eval.models.loading import autocast, base_of

CHUNK_TOKENS = 64
"""Tokens of a chunk of the start ``sampled`` (arXiv 2508.17032)."""


@dataclass
class CartridgeConfig(PeftConfig):  # type: ignore[misc]  # peft has no types
    """Which modules get a cartridge.

    Attributes:
        target_modules: Full names of the attention modules.
    """

    target_modules: list[str] | None = field(default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = PeftType.KV_CARTRIDGE


class CartridgeAttention(nn.Module, BaseTunerLayer):  # type: ignore[misc]
    """An attention with keys and values in front of those that it computes; none until it is filled.

    Args:
        base_layer: The attention module.
        adapter_name: The adapter's name in peft.
        config: The configuration of the model's text part.
    """

    adapter_layer_names = ("kv_cartridge_rest",)
    kv_cartridge_first: Tensor

    def __init__(self, base_layer: nn.Module, adapter_name: str, config: Any) -> None:  # noqa: ANN401
        super().__init__()
        self.base_layer = base_layer
        self.config = config
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        empty = next(base_layer.parameters()).new_zeros(2, heads, 0, width, dtype=torch.float32)
        self.register_buffer("kv_cartridge_first", empty, persistent=False)  # frozen
        self.kv_cartridge_rest = nn.ParameterDict({adapter_name: nn.Parameter(empty.clone())})
        self._active_adapter = adapter_name
        self.set_adapter(adapter_name)  # type: ignore[operator]  # of BaseTunerLayer

    @property
    def trained(self) -> nn.Parameter:
        """Keys and values of all positions but the first, shape (2, heads, positions - 1, channels)."""
        parameter: nn.Parameter = next(iter(self.kv_cartridge_rest.values()))
        return parameter

    @property
    def positions(self) -> int:
        """Positions in front of every text."""
        return 0 if self.disable_adapters else self.kv_cartridge_first.shape[2] + self.trained.shape[2]

    def fill(self, start: Tensor) -> None:
        """Start from keys and values, shape (2, heads, positions, channels)."""
        # Copies, or a cleared cartridge would keep the memory of what it is a part of.
        self.kv_cartridge_first = start[:, :, :1].to(self.trained).clone()
        self.trained.data = start[:, :, 1:].to(self.trained).clone()

    def clear(self) -> None:
        """Hold no position again."""
        self.trained.grad = None
        self.fill(self.trained.data[:, :, :0])

    def forward(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the attention's own signature
        """Attend to the cartridge and to what the attention sees anyway."""
        if not self.positions:
            return self.base_layer(*args, **kwargs)
        # Only here, behind any hook that gives the attention a cache.
        hook = self.base_layer.register_forward_pre_hook(self._put_in_front, with_kwargs=True)
        try:
            return self.base_layer(*args, **kwargs)
        finally:
            hook.remove()

    def _put_in_front(
        self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        mask = _widened(kwargs.get("attention_mask"), self.positions, hidden.shape[1], hidden.device)
        if mask is not None and mask.dtype == torch.bool and self.config._attn_implementation == "eager":
            mask = torch.zeros_like(mask, dtype=hidden.dtype).masked_fill(
                ~mask, torch.finfo(hidden.dtype).min
            )
        columns = torch.cat([self.kv_cartridge_first, self.trained], dim=2)
        cache = _Behind(columns, kwargs.get("past_key_values"))
        return args, {**kwargs, "attention_mask": mask, "past_key_values": cache}


class _Behind:
    """A cache, or none, behind the columns of a cartridge."""

    def __init__(self, columns: Tensor, cache: Any) -> None:  # noqa: ANN401 - a Cache or None
        self._columns = columns
        self._cache = cache

    def update(self, keys: Tensor, values: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        if self._cache is not None:
            keys, values = self._cache.update(keys, values, *args, **kwargs)
        own = self._columns.to(keys.dtype)
        return (
            torch.cat([own[0].expand(len(keys), -1, -1, -1), keys], dim=2),
            torch.cat([own[1].expand(len(keys), -1, -1, -1), values], dim=2),
        )

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._cache, name)


def _widened(mask: Tensor | None, positions: int, new: int, device: torch.device) -> Tensor | None:
    """A mask of shape (rows, 1, new, columns), with columns in front that everyone sees."""
    if mask is not None:
        return nn.functional.pad(mask, (positions, 0), value=True if mask.dtype == torch.bool else 0.0)
    if new == 1:
        return None
    # Without a mask the attention is causal, and takes the first column for the place of the first token.
    seen = torch.ones(new, positions + new, dtype=torch.bool, device=device)
    return seen.tril(diagonal=positions)[None, None]


class CartridgeModel(BaseTuner):  # type: ignore[misc]
    """Puts a cartridge before every attention, and moves the positions of all texts behind it."""

    prefix = "kv_cartridge_"
    tuner_layer_cls = CartridgeAttention
    target_module_mapping: ClassVar[dict[str, str]] = {}

    def __init__(self, model: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(model, *args, **kwargs)
        model.get_decoder().register_forward_pre_hook(self._move, with_kwargs=True)

    def _move(
        self, _body: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        moved = cartridges(self.model)[0].positions
        if not moved:
            return args, kwargs
        positions = kwargs.get("position_ids")
        if positions is None:
            given = kwargs.get("inputs_embeds") if kwargs.get("input_ids") is None else kwargs["input_ids"]
            given = args[0] if given is None else given
            cache = kwargs.get("past_key_values")
            first = cache.get_seq_length() if cache is not None else 0
            positions = torch.arange(first, first + given.shape[1], device=given.device)[None]
        return args, {**kwargs, "position_ids": positions + moved}

    def _create_and_replace(
        self,
        peft_config: CartridgeConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        setattr(
            parent, target_name, CartridgeAttention(target, adapter_name, self.model.config.get_text_config())
        )


def cartridges(model: nn.Module) -> list[CartridgeAttention]:
    """The layers with a cartridge, from the first to the last."""
    return [module for module in model.modules() if isinstance(module, CartridgeAttention)]


@torch.no_grad()
def fill(model: Any, ids: Tensor, seed: int | None) -> list[CartridgeAttention]:  # noqa: ANN401 - PeftModel
    """Start the cartridge of every layer from the keys and values of some tokens.

    Args:
        model: With empty cartridges.
        ids: Token ids, shape (positions,).
        seed: Of normally distributed numbers in their place. None means the keys and values of the tokens.

    Returns:
        The layers.
    """
    base, layers = base_of(model), cartridges(model)
    cache = DynamicCache(config=base.config)
    with autocast(base.device, base.dtype):
        base(input_ids=ids[None].to(base.device), past_key_values=cache, use_cache=True, logits_to_keep=1)
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    for layer in layers:
        read = cache.layers[layer.base_layer.layer_idx]
        start = torch.cat([read.keys, read.values])
        layer.fill(start if generator is None else torch.randn(start.shape, generator=generator))
    return layers


def as_pefts_own(model: Any) -> tuple[PeftConfig, dict[str, Tensor]]:  # noqa: ANN401 - PeftModel
    """The same keys and values for peft's CARTRIDGE, which any process can load.

    Args:
        model: With filled cartridges.

    Returns:
        Its configuration, and its tensor of shape (positions, layers * 2 * heads * channels).

    Raises:
        AdapterError: If this peft has no such method.
    """
    try:
        from peft.tuners.cartridge.config import CartridgeConfig as PeftsOwnConfig
        from peft.tuners.cartridge.utils import prompt_embeddings_from_past_key_values
    except ImportError as error:
        raise AdapterError(
            f"a cartridge is exported as peft's own CARTRIDGE, which peft {peft_version} lacks; install a newer peft"
        ) from error

    layers = [
        torch.cat([layer.kv_cartridge_first, layer.trained.detach()], dim=2) for layer in cartridges(model)
    ]
    _, heads, positions, channels = layers[0].shape
    config = PeftsOwnConfig(
        base_model_name_or_path=model.peft_config[model.active_adapter].base_model_name_or_path,
        task_type=TaskType.CAUSAL_LM,
        num_virtual_tokens=positions,
        num_layers=len(layers),
        num_attention_heads=heads,
        token_dim=heads * channels,
    )
    keys_and_values = [(both[:1], both[1:]) for both in layers]
    packed = prompt_embeddings_from_past_key_values(keys_and_values, num_virtual_tokens=positions)
    return config, {"prompt_embeddings": packed.cpu()}


def sampled_ids(ids: Tensor, count: int) -> Tensor:
    """Tokens of chunks that are spread evenly over a document, in its order, shape (count,)."""
    chunks = -(-count // CHUNK_TOKENS)
    last = max(len(ids) - CHUNK_TOKENS, 0)
    starts = [last * number // max(chunks - 1, 1) for number in range(chunks)]
    return torch.cat([ids[start : start + CHUNK_TOKENS] for start in starts])[:count]


register_method("KV_CARTRIDGE", CartridgeConfig, CartridgeModel)
