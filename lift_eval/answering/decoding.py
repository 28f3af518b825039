"""How answers are decoded, where they end, and what their tokens say."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from lift_eval.answering.choosing import beyond_greedy
from lift_eval.answering.settings import DecodingSettings
from lift_eval.answering.thinking import Thinking
from lift_eval.errors import RecipeError

logger = logging.getLogger(__name__)

END_OF_PROMPT = 32
"""Tokens at the end of a prompt that show whether it ends within thinking."""


GREEDY = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}


@dataclass(frozen=True)
class Decoding:
    """How an answer is decoded.

    Attributes:
        max_new_tokens: Most tokens of an answer.
        stop: Strings that end an answer and are not part of it.
        options: Further arguments of transformers' ``generate`` (do_sample, temperature, top_p, ...); greedy
            decoding where they do not ask to sample. Sampling keeps the limits (such as top_k) of the model's own
            generation config, as lm-eval's ``hf`` does. Within the first ``min_new_tokens`` tokens no stop string
            counts, and one that is a single token is not generated, as no end token is.
        thinking: Marks of a reasoning model's thinking, in which no stop string counts. None means that the model does
            not think.
        form: Finds where an answer so far comes to its end by its form, or None where it goes on. None means that an
            answer has no such form.
    """

    max_new_tokens: int
    stop: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    thinking: Thinking | None = None
    form: Callable[[str], int | None] | None = None

    @property
    def samples(self) -> bool:
        """Whether tokens are drawn by chance."""
        return bool(self.options.get("do_sample"))

    @property
    def arguments(self) -> Mapping[str, Any]:
        """The options, with those of greedy decoding where they do not ask to sample."""
        return self.options if self.samples else {**GREEDY, **self.options}

    @property
    def min_new_tokens(self) -> int:
        """Tokens that an answer has in any case."""
        return int(self.options.get("min_new_tokens") or 0)

    @property
    def stops(self) -> bool:
        """Whether the text of an answer may end it."""
        return bool(self.stop or self.form)

    def end(self, text: str, start: int = 0) -> int | None:
        """Where a text ends an answer: before a stop string from a place on, or by its form. None means nowhere."""
        places = [text.find(stop, start) for stop in self.stop] + [self.form(text) if self.form else None]
        return min((place for place in places if place is not None and place >= 0), default=None)


@dataclass(frozen=True)
class Answer:
    """A decoded answer.

    Attributes:
        text: The text up to the first stop string, without special tokens and without thinking.
        complete: False where the answer was cut off at the most tokens allowed.
        thinking_tokens: Tokens of the thinking before it, marks included.
        tokens: Tokens that were decoded for it, thinking included and the end token not.
    """

    text: str
    complete: bool
    thinking_tokens: int = 0
    tokens: int = field(default=0, compare=False)


Follow: TypeAlias = Callable[[int, Answer], Sequence[int] | None]
"""Makes a second prompt, by the number of the first and the answer to it. None means that there is none."""


def expected(follow: Follow, count: int) -> dict[int, Sequence[int]]:
    """Second prompts to some answer, by the numbers of the first ones: they begin as those to the real answers will."""
    asked = ((number, follow(number, Answer(f"{number}?", complete=True))) for number in range(count))
    return {number: ids for number, ids in asked if ids is not None}


class Detokenizer:
    """Finds where new tokens end an answer, and what they say.

    Args:
        model: Whose generation config knows end tokens.
        tokenizer: Its tokenizer.
        decoding: How the answers are decoded.
        prompt: One of the prompts; all of them end within thinking, or none, by their chat template.

    Attributes:
        ends: Tokens that end an answer.
    """

    def __init__(self, model: Any, tokenizer: Any, decoding: Decoding, prompt: Sequence[int]) -> None:  # noqa: ANN401
        self.tokenizer, self.decoding = tokenizer, decoding
        self.ends = end_tokens(model, tokenizer)
        thinking = decoding.thinking
        self._opened = thinking is not None and thinking.is_open(tokenizer.decode(prompt[-END_OF_PROMPT:]))
        # A stop string of n characters lies within the last n tokens, each of at least one character; the margin
        # covers tokens that are part of one character.
        self._tail = max(map(len, decoding.stop), default=0) + 4

    def stopped(self, ids: Sequence[int]) -> bool:
        """Whether the text of new tokens ends an answer: by a stop string, or by its form."""
        decoding, thinking = self.decoding, self.decoding.thinking
        if not decoding.stops:
            return False
        tail = 0 if decoding.form else len(ids) - self._tail
        if decoding.end(self.tokenizer.decode(ids[max(tail, decoding.min_new_tokens) :])) is None:
            return False
        if thinking is None:
            return True
        answer = thinking.answer(self.tokenizer.decode(ids), opened=self._opened)
        return answer is not None and decoding.end(answer) is not None

    def answer(self, ids: Sequence[int]) -> Answer:
        """The answer that new tokens hold."""
        ended = next((i for i, token in enumerate(ids) if token in self.ends), None)
        decoding, tokenizer, thinking = self.decoding, self.tokenizer, self.decoding.thinking
        thought = thinking.count(tokenizer, ids[:ended], opened=self._opened) if thinking else 0
        least = max(decoding.min_new_tokens, thought)
        text, beginning = (
            tokenizer.decode(part, skip_special_tokens=True)
            for part in (ids[thought:ended], ids[thought:least])
        )
        if thought:
            text, beginning = text.lstrip(), beginning.lstrip()
        first = decoding.end(text, len(beginning))
        complete = ended is not None or first is not None
        if (
            decoding.stop and not complete
        ):  # a stop string may be a special token, which the text does not show
            tail = tokenizer.decode(ids[least:])
            complete = any(term in tail for term in decoding.stop)
        return Answer(text[:first], complete, thought, len(ids) if ended is None else ended)


def end_tokens(model: Any, tokenizer: Any) -> list[int]:  # noqa: ANN401
    """Tokens that end an answer: those of the generation config and of the tokenizer together.

    Llama 3 ends a turn with either of two tokens, and only one of the two places knows both.
    """
    found: set[int] = set()
    for value in (model.generation_config.eos_token_id, tokenizer.eos_token_id):
        found |= {value} if isinstance(value, int) else set(value or ())
    return sorted(found)


def sampling_options(model: Any, settings: DecodingSettings) -> dict[str, Any]:  # noqa: ANN401
    """Options of `Decoding` by which the recipe, or the checkpoint where the recipe says so, chooses tokens.

    Args:
        model: Whose generation config holds the temperature and the limits of sampling.
        settings: The recipe's decoding group.
    """
    if settings.source == "checkpoint":
        return {"do_sample": True} if model.generation_config.do_sample else {}
    return {"do_sample": True, "temperature": settings.temperature} if settings.temperature else {}


def check_greedy(model: Any, decoding: Decoding, wanted_by: str) -> None:  # noqa: ANN401
    """Refuse to do more than take the most probable token each time.

    Args:
        model: Whose generation config may ask for more.
        decoding: How to decode.
        wanted_by: What needs greedy decoding.

    Raises:
        RecipeError: If more is asked for.
    """
    if more := beyond_greedy(model, decoding.arguments):
        asked = ", ".join(f"{key}={value}" for key, value in more.items())
        raise RecipeError(
            "group 'decoding'",
            [
                f"{wanted_by} needs greedy decoding, got {asked}; leave that out (--gen_kwargs, generation_config.json)"
            ],
        )


def warn_of_unfinished_thinking(answers: Sequence[Answer], decoding: Decoding, document: str) -> None:
    """Warn of answers that end within the model's thinking.

    Args:
        answers: The answers.
        decoding: How they were decoded.
        document: The document's name.
    """
    unfinished = sum(not answer.text and answer.thinking_tokens > 0 for answer in answers)
    if unfinished:
        logger.warning(
            "%d of %d answers about %r end within the model's thinking and are empty: %d new tokens are too few; "
            "set --gen_kwargs max_gen_toks=, or decoding.max_new_tokens in the library",
            unfinished,
            len(answers),
            document,
            decoding.max_new_tokens,
        )
