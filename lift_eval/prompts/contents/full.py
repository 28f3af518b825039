"""The whole document, as far as the model's window goes: the upper reference of what a prompt can give."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from lift_eval.errors import DocumentError
from lift_eval.prompts.contents.base import Content, ContentSettings
from lift_eval.prompts.prompt import EncodedPrompt, Prompt, PromptEncoder


class FullSettings(ContentSettings):
    """Keys of content ``full``."""

    over_length: Literal["error", "skip", "truncate"] = "error"
    """What happens with ``document: full`` if a question's prompt does not fit in the window: the run is refused, the
    question counts as wrong without being asked, or the prompt is truncated to the window."""


class Full(Content):
    """The whole document, without regard to ``prompt.max_tokens``; see ``prompt.over_length`` if it does not fit."""

    name = "full"
    fills_window = True

    def check(self, prompt: Prompt, reserve: int, encoder: PromptEncoder | None = None) -> None:
        """Refuse a document that does not fit; see `Content.check`."""
        super().check(prompt, reserve, encoder)
        if self.encoder.settings.over_length == "error":
            self.encode(prompt, reserve, encoder)

    def fill(self, prompt: Prompt, reserve: int, encoder: PromptEncoder) -> EncodedPrompt:
        """The prompt as it is; see `Content.fill`."""
        encoded = encoder.encode(prompt, reserve)
        if not encoded.shortened:
            return encoded
        action = encoder.settings.over_length
        if action == "error":
            raise DocumentError(
                f"the prompt with the whole document ('prompt.document: full') has {encoded.untruncated} tokens, but "
                f"only {encoder.limit(reserve)} fit (window {encoder.window}, {reserve} reserved for the "
                "answer); use a model with a longer window, or prompt.over_length=skip or truncate"
            )
        return (
            EncodedPrompt([], 0.0, over_length=action)
            if action == "skip"
            else replace(encoded, over_length=action)
        )
