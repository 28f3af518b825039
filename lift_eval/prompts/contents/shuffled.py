"""The document with its sentences in another order: a control."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import lru_cache

from lift_eval.document import Document, document_seed
from lift_eval.prompts.contents.base import Content
from lift_eval.prompts.prompt import EncodedPrompt, Prompt, PromptEncoder


class Shuffled(Content):
    """The document with its sentences shuffled, truncated as in its original order.

    What answers lose with it, they owe to how sentences follow each other, and to where they stand.
    """

    name = "shuffled"

    def leaves(self, prompt: Prompt, tokens: int, reserve: int) -> bool:
        """Never; see `Content.leaves`."""
        return False

    def fill(self, prompt: Prompt, reserve: int, encoder: PromptEncoder) -> EncodedPrompt:
        """The prompt with the shuffled document in place of the document; see `Content.fill`."""
        assert self.document is not None
        return encoder.encode(prompt.with_document(shuffled(self.document).text), reserve)


@lru_cache(maxsize=8)
def shuffled(document: Document) -> Document:
    """A document with its sentences in an order that it decides itself, a space between them."""
    from lift_eval.synthesis.sentence_splitter import sentences_of_document

    sentences = [document.text[start:stop] for start, stop in sentences_of_document(document)]
    random.Random(document_seed(0, document)).shuffle(sentences)  # noqa: S311 - no secret
    return replace(document, text=" ".join(sentences))
