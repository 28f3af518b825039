"""Strategy ``summaries``: several summaries of each chunk, as in deep context distillation (arXiv 2503.08727)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lift_eval.synthesis.base import Passage
from lift_eval.synthesis.conversations import Conversations, consecutive_chunks

if TYPE_CHECKING:
    import torch

    from lift_eval.document import Document
    from lift_eval.synthesis.settings import AuxiliarySettings


class Summaries(Conversations):
    """Conversations whose message asks for a summary: so many of each chunk, which follow one another."""

    name = "summaries"
    message = "Summarize this part of the text. Keep names, numbers and events. Reply with the summary only."

    def choose(
        self, document: Document, settings: AuxiliarySettings, generator: torch.Generator
    ) -> Iterator[Passage]:
        """Take each chunk in turn; see `Strategy.choose`."""
        for text in consecutive_chunks(document, settings.chunk_characters[1]):
            yield from [Passage.of(document, settings, text)] * settings.pairs

    def passages(self, settings: AuxiliarySettings, document_tokens: int) -> int:
        """One for each summary."""
        return settings.pairs * (document_tokens // self.passage_tokens(settings) + 1)
