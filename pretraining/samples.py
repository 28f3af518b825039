"""Texts, questions and pairs as trees of tokens, in the prompts of the bundled model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lift_eval.tiny import prompts
from pretraining.packing import Branch, Tree

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ANSWER, END, PAIR, TEXT = 1.0, 0.5, 0.4, 0.1
"""Weights of the loss on an answer, on the end token, on a written question, on plain text."""


class Samples:
    """Makes trees with one tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self.eos: int = tokenizer.eos_token_id

    def encode(self, text: str) -> list[int]:
        """Token ids of a text."""
        return list(self.tokenizer(text).input_ids)

    def question(self, question: str, answer: str, first: int) -> Branch:
        """A branch that asks and answers after a prefix whose last token is `first`."""
        prompt = self.encode(prompts.QUESTION.format(question=question))
        reply = self.encode(f" {answer}")
        ids = [first, *prompt, *reply, self.eos]
        return Branch(ids, [0.0] * (1 + len(prompt)) + [ANSWER] * len(reply) + [END])

    def reading(self, prefix: list[int], asked: list[tuple[str, str]], weight: float = 0.0) -> Tree:
        """A text and questions after it, as many as fit the window."""
        branches = [self.question(question, answer, prefix[-1]) for question, answer in asked]
        room = prompts.WINDOW - len(prefix) + 2
        return Tree(
            prefix, [weight] * len(prefix), [branch for branch in branches if len(branch.ids) <= room]
        )

    def writing(self, passage: str, pairs: list[tuple[str, str]]) -> Tree:
        """A passage and the pairs that may be written about it."""
        prefix = self.encode(prompts.GENERATION.format(passage=passage))
        branches = []
        for question, answer in pairs:
            asked = self.encode(prompts.PAIR.format(question=question, answer="").rstrip())
            reply = self.encode(f" {answer}")
            weights = [0.0] + [PAIR] * len(asked) + [ANSWER] * len(reply) + [END]
            branches.append(Branch([prefix[-1], *asked, *reply, self.eos], weights))
        if not pairs:
            none = self.encode(prompts.NO_PAIR)
            branches = [Branch([prefix[-1], *none, self.eos], [0.0, *[PAIR] * len(none), PAIR])]
        return Tree(prefix, [0.0] * len(prefix), branches)

    def plain(self, ids: list[int]) -> Tree:
        """A piece of text to be predicted token by token."""
        return Tree(ids, [TEXT] * len(ids), [])
