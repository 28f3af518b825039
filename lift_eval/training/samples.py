"""The unit of fine-tuning: tokens to predict, behind tokens to read."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Sample:
    """One training sample.

    Attributes:
        context: Token ids that are read and not supervised, shape (n,), int64; may be empty.
        target: Token ids that are predicted, shape (m,), int64. Without context its first token has nothing before
            it and is not predicted.
    """

    context: Tensor
    target: Tensor

    @property
    def tokens(self) -> int:
        """Tokens of context and target."""
        return len(self.context) + len(self.target)

    @property
    def supervised(self) -> int:
        """Tokens that the loss counts."""
        return len(self.target) if len(self.context) else max(len(self.target) - 1, 0)
