"""The document, truncated to the recipe's budget: LIFT's published way."""

from __future__ import annotations

from lift_eval.prompts.contents.base import Content
from lift_eval.prompts.prompt import EncodedPrompt, Prompt, PromptEncoder


class Truncated(Content):
    """The document truncated to ``prompt.max_tokens`` as ``prompt.truncate`` says."""

    name = "truncated"
    needs_place = False

    def fill(self, prompt: Prompt, reserve: int, encoder: PromptEncoder) -> EncodedPrompt:
        """The prompt, its middle cut out where it is too long; see `Content.fill`."""
        return encoder.encode(prompt, reserve)
