"""The model that the stages run, on its device, and what the device can do at most."""

# ruff: noqa: ANN401 - models of transformers have no types

from __future__ import annotations

import copy
import gc
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from account import copy_peak, matrix_peak
from common.setting import Setting
from transformers import AutoModelForCausalLM, LlamaConfig

from lift_eval import Recipe, load_recipe
from lift_eval.adapters.attach import attach
from lift_eval.adapters.quantization import quantize
from lift_eval.models.loading import quantization_config
from lift_eval.recipe import PrecisionSettings

T = TypeVar("T")

GIB = 2**30
DIVISORS = {"llama-3-8b": 1, "tiny": 32}
"""Shapes of models, and how many times shorter all texts are than with Llama-3-8B's."""
LAST_PART = 0.8
"""Of a stage's bound, after which no further part begins."""
QUANTIZATIONS = {"bf16": "none", "nf4": "nf4"}
"""What `precision.quantization` is called here."""

_LLAMA_3_8B = {
    "vocab_size": 128_256, "hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 8192, "rope_theta": 500_000.0,
    "rms_norm_eps": 1e-5, "bos_token_id": 128_000, "eos_token_id": 128_001,
}  # fmt: skip
_TINY = {
    "vocab_size": 4160, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "bos_token_id": 4150, "eos_token_id": 4151,
}  # fmt: skip


@dataclass(frozen=True)
class Size:
    """How large everything is, and where it runs.

    Attributes:
        shape: A key of `DIVISORS`.
        device: E.g. ``cuda``.
    """

    shape: str
    device: str

    @property
    def config(self) -> LlamaConfig:
        """The configuration of the model."""
        return LlamaConfig(**(_LLAMA_3_8B | (_TINY if self.shape == "tiny" else {})))

    def scaled(self, count: int) -> int:
        """A number of tokens or samples on Llama-3-8B's shape, as it is on this one."""
        return max(count // DIVISORS[self.shape], 1)

    def recipe(self, name: str, precision: str) -> Recipe:
        """A shipped recipe, its texts scaled.

        Args:
            name: Of the recipe.
            precision: A key of `QUANTIZATIONS`.
        """
        changes = {"precision.dtype": "bfloat16", "precision.quantization": QUANTIZATIONS[precision]}
        recipe = load_recipe(name, changes)
        training, prompt = recipe.training, recipe.prompt
        keys = ("segment_tokens", "stride_tokens", "window_tokens")
        shorter = {key: self.scaled(getattr(training, key)) for key in keys}
        return recipe.model_copy(
            update={
                "training": training.model_copy(update=shorter),
                "prompt": prompt.model_copy(update={"max_tokens": self.scaled(prompt.max_tokens)}),
            }
        )


def draw(count: int, seed: int) -> torch.Tensor:
    """Token ids of an invented text."""
    return torch.randint(0, 4096, (count,), generator=torch.Generator().manual_seed(seed))


class Bench:
    """A process's model and device.

    Args:
        size: Of the model.
    """

    def __init__(self, size: Size) -> None:
        self.size = size
        self.where = Setting(Path(), size.device, "bfloat16", pairs=1)
        self._base: tuple[str, Any] = ("", None)
        self.begin(math.inf)

    def begin(self, bound: float) -> None:
        """Begin a stage that may take so many seconds."""
        self._bound, self._began = bound, time.monotonic()

    def parts(self, items: Iterable[T]) -> Iterator[T]:
        """The items of a stage's parts.

        Raises:
            TimeoutError: Where another part would begin near the end of the stage's bound.
        """
        for item in items:
            if time.monotonic() - self._began > LAST_PART * self._bound:
                raise TimeoutError(
                    f"no further part begins after {LAST_PART:.0%} of its bound of {self._bound:g} s"
                )
            yield item

    @cached_property
    def peak(self) -> float:
        """Operations per second of a large matrix product."""
        return matrix_peak(self.where)

    @cached_property
    def copy_peak(self) -> float:
        """Bytes per second of a large copy."""
        return copy_peak(self.where)

    def base(self, precision: str) -> Any:
        """A model of its own whose weights, which are random, are shared by all of the same precision.

        Args:
            precision: A key of `QUANTIZATIONS`; one at a time is kept.
        """
        if self._base[0] != precision:
            self._base = ("", None)  # the other one's memory is free before this one is made
            self.release()
            self._base = (precision, self._build(precision))
        shared = {id(weight): weight for weight in self._base[1].parameters()}
        return copy.deepcopy(self._base[1], shared)

    def adapted(self, recipe: Recipe) -> Any:
        """A model with a recipe's adapter, in evaluation mode."""
        names = {quantization: name for name, quantization in QUANTIZATIONS.items()}
        return attach(
            self.base(names[recipe.precision.quantization]), recipe.adapter, seed=recipe.seed
        ).eval()

    def _build(self, precision: str) -> Any:
        with torch.device(self.size.device):
            model = AutoModelForCausalLM.from_config(self.size.config, dtype=torch.bfloat16)
        settings = PrecisionSettings(dtype="bfloat16", quantization=QUANTIZATIONS[precision])
        if (quantization := quantization_config(settings, torch.bfloat16)) is not None:
            quantize(model, quantization)
        return model.requires_grad_(False).eval()

    def seconds(self, work: Callable[[], Any]) -> tuple[float, Any]:
        """Time of a call, and what it gave."""
        return self.where.seconds(work)

    @property
    def measures_memory(self) -> bool:
        """Whether peaks of memory are known."""
        return self.size.device.startswith("cuda")

    def reset_peak(self) -> None:
        """Begin to look for a peak of memory."""
        if self.measures_memory:
            torch.cuda.reset_peak_memory_stats()

    @property
    def peak_gib(self) -> float | None:
        """Most memory of tensors since `reset_peak`. None means that the device does not tell."""
        return torch.cuda.max_memory_allocated() / GIB if self.measures_memory else None

    def release(self) -> None:
        """Give back the memory of what is no longer used."""
        gc.collect()
        torch.cuda.empty_cache()
