"""How prompts are read where that is not left to the model as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from transformers import DynamicCache

from lift_eval.answering.cache.base import CacheSettings
from lift_eval.answering.cache.columns import read_plainly

LEAST_TOKENS = 3
"""Of a prompt that is not read as usual: some that are read first, some behind them, and the last."""


@dataclass(frozen=True)
class Reading:
    """A way to read prompts; without arguments the usual one.

    Attributes:
        cache: What is kept of the document's keys and values. None means all of them.
        documents: For each prompt, how many tokens there are up to the document's end; 0 where it has no document.
        base: Lets the model be its base inside, which reads all but the last token of each prompt. None means that the
            model reads as it is.
    """

    cache: CacheSettings | None = None
    documents: Sequence[int] = ()
    base: Callable[[], AbstractContextManager[None]] | None = None

    @property
    def held_back(self) -> int:
        """Tokens at the end of a prompt that are not read like those before them."""
        return 0 if self.base is None else 1

    def groups(self, prompts: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], Reading | None, int]]:
        """Prompts that are read alike.

        Args:
            prompts: Token ids of each prompt.

        Yields:
            Their places; how they are read, None for as usual; and how many tokens up to the end of their document,
            which is the same for all, where not all of it is kept, else 0.
        """
        found: dict[tuple[bool, tuple[int, ...]], list[int]] = {}
        for place, prompt in enumerate(prompts):
            long = len(prompt) >= LEAST_TOKENS
            document = self.documents[place] if long and self.cache is not None else 0
            found.setdefault((long, tuple(prompt[:document])), []).append(place)
        for (long, document_ids), places in found.items():
            if document_ids:
                yield places, self, len(document_ids)
            else:
                yield places, replace(self, cache=None) if long and self.base else None, 0

    def reader(self) -> AbstractContextManager[None]:
        """Lets the model be the one that reads, inside."""
        return self.base() if self.base else nullcontext()

    def first(self, model: Any, ids: Tensor) -> DynamicCache:  # noqa: ANN401
        """Read what prompts begin with, shape (1, n); of a document, what is to be kept of it."""
        return read_plainly(model, ids) if self.cache is None else self.cache.read(model, ids)
