"""Configuration of Gated Memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from peft import PeftConfig, PeftType

from lift_eval.errors import AdapterError


@dataclass
class GatedMemoryConfig(PeftConfig):  # type: ignore[misc]  # peft has no types
    """Settings of Gated Memory; the gate's scale 3 and offset 1 are fixed, as published.

    Attributes:
        target_modules: Names (or a regular expression that matches the full name) of the attention modules. None
            takes every decoder layer of a supported architecture.
        memory_expansion: Hidden width of the memory as a multiple of the head dimension.
        lm_head_rank: Rank of a LoRA on the output embedding, 0 for none; the published runs use 2.
        lm_head_alpha: Scale of that LoRA times its rank.

    Raises:
        AdapterError: If a number is out of its range.
    """

    target_modules: list[str] | str | None = field(default=None)
    memory_expansion: int = field(default=2)
    lm_head_rank: int = field(default=0)
    lm_head_alpha: float = field(default=4.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = PeftType.GATED_MEMORY
        if self.memory_expansion < 1:
            raise AdapterError(f"'memory_expansion' must be 1 or more, got {self.memory_expansion}")
        if self.lm_head_rank < 0:
            raise AdapterError(f"'lm_head_rank' must be 0 (no LoRA) or more, got {self.lm_head_rank}")
        if self.lm_head_alpha <= 0:
            raise AdapterError(f"'lm_head_alpha' must be above 0, got {self.lm_head_alpha}")
