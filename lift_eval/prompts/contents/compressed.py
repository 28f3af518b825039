"""The document, compressed: the sentences or words of it that say most."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from lift_eval.document import Span
from lift_eval.errors import DocumentError
from lift_eval.prompts.contents.base import Content, ContentSettings
from lift_eval.prompts.contents.retrieved import UNSPACED
from lift_eval.prompts.prompt import EncodedPrompt, Prompt, PromptEncoder
from lift_eval.synthesis.sentence_splitter import split_sentences

if TYPE_CHECKING:
    from lift_eval.prompts.settings import PromptSettings

_WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")
"""A word with its punctuation; in Chinese and Japanese, which put no spaces between words, a character."""


class CompressedSettings(ContentSettings):
    """Keys of content ``compressed``."""

    compressor: str | None = None
    """Folder or Hub name of a token classifier that decides which words are kept with ``document: compressed``
    (LLMLingua-2). None means that sentences are kept by their self-information under the base model."""


class Compressed(Content):
    """The most informative parts of a document that is too long, in the document's order, within the same budget.

    By the base model (Selective Context, arXiv 2310.06201) a sentence counts by the mean self-information of its
    tokens; by a token classifier (LLMLingua-2, arXiv 2403.12968) a word counts by the mean probability that its tokens
    are kept. The best that fit stand in the prompt, the same for all questions that fit in ``prompt.question_tokens``.
    """

    name = "compressed"

    @classmethod
    def reader(cls, settings: PromptSettings, base: Callable[[str], list[tuple[Span, float]]]) -> Any:  # noqa: ANN401
        """What says how much each token matters; see `Content.reader`."""
        if settings.compressor is None:
            return base
        from lift_eval.models.encoders import TokenClassifier

        return TokenClassifier("prompt.compressor", settings.compressor)

    def fill(self, prompt: Prompt, reserve: int, encoder: PromptEncoder) -> EncodedPrompt:
        """The prompt with what is kept in the document's place; see `Content.fill`."""
        whole = encoder.encode(prompt, reserve)
        if not whole.shortened:
            return whole
        rest = len(encoder.encode(prompt.without_document(), reserve).ids)
        room = (encoder.limit(reserve) - max(rest, encoder.settings.question_tokens)) // len(prompt.places)
        while chosen := self._chosen(room):
            kept = "".join(self._text[slice(*self._units[number])] for number in chosen).strip()
            encoded = encoder.encode(prompt.with_document(kept), reserve)
            if not encoded.shortened:
                return replace(encoded, kept=len(kept) / len(self._text))
            room -= encoded.shortened  # tokens may be others where their neighbours are left out
        unit = "sentence" if encoder.settings.compressor is None else "word"
        raise DocumentError(
            f"no {unit} of the document fits in a prompt of {encoder.limit(reserve)} tokens; set a larger "
            "prompt.max_tokens"
        )

    def _chosen(self, room: int) -> list[int]:
        """Numbers of the units that are kept within so many tokens, ascending."""
        chosen = []
        for number in self._ranked:
            if self._tokens[number] <= room:
                chosen.append(number)
                room -= self._tokens[number]
        return sorted(chosen)

    @cached_property
    def _units(self) -> list[Span]:
        """Characters of each sentence or word, with the white space behind it."""
        if self.encoder.settings.compressor is None:
            starts = [start for start, _ in split_sentences(self._text)]
        else:
            starts = [word.start() for word in _WORD.finditer(self._text)]
        return list(pairwise([*starts, len(self._text)]))

    @cached_property
    def _tokens(self) -> list[int]:
        """Tokens of each unit."""
        encoding = self.encoder.tokenizer(
            self._text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        ends = [stop for _, stop in encoding["offset_mapping"]]
        return [bisect_left(ends, stop + 1) - bisect_left(ends, start + 1) for start, stop in self._units]

    @cached_property
    def _ranked(self) -> list[int]:
        """Numbers of all units, the best first; of equally good ones the earlier first."""
        scores = self.encoder.reader(self._text)
        ends = [stop for (_, stop), _ in scores]
        values = [
            [value for _, value in scores[bisect_left(ends, start + 1) : bisect_left(ends, stop + 1)]]
            for start, stop in self._units
        ]
        means = [sum(each) / len(each) if each else 0.0 for each in values]
        return sorted(range(len(means)), key=lambda number: -means[number])

    @property
    def _text(self) -> str:
        assert self.document is not None
        return self.document.text
