"""Two turns: the prompt that follows from an answer is read behind what both prompts begin with.

So the chunk of a conversation is read once, for the message about it and for the answer to the message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from lift_eval.answering.cache_rows import shared_length
from lift_eval.answering.choosing import chooser, greedy_from
from lift_eval.answering.generate import Answer, Decoding, Follow, answer, decode_together
from lift_eval.models.loading import autocast, supports_prefix_sharing
from lift_eval.record.progress import OnProgress, ignore

_ANY = Answer("?", complete=True)
"""Shows how much of a first prompt its second one begins with, before there is an answer."""


def converse(
    model: Any,  # noqa: ANN401 - PreTrainedModel or PeftModel
    tokenizer: Any,  # noqa: ANN401
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    follow: Follow,
    *,
    batch: int,
    seed: int = 0,
    on_answered: OnProgress = ignore,
) -> list[tuple[Answer, Answer | None]]:
    """Answer prompts and then, greedily, the prompts that follow from the answers.

    What both begin with is read once where answers are decoded behind a shared prefix, and twice elsewhere (`answer`).

    Args:
        model: In evaluation mode.
        tokenizer: Its tokenizer.
        prompts: Token ids of each first prompt.
        decoding: How to decode the answers to them.
        follow: Makes the second prompts; asked several times of the same, it says the same.
        batch: Most prompts decoded at once.
        seed: Of sampling; see `answer`.
        on_answered: Called as answers are done.

    Returns:
        Both answers, in the order of the prompts; None where there is no second prompt.
    """
    count = len(prompts)
    choose = chooser(model, decoding.arguments, range(seed, seed + count))
    if count and choose and supports_prefix_sharing(model):
        alike = [_alike(prompt, follow(number, _ANY)) for number, prompt in enumerate(prompts)]

        def behind(number: int, reply: Answer) -> Sequence[int] | None:
            ids = follow(number, reply)
            return ids if _alike(prompts[number], ids) >= alike[number] else None

        with torch.inference_mode(), autocast(model.device, model.dtype):
            answers = decode_together(
                model,
                tokenizer,
                prompts,
                decoding,
                batch,
                on_answered,
                behind,
                alike=alike,
                choose=greedy_from(count, choose),
            )
    else:
        how: dict[str, Any] = {"batch": batch, "seed": seed, "on_answered": on_answered}
        answers = dict(enumerate(answer(model, tokenizer, prompts, decoding, **how)))
    second = {number: ids for number in range(count) if (ids := follow(number, answers[number])) is not None}
    left = [number for number in second if number + count not in answers]
    greedy = replace(decoding, options={})
    apart = answer(model, tokenizer, [second[number] for number in left], greedy, batch=batch)
    answers.update(zip((number + count for number in left), apart, strict=True))
    return [(answers[number], answers.get(number + count)) for number in range(count)]


def _alike(prompt: Sequence[int], second: Sequence[int] | None) -> int:
    """How many tokens of a prompt its second one begins with; all of them where there is none."""
    return len(prompt) if second is None else shared_length([prompt, second])
