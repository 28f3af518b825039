"""Strategy ``sentences``: several pairs about each sentence (second implementation)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lift_eval.settings import NonNegativeInt
from lift_eval.synthesis.base import CHARACTERS_PER_TOKEN, PairSettings, Passage, Strategy
from lift_eval.synthesis.sentence_splitter import SENTENCE_TOKENS, sentences_of_document

if TYPE_CHECKING:
    import torch

    from lift_eval.document import Document
    from lift_eval.synthesis.settings import AuxiliarySettings


class SentencesSettings(PairSettings):
    """Keys of strategy ``sentences``."""

    context_characters: NonNegativeInt = 2048
    """Preceding text shown with a sentence (strategy ``sentences``)."""


class Sentences(Strategy):
    """Every sentence, shown with the text before it."""

    name = "sentences"
    request = """\
Title: {{ title }}

{{ context }}
{{ sentence }}

Write at most {{ pairs }} different questions about what the last sentence states ("{{ sentence }}"), each with its \
answer. Each question must be understandable without the text.\
{% if questions %} None of these may be asked again:
{% for question in questions %}- {{ question }}
{% endfor %}{% else %} {% endif %}Reply with JSON only:
{"pairs": [{"question": "...", "answer": "..."}]}"""
    reply = "json"
    several = True

    def choose(
        self, document: Document, settings: AuxiliarySettings, generator: torch.Generator
    ) -> Iterator[Passage]:
        """Take each sentence in turn; see `Strategy.choose`."""
        spans = sentences_of_document(document)
        starts = [start for start, _ in spans]
        first = 0
        for start, end in spans:
            while starts[first] < start - settings.context_characters:
                first += 1  # whole sentences only
            sentence = document.text[start:end]
            context = document.text[starts[first] : start].rstrip()
            shown = document.text[starts[first] : end]
            yield Passage.of(document, settings, sentence, passage=shown, context=context, sentence=sentence)

    def passages(self, settings: AuxiliarySettings, document_tokens: int) -> int:
        """The sentences."""
        return document_tokens // SENTENCE_TOKENS + 1

    def passage_tokens(self, settings: AuxiliarySettings) -> int:
        """Those of a sentence and its context."""
        context = settings.context_characters if "context" in settings.request_template else 0
        return SENTENCE_TOKENS + context // CHARACTERS_PER_TOKEN
