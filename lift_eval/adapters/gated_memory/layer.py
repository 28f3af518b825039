"""The layers of Gated Memory: a wrapper around an attention module, and one around the output embedding."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.nn import functional

from lift_eval.errors import AdapterError

if TYPE_CHECKING:
    from lift_eval.adapters.gated_memory.config import GatedMemoryConfig

QUERY_PROJECTIONS = ("q_proj", "qkv_proj")
OUTPUT_PROJECTION = "o_proj"


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


class MemoryCell(nn.Module):
    """Memory and gate of every query head of one attention layer (LIFT paper, section 3.4).

    For the query q of one head, of dimension d: memory ``W2 SiLU(W1 q)`` with d -> expansion * d -> d, and gate
    ``sigmoid(3 (u - 1))`` with ``u = w2 SiLU(W3 q)`` and d -> floor(sqrt(d)) -> 1. Weights have the shape (heads, in,
    out). Biases start at zero.
    """

    memory_in: nn.Parameter

    def __init__(self, heads: int, head_dim: int, expansion: int, *, bias: bool) -> None:
        """Make and initialise the weights.

        Args:
            heads: Number of query heads.
            head_dim: Dimension d of a head.
            expansion: Hidden width of the memory in units of d.
            bias: Whether the linear maps have biases, all but the gate's last.
        """
        super().__init__()
        widths = {
            "memory_in": (head_dim, expansion * head_dim),
            "memory_out": (expansion * head_dim, head_dim),
            "gate_in": (head_dim, math.isqrt(head_dim)),
            "gate_out": (math.isqrt(head_dim), 1),
        }
        for name, (width_in, width_out) in widths.items():
            weight = nn.Parameter(torch.empty(heads, width_in, width_out))
            # Over the 3-D tensor, as published, so that the fan-in is in * out.
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
            self.register_parameter(name, weight)
            has_bias = bias and name != "gate_out"
            self.register_parameter(
                f"{name}_bias", nn.Parameter(torch.zeros(heads, width_out)) if has_bias else None
            )

    def forward(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """Look up the memory.

        Args:
            query: Queries, shape (..., heads, head_dim).

        Returns:
            Memory, shape (..., heads, head_dim), and gate, shape (..., heads, 1).
        """
        query = query.to(self.memory_in.dtype)
        memory = self._linear("memory_out", functional.silu(self._linear("memory_in", query)))
        logit = self._linear("gate_out", functional.silu(self._linear("gate_in", query)))
        return memory, torch.sigmoid(3 * (logit - 1))

    def _linear(self, name: str, inputs: Tensor) -> Tensor:
        outputs = torch.einsum("...hi,hio->...ho", inputs, getattr(self, name))
        bias: Tensor | None = getattr(self, f"{name}_bias")
        return outputs if bias is None else outputs + bias


class GatedMemoryLayer(BaseTunerLayer):  # type: ignore[misc]  # peft has no types
    """What both layers share: they cannot be merged into the weights."""

    # Peft's own, named here for the type checker.
    base_layer: nn.Module
    active_adapters: list[str]
    disable_adapters: bool
    set_adapter: Callable[..., None]
    get_base_layer: Callable[[], nn.Linear]

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Refuse; the memory is no linear map.

        Raises:
            AdapterError: Always.
        """
        raise AdapterError(
            "Gated Memory cannot be merged into the base weights; save it as an adapter instead"
        )

    def unmerge(self) -> None:
        """Do nothing, since nothing is ever merged."""

    def _applied(self, layers: nn.ModuleDict) -> list[nn.Module]:
        """The modules of the active adapters; empty while adapters are disabled."""
        if self.disable_adapters:
            return []
        return [layers[name] for name in self.active_adapters if name in layers]


