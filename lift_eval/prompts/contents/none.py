"""Nothing of the document: a closed-book prompt."""

from __future__ import annotations

from lift_eval.prompts.contents.base import Content
from lift_eval.prompts.prompt import EncodedPrompt, Prompt, PromptEncoder


class ClosedBook(Content):
    """The prompt without the document."""

    name = "none"
    needs_place = False
    closed_book = True

    def leaves(self, prompt: Prompt, tokens: int, reserve: int) -> bool:
        """Never: there is a document to take out."""
        return False

    def fill(self, prompt: Prompt, reserve: int, encoder: PromptEncoder) -> EncodedPrompt:
        """The prompt without its document; see `Content.fill`."""
        return encoder.encode(prompt.without_document(), reserve)
