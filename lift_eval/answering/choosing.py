"""How the next token of an answer is chosen: the most probable one, or one drawn by the answer's own random numbers.

What is drawn for an answer depends on its seed and its probabilities, not on the answers that are decoded beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, TypeAlias

import torch
from torch import Tensor
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

Choose: TypeAlias = Callable[[Tensor, Sequence[int]], list[int]]
"""Chooses a token for each of several answers.

Its arguments are their logits, shape (answers, vocabulary), and the numbers of their prompts.
"""

_PLAIN = {
    "_from_model_config", "bos_token_id", "do_sample", "eos_token_id", "max_length", "max_new_tokens", "min_p",
    "output_attentions", "output_hidden_states", "pad_token_id", "temperature", "top_k", "top_p",
    "transformers_version", "use_cache",
}  # fmt: skip
"""Settings of generation that change nothing about a greedy choice, and only what `Draw` knows about a drawn one."""

_TOP_K = 50
"""What transformers takes where nobody says."""


def beyond_greedy(model: Any, options: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ANN401
    """What is asked of generation besides taking the most probable token each time.

    Args:
        model: Whose generation config may ask for more, such as a repetition penalty.
        options: Arguments of ``generate`` in force.
    """
    sampled = {"do_sample": True} if options.get("do_sample") else {}
    more = {key: value for key, value in _in_force(model, options).items() if key not in _PLAIN}
    return {**sampled, **{key: value for key, value in more.items() if value is not None}}


def chooser(model: Any, options: Mapping[str, Any], seeds: Sequence[int]) -> Choose | None:  # noqa: ANN401
    """What chooses tokens as generation would.

    Args:
        model: See `beyond_greedy`.
        options: See `beyond_greedy`.
        seeds: Of each prompt.

    Returns:
        None means that more is asked for, such as a repetition penalty, and generation itself must choose.
    """
    if not beyond_greedy(model, options).keys() <= {"do_sample"}:
        return None
    return Draw(model, options, seeds) if options.get("do_sample") else most_probable


def most_probable(logits: Tensor, _: Sequence[int]) -> list[int]:
    """The most probable tokens; see `Choose`."""
    tokens: list[int] = logits.float().argmax(dim=-1).tolist()
    return tokens


class Draw:
    """Draws tokens, each by one random number of its answer; see `Choose`.

    Args:
        model: Whose generation config may limit what is drawn (top_k, top_p, min_p).
        options: Arguments of ``generate`` in force: temperature, and such limits.
        seeds: Of each prompt.
    """

    def __init__(self, model: Any, options: Mapping[str, Any], seeds: Sequence[int]) -> None:  # noqa: ANN401
        asked = _in_force(model, options)
        temperature, k, p, least = (asked.get(key) for key in ("temperature", "top_k", "top_p", "min_p"))
        self._limits = LogitsProcessorList()
        if temperature not in (None, 1.0):
            self._limits.append(TemperatureLogitsWarper(float(temperature)))
        if k:
            self._limits.append(TopKLogitsWarper(k))
        if p is not None and p < 1.0:
            self._limits.append(TopPLogitsWarper(float(p)))
        if least is not None:
            self._limits.append(MinPLogitsWarper(float(least)))
        self._random = [Random(seed) for seed in seeds]  # noqa: S311 - no secrets

    def __call__(self, logits: Tensor, prompts: Sequence[int]) -> list[int]:
        """Draw the next token of each answer."""
        # Sums of many small probabilities must not be rounded to those of their neighbours.
        sums = self.probabilities(logits).cumsum(dim=-1, dtype=torch.float64)
        drawn = torch.tensor([[self._random[prompt].random()] for prompt in prompts], dtype=torch.float64)
        places = torch.searchsorted(sums, drawn.to(sums.device) * sums[:, -1:], right=True)
        tokens: list[int] = places[:, 0].tolist()
        return tokens

    def probabilities(self, logits: Tensor) -> Tensor:
        """With which probability each token is drawn, in the shape of the logits."""
        limited: Tensor = self._limits(None, logits.float())
        return limited.softmax(dim=-1)


def greedy_from(number: int, choose: Choose) -> Choose:
    """Takes the most probable tokens for prompts from a number on, and chooses for those before it."""

    def chosen(logits: Tensor, prompts: Sequence[int]) -> list[int]:
        tokens = most_probable(logits, prompts)
        before = [place for place, prompt in enumerate(prompts) if prompt < number]
        if before:
            drawn = choose(logits[before], [prompts[place] for place in before])
            for place, token in zip(before, drawn, strict=True):
                tokens[place] = token
        return tokens

    return chosen


class Chosen(LogitsProcessor):  # type: ignore[misc]
    """Leaves ``generate`` the tokens that are chosen, and no others.

    Args:
        choose: What chooses.
        prompts: The number of each row's prompt.
    """

    def __init__(self, choose: Choose, prompts: Sequence[int]) -> None:
        self.choose, self.prompts = choose, prompts

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores of which only the chosen tokens' are finite."""
        tokens = torch.tensor(self.choose(scores, self.prompts), device=scores.device)[:, None]
        return torch.full_like(scores, -torch.inf).scatter_(1, tokens, 0.0)


def _in_force(model: Any, options: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ANN401
    """Settings of generation: the options, the generation config, and what transformers takes where nobody says."""
    usual = {"temperature": 1.0, "top_k": _TOP_K, "top_p": 1.0}
    return {**usual, **model.generation_config.to_diff_dict(), **options}
