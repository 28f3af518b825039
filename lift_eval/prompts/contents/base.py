"""What every choice of a prompt's content has in common: a module with a child of `Content`, named in `registry`.

Recipes read these modules, so they import heavy libraries inside functions only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from lift_eval.document import Document, Span
from lift_eval.errors import DocumentError
from lift_eval.prompts.prompt import EncodedPrompt, Prompt, PromptEncoder
from lift_eval.settings import Settings

if TYPE_CHECKING:
    from lift_eval.prompts.settings import PromptSettings


class ContentSettings(Settings):
    """Keys of the recipe's group ``prompt`` that say what of the document a prompt holds.

    A content with keys of its own declares them in a child of this class.
    """

    document: str = "truncated"
    """What of the document a prompt holds; ``lift-eval recipes`` explains each value."""


class Content:
    """Decides what of a document is in the prompts of its questions.

    It does not affect pairs in training, whose prompts contain the truncated document.

    Args:
        document: What the questions are about. None means that they have no document.
        encoder: Of the recipe's prompts.
        other: Another document of the run. None means that there is no other.

    Attributes:
        name: The recipe's ``prompt.document``.
        needs_place: Whether a prompt that holds the document changed or in part is refused.
        closed_book: Whether a prompt holds nothing of the document.
        fills_window: Whether a prompt may fill the model's window, and ``prompt.max_tokens`` does not count.
        needs_other: Whether the prompts hold the other document.
        begins_alike: Whether the prompts about a document all begin with the same part of it.
    """

    name: ClassVar[str]
    needs_place: ClassVar[bool] = True
    closed_book: ClassVar[bool] = False
    fills_window: ClassVar[bool] = False
    needs_other: ClassVar[bool] = False
    begins_alike: ClassVar[bool] = True

    def __init__(
        self, document: Document | None, encoder: PromptEncoder, other: Document | None = None
    ) -> None:
        self.document, self.encoder, self.other = document, encoder, other

    @classmethod
    def reader(cls, settings: PromptSettings, base: Callable[[str], list[tuple[Span, float]]]) -> Any:  # noqa: ANN401
        """What reads documents to choose what of them the prompts hold; it becomes `PromptEncoder.reader`.

        Args:
            settings: The recipe's prompt group.
            base: Gives the characters of each token of a text and its self-information under the base model, in nats.

        Returns:
            Whatever the content can use. None means that it needs no model.

        Raises:
            CheckpointError: If the checkpoint that the recipe names is not there, or of another kind.
        """
        return None

    @classmethod
    def most_tokens(cls, settings: PromptSettings, document_tokens: int) -> int:
        """The number of the document's tokens in a prompt if there is space for them.

        Args:
            settings: The recipe's prompt group.
            document_tokens: Tokens of the document.
        """
        return document_tokens

    def encode(self, prompt: Prompt, reserve: int, encoder: PromptEncoder | None = None) -> EncodedPrompt:
        """Encode the prompt of a question.

        Args:
            prompt: The prompt with the whole document, or without it where its task asks closed-book.
            reserve: Tokens to leave free in the window for the answer.
            encoder: Of the prompt, where its task has one of its own.

        Raises:
            DocumentError: If the prompt cannot be made, or leaves no room in the model's window.
        """
        encoder = self._limited(encoder)
        self._check_place(prompt)
        return self.fill(prompt, reserve, encoder) if prompt.places else encoder.encode(prompt, reserve)

    def check(self, prompt: Prompt, reserve: int, encoder: PromptEncoder | None = None) -> None:
        """Refuse early what `encode` would refuse; arguments and errors are the same."""
        self._check_place(prompt)
        self._limited(encoder).check_room(prompt, reserve)

    def leaves(self, prompt: Prompt, tokens: int, reserve: int) -> bool:
        """Whether a prompt of so many tokens stays as it is."""
        return (prompt.located or not self.needs_place) and tokens <= self._limited().limit(reserve)

    def fill(self, prompt: Prompt, reserve: int, encoder: PromptEncoder) -> EncodedPrompt:
        """Encode a prompt in which the document stands in known places; see `encode`."""
        raise NotImplementedError

    def _limited(self, encoder: PromptEncoder | None = None) -> PromptEncoder:
        encoder = encoder or self.encoder
        return encoder.filling if self.fills_window else encoder

    def _check_place(self, prompt: Prompt) -> None:
        if self.needs_place and not prompt.located:
            raise DocumentError(
                f"'prompt.document: {self.name}' needs a prompt with the whole document, but this one contains it "
                "changed or in part; use prompt.document=truncated"
            )