class GatedMemoryAttention(nn.Module, GatedMemoryLayer):
    """An attention module whose heads mix what they attend to with what their memory says.

    The query is read where the query projection returns it, cut from a fused projection where there is one, and
    normalised where the attention has a query norm: it is the tensor that enters the rotary embedding. The mix is
    made where the output projection takes its input, so the attention itself, its cache, masks and kernels are the
    base model's own. The hooks live for one forward pass only: no activation outlives it, an exception leaves
    nothing behind, and the recomputation of gradient checkpointing is a forward pass like any other.
    """

    adapter_layer_names = ("gated_memory_cells",)

    def __init__(self, base_layer: nn.Module, adapter_name: str, config: GatedMemoryConfig) -> None:
        """Wrap an attention module.

        Args:
            base_layer: The attention module.
            adapter_name: The adapter's name in peft.
            config: Its settings.

        Raises:
            AdapterError: If the module lacks a query or output projection, or a head dimension.
        """
        super().__init__()
        self.base_layer = base_layer
        self.gate_record: GateRecord | None = None
        self.gated_memory_cells = nn.ModuleDict()
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, config)

    def update_layer(self, adapter_name: str, config: GatedMemoryConfig) -> None:
        """Add the memory of one adapter."""
        projection = self._query_projection()
        cell = MemoryCell(
            self.heads,
            self.head_dim,
            config.memory_expansion,
            bias=getattr(projection, "bias", None) is not None,
        )
        self.gated_memory_cells[adapter_name] = _placed(cell, projection)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    @property
    def head_dim(self) -> int:
        """Dimension of one head."""
        return int(self.base_layer.head_dim)  # type: ignore[arg-type]

    @property
    def heads(self) -> int:
        """Number of query heads."""
        return int(getattr(self.base_layer, OUTPUT_PROJECTION).in_features) // self.head_dim

    def _query_projection(self) -> nn.Module:
        for name in QUERY_PROJECTIONS:
            projection = getattr(self.base_layer, name, None)
            if isinstance(projection, nn.Module) and hasattr(self.base_layer, OUTPUT_PROJECTION):
                if hasattr(self.base_layer, "head_dim"):
                    return projection
                break
        raise AdapterError(
            f"Gated Memory needs attention modules with {' or '.join(QUERY_PROJECTIONS)}, {OUTPUT_PROJECTION} and a "
            f"'head_dim', got {type(self.base_layer).__name__} with "
            f"{', '.join(name for name, _ in self.base_layer.named_children()) or 'no submodules'}"
        )

    def forward(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the attention's own signature
        """Attend, mixing in the memory of every active adapter."""
        cells = self._applied(self.gated_memory_cells)
        if not cells:
            return self.base_layer(*args, **kwargs)
        queries: list[Tensor] = []

        def keep_query(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            queries.append(output[..., : self.heads * self.head_dim])

        def mix(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (self._mixed(queries.pop(), inputs[0], cells), *inputs[1:])

        output_projection: nn.Module = getattr(self.base_layer, OUTPUT_PROJECTION)
        hooks = (
            self._query_projection().register_forward_hook(keep_query),
            output_projection.register_forward_pre_hook(mix),
        )
        try:
            return self.base_layer(*args, **kwargs)
        finally:
            for hook in hooks:
                hook.remove()

    def _mixed(self, query: Tensor, attention: Tensor, cells: list[nn.Module]) -> Tensor:
        """Mix memory into the heads' outputs; both tensors have the shape (batch, tokens, heads * head_dim)."""
        per_head = (*query.shape[:-1], self.heads, self.head_dim)
        query = query.reshape(per_head)
        norm = getattr(self.base_layer, "q_norm", None)
        if norm is not None:
            query = norm(query)
        mixed = attention.reshape(per_head)
        for cell in cells:
            memory, gate = cell(query)
            if self.gate_record is not None:
                self.gate_record.add(self, gate)
            mixed = (1 - gate) * mixed + gate * memory
        return mixed.reshape(attention.shape).to(attention.dtype)


class GatedMemoryHead(nn.Module, GatedMemoryLayer):
    """A LoRA on the output embedding.

    It adds to the logits only, so an embedding matrix tied to the output is read, never changed, and stays tied.
    """

    adapter_layer_names = ("gated_memory_down", "gated_memory_up")

    def __init__(self, base_layer: nn.Module, adapter_name: str, config: GatedMemoryConfig) -> None:
        """Wrap the output embedding.

        Args:
            base_layer: A linear layer, hidden size -> vocabulary.
            adapter_name: The adapter's name in peft.
            config: Its settings.
        """
        super().__init__()
        self.base_layer = base_layer
        self.gated_memory_down = nn.ModuleDict()
        self.gated_memory_up = nn.ModuleDict()
        self.scaling: dict[str, float] = {}
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, config)

    def update_layer(self, adapter_name: str, config: GatedMemoryConfig) -> None:
        """Add the LoRA of one adapter; like every LoRA it starts as the zero map."""
        base = self.get_base_layer()
        down = nn.Linear(base.in_features, config.lm_head_rank, bias=False)
        up = nn.Linear(config.lm_head_rank, base.out_features, bias=False)
        nn.init.zeros_(up.weight)
        self.gated_memory_down[adapter_name] = _placed(down, base)
        self.gated_memory_up[adapter_name] = _placed(up, base)
        self.scaling[adapter_name] = config.lm_head_alpha / config.lm_head_rank
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map hidden states, shape (..., hidden), to logits, shape (..., vocabulary)."""
        logits: Tensor = self.base_layer(hidden)
        if self.disable_adapters:
            return logits
        for name in self.active_adapters:
            if name in self.gated_memory_down:
                logits = logits + self._change(hidden, name).to(logits.dtype)
        return logits

    def _change(self, hidden: Tensor, name: str) -> Tensor:
        down, up = self.gated_memory_down[name], self.gated_memory_up[name]
        weight: Tensor = down.weight  # type: ignore[assignment]  # a module dictionary forgets what it holds
        change: Tensor = up(down(hidden.to(weight.dtype)))
        return change * self.scaling[name]


def _placed(module: nn.Module, beside: nn.Module) -> nn.Module:
    """Move a module to the device of another one; weights that are to be loaded later stay on the meta device."""
    if any(parameter.is_meta for parameter in module.parameters()):
        return module
    return module.to(next(beside.parameters()).device)
