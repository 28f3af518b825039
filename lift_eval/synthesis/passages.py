"""Strategy ``passages``: one pair about each of several random passages (first implementation)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lift_eval.settings import PositiveInt
from lift_eval.synthesis.base import PairSettings, Passage, Strategy
from lift_eval.synthesis.sentence_splitter import SENTENCE_TOKENS, sentences_of_document

if TYPE_CHECKING:
    import torch

    from lift_eval.document import Document
    from lift_eval.synthesis.settings import AuxiliarySettings


class PassagesSettings(PairSettings):
    """Keys of strategy ``passages``."""

    passage_sentences: PositiveInt = 16
    """Number of consecutive sentences in a passage (strategy ``passages``)."""


class Passages(Strategy):
    """Runs of sentences at random positions, each with a pair and evidence from the passage."""

    name = "passages"
    request = """\
{{ passage }}

Write one question about the passage above, its answer, and a sentence copied word for word from the passage that \
proves the answer. The question must be understandable without the passage. Use exactly this form:
Question: ...
Answer: ...
Evidence: ..."""
    needs_evidence = True

    def choose(
        self, document: Document, settings: AuxiliarySettings, generator: torch.Generator
    ) -> Iterator[Passage]:
        """Draw places with replacement; see `Strategy.choose`."""
        import torch

        spans = sentences_of_document(document)
        places = max(len(spans) - settings.passage_sentences, 0) + 1
        for first in torch.randint(places, (settings.pairs,), generator=generator).tolist():
            chosen = spans[first : first + settings.passage_sentences]
            yield Passage.of(document, settings, document.text[chosen[0][0] : chosen[-1][1]])

    def passage_tokens(self, settings: AuxiliarySettings) -> int:
        """Those of its sentences."""
        return settings.passage_sentences * SENTENCE_TOKENS
