"""The recipe's group ``precision``."""

from __future__ import annotations

from typing import Literal

from lift_eval.settings import Settings


class PrecisionSettings(Settings):
    """Number formats of base model and computation."""

    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """``auto``: bfloat16 where GPU or processor multiplies it in hardware, else float32."""
    quantization: Literal["none", "nf4", "int8"] = "none"
    """Number format of the base's linear layers, by bitsandbytes: ``nf4`` has 4 bits, ``int8`` 8."""
