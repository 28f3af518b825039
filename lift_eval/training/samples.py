"""The unit of fine-tuning: tokens to predict, behind tokens to read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


def _nothing() -> Tensor:
    return torch.empty(0, dtype=torch.int64)


@dataclass(frozen=True, eq=False)
class Sample:
    """One training sample.

    Attributes:
        context: Token ids that are read and not supervised, shape (n,), int64; may be empty.
        target: Token ids that are predicted, shape (m,), int64. Without context its first token has nothing before
            it and is not predicted.
        prefix: Token ids before the context that are read once for all samples of a step that have the same ones,
            shape (p,), int64; empty for none. They are frozen: their keys and values get no gradient. Such a sample
            has a context, since the last token before the target must get one.
        teacher_context: Token ids that a teacher reads before the target, shape (t,), int64. None means those that the
            student reads.
        once: Whether one epoch alone has it, so that nothing of it need be kept for later ones.
    """

    context: Tensor
    target: Tensor
    prefix: Tensor = field(default_factory=_nothing)
    teacher_context: Tensor | None = None
    once: bool = False

    def __post_init__(self) -> None:
        if len(self.prefix) and not len(self.context):
            raise ValueError(
                f"a sample behind a prefix needs a context, got none behind {len(self.prefix)} tokens"
            )

    @property
    def tokens(self) -> int:
        """Tokens of context and target."""
        return len(self.context) + len(self.target)

    @property
    def supervised(self) -> int:
        """Tokens that the loss counts."""
        return len(self.target) if len(self.context) else max(len(self.target) - 1, 0)

    def with_prefix_inlined(self) -> Sample:
        """The same sample with its prefix as an ordinary part of the context."""
        if not len(self.prefix):
            return self
        return replace(self, context=torch.cat([self.prefix, self.context]), prefix=_nothing())

    def without_prefix(self) -> Sample:
        """The same sample without what stands before its context."""
        return replace(self, prefix=_nothing())


def by_prefix(samples: Iterable[Sample]) -> list[tuple[Tensor, list[Sample]]]:
    """Samples that have the same prefix, in the order in which prefixes come; the empty prefix is one of them."""
    groups: dict[bytes, tuple[Tensor, list[Sample]]] = {}
    for sample in samples:
        groups.setdefault(sample.prefix.numpy().tobytes(), (sample.prefix, []))[1].append(sample)
    return list(groups.values())


def tokens_read(samples: Iterable[Sample]) -> int:
    """Tokens of all samples of a step, a prefix that several of them have once."""
    return sum(len(prefix) + sum(sample.tokens for sample in group) for prefix, group in by_prefix(samples))


def supervised_tokens(samples: Iterable[Sample]) -> int:
    """Supervised tokens of all samples of a step."""
    return sum(sample.supervised for sample in samples)
