"""Passages of the document that are retrieved for the question, by BM25 (Robertson et al. 1994) or by embeddings."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from lift_eval.document import Span
from lift_eval.errors import DocumentError
from lift_eval.prompts.contents.base import Content, ContentSettings
from lift_eval.prompts.prompt import EncodedPrompt, Prompt, PromptEncoder
from lift_eval.settings import PositiveInt

if TYPE_CHECKING:
    from lift_eval.prompts.settings import PromptSettings

GAP = "\n\n"
"""What stands between two passages that do not follow one another."""

UNSPACED = "\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")
"""A word; in Chinese and Japanese, which put no spaces between words, a character."""


class RetrievedSettings(ContentSettings):
    """Keys of content ``retrieved``."""

    passage_tokens: PositiveInt = 512
    """Length of a passage with ``document: retrieved``."""
    passages: PositiveInt = 5
    """Maximum number of passages in a prompt with ``document: retrieved``."""
    embedder: str | None = None
    """Folder or Hub name of an embedding model that ranks passages with ``document: retrieved``, by the cosine
    similarity of mean token states. None means BM25."""


class Retrieved(Content):
    """The passages that BM25 or an embedding model ranks highest for the question, in the document's order.

    The document is cut into passages of ``prompt.passage_tokens`` tokens. Of the ``prompt.passages`` best ones as many
    stand in the prompt as fit whole. A prompt whose question is not known is a query as a whole, without the document.
    """

    name = "retrieved"
    begins_alike = False

    @classmethod
    def reader(cls, settings: PromptSettings, base: object) -> Any:  # noqa: ANN401
        """The embedding model, where the recipe names one; see `Content.reader`."""
        if settings.embedder is None:
            return None
        from lift_eval.models.encoders import TextEmbedder

        return TextEmbedder("prompt.embedder", settings.embedder)

    @classmethod
    def most_tokens(cls, settings: PromptSettings, document_tokens: int) -> int:
        """Those of the passages; see `Content.most_tokens`."""
        return min(document_tokens, settings.passages * settings.passage_tokens)

    def check(self, prompt: Prompt, reserve: int, encoder: PromptEncoder | None = None) -> None:
        """Refuse a budget that holds no passage; see `Content.check`."""
        super().check(prompt, reserve, encoder)
        encoder = encoder or self.encoder
        settings, rest = encoder.settings, len(encoder.encode(prompt.without_document(), reserve).ids)
        if encoder.limit(reserve) - max(rest, settings.question_tokens) < settings.passage_tokens:
            self.encode(prompt, reserve, encoder)

    def leaves(self, prompt: Prompt, tokens: int, reserve: int) -> bool:
        """Never; see `Content.leaves`."""
        return False

    def fill(self, prompt: Prompt, reserve: int, encoder: PromptEncoder) -> EncodedPrompt:
        """The prompt with the passages in the document's place; see `Content.fill`."""
        ranked = self._rank(prompt.query or prompt.without_document().text)
        for count in range(min(encoder.settings.passages, len(ranked)), 0, -1):
            chosen = sorted(ranked[:count])
            encoded = encoder.encode(prompt.with_document(self._joined(chosen)), reserve)
            if not encoded.shortened:
                return replace(encoded, kept=self._share(chosen))
        raise DocumentError(
            f"no passage of {encoder.settings.passage_tokens} tokens ('prompt.passage_tokens') fits in a prompt of "
            f"{encoder.limit(reserve)} tokens; set a smaller prompt.passage_tokens or a larger prompt.max_tokens"
        )

    def _rank(self, query: str) -> list[int]:
        """Numbers of all passages, the best first; of equally good ones the earlier first."""
        scores = self._scores(query)
        return sorted(range(len(scores)), key=lambda number: -scores[number])

    def _scores(self, query: str) -> list[float]:
        if self.encoder.settings.embedder is not None:
            (embedded,) = self.encoder.reader([query])
            scores: list[float] = (self._embedded @ embedded).tolist()
            return scores
        words = _words(query)
        return self._index.get_scores(words).tolist() if words else [0.0] * len(self._passages)

    @cached_property
    def _embedded(self) -> Any:  # noqa: ANN401 - Tensor
        return self.encoder.reader([self._text[slice(*span)] for span in self._passages])

    @cached_property
    def _index(self) -> Any:  # noqa: ANN401 - bm25s.BM25
        import bm25s

        index = bm25s.BM25(auto_compile=False)  # compiled code may round otherwise
        index.index([_words(self._text[slice(*span)]) for span in self._passages], show_progress=False)
        return index

    @cached_property
    def _passages(self) -> list[Span]:
        """The passages' characters: together the whole text."""
        encoding = self.encoder.tokenizer(
            self._text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        starts = [start for start, _ in encoding["offset_mapping"]]
        inner = starts[:: self.encoder.settings.passage_tokens][1:]
        return [span for span in pairwise([0, *inner, len(self._text)]) if span[0] < span[1]]

    @property
    def _text(self) -> str:
        assert self.document is not None
        return self.document.text

    def _joined(self, chosen: list[int]) -> str:
        parts = [self._text[slice(*self._passages[chosen[0]])]]
        for before, number in pairwise(chosen):
            parts += ["" if number == before + 1 else GAP, self._text[slice(*self._passages[number])]]
        return "".join(parts)

    def _share(self, chosen: list[int]) -> float:
        return sum(stop - start for start, stop in map(self._passages.__getitem__, chosen)) / len(self._text)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())
