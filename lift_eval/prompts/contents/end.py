"""The end of the document."""

from __future__ import annotations

from lift_eval.prompts.contents.base import Content
from lift_eval.prompts.prompt import EncodedPrompt, Prompt, PromptEncoder
from lift_eval.prompts.truncation import truncate_beginning


class End(Content):
    """The document's last tokens within ``prompt.max_tokens``.

    They are the same for all questions that fit in ``prompt.question_tokens``, so that they are read once.
    """

    name = "end"

    def fill(self, prompt: Prompt, reserve: int, encoder: PromptEncoder) -> EncodedPrompt:
        """The prompt, the document's beginning cut off where it is too long; see `Content.fill`."""
        return encoder.encode(prompt, reserve, truncate_beginning)
