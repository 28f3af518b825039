"""Another document of the run in the place of the right one: a control."""

from __future__ import annotations

from dataclasses import replace

from lift_eval.document import Document
from lift_eval.errors import DocumentError
from lift_eval.prompts.contents.base import Content
from lift_eval.prompts.prompt import EncodedPrompt, Prompt, PromptEncoder


class Wrong(Content):
    """The run's next document, truncated as the right one would be.

    What answers are worth with it, they owe to the adapter or to what the base model knows, and not to the prompt.
    """

    name = "wrong"
    needs_other = True

    def check(self, prompt: Prompt, reserve: int, encoder: PromptEncoder | None = None) -> None:
        """Refuse a run of one document; see `Content.check`."""
        super().check(prompt, reserve, encoder)
        _ = self._stranger

    def leaves(self, prompt: Prompt, tokens: int, reserve: int) -> bool:
        """Never; see `Content.leaves`."""
        return False

    def fill(self, prompt: Prompt, reserve: int, encoder: PromptEncoder) -> EncodedPrompt:
        """The prompt with the other document in the right one's place; see `Content.fill`."""
        encoded = encoder.encode(prompt.with_document(self._stranger.text), reserve)
        return replace(encoded, kept=0.0, cut=(0, 0))

    @property
    def _stranger(self) -> Document:
        if self.other is None:
            raise DocumentError(
                "'prompt.document: wrong' puts another document of the run in the prompt, but there is no other; ask "
                "about two documents or more in one run"
            )
        return self.other
