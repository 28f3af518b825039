"""The thinking of reasoning models: what a model writes before its answer, between two marks.

    <think>The lamp was lit at nine, so ...</think>Ann

It is no part of an answer, and pairs are made and trained without it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lift_eval.errors import RecipeError

END = "</think>"
"""The mark behind the thinking that most reasoning models have as a token."""


@dataclass(frozen=True)
class Thinking:
    """The marks around a model's thinking.

    Attributes:
        begin: The mark before it; empty where it is not known.
        end: The mark behind it.
    """

    begin: str
    end: str

    @classmethod
    def of(cls, tokenizer: Any, end: str | int | None = None) -> Thinking | None:  # noqa: ANN401
        """The marks of a model; None means that it does not think.

        Args:
            tokenizer: Its tokenizer.
            end: The mark behind the thinking, or its token's id. None means `END`, if that is a token.

        Raises:
            RecipeError: If there is no such token.
        """
        if end is None:
            return cls._around(END) if END in tokenizer.get_vocab() else None
        if isinstance(end, str):
            return cls._around(end)
        if end >= len(tokenizer):
            fault = f"'prompt.think_end' must be one of the tokenizer's {len(tokenizer)} tokens, got {end}"
            raise RecipeError("group 'prompt'", [fault])
        return cls._around(tokenizer.decode([end]))

    @classmethod
    def _around(cls, end: str) -> Thinking:
        return cls(end.replace("/", "", 1) if "/" in end else "", end)

    def is_open(self, prompt: str) -> bool:
        """Whether a prompt ends within thinking, as some chat templates leave it."""
        return bool(self.begin) and prompt.rstrip().endswith(self.begin)

    def unopened(self, prompt: str) -> str:
        """A prompt without the mark that begins a thinking at its end."""
        return prompt.rstrip().removesuffix(self.begin) if self.is_open(prompt) else prompt

    def answer(self, text: str, *, opened: bool) -> str | None:
        """The answer in what a model wrote; None means that the text ends within the thinking.

        Args:
            text: The text, with its special tokens.
            opened: Whether the prompt ended within thinking.
        """
        _, end, after = text.rpartition(self.end)
        if end:
            return after.lstrip()
        thinks = opened or not self.begin or text.lstrip().startswith(self.begin)
        return None if thinks else text

    def count(self, tokenizer: Any, ids: Sequence[int], *, opened: bool) -> int:  # noqa: ANN401
        """How many tokens at the beginning of what a model wrote are thinking, marks included.

        Args:
            tokenizer: The tokenizer.
            ids: The tokens.
            opened: Whether the prompt ended within thinking.
        """
        text = tokenizer.decode(ids)
        if self.answer(text, opened=opened) is None:
            return len(ids)
        marks = text.count(self.end)
        return bisect_left(range(len(ids)), marks, key=lambda n: tokenizer.decode(ids[:n]).count(self.end))


def without_thinking(text: str) -> str:
    """A reply without the thinking that a server left in it; empty where it ends within."""
    return Thinking._around(END).answer(text, opened=False) or ""
