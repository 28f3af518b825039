"""Decoding of a model whose masks may be replaced: all prompts together, behind what they begin with.

The prompt that follows from an answer is read in the answer's row, so the chunk of a conversation is read once, for the
message about it and for the answer to the message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lift_eval.answering.cache_rows import shared_length
from lift_eval.answering.choosing import Choose, greedy_from, most_probable
from lift_eval.answering.decoding import Answer, Decoding, Detokenizer, Follow, expected
from lift_eval.answering.shared_prefix import decode_behind_prefix
from lift_eval.record.progress import OnProgress


def decode_together(
    model: Any,  # noqa: ANN401 - PreTrainedModel or PeftModel
    tokenizer: Any,  # noqa: ANN401
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    batch: int,
    told: OnProgress,
    choose: Choose = most_probable,
    follow: Follow | None = None,
    **how: Any,  # noqa: ANN401
) -> dict[int, Answer]:
    """Decode prompts and those that follow from their answers, as `decode_behind_prefix` does.

    Args:
        model: In evaluation mode, with full attention in every layer.
        tokenizer: Its tokenizer.
        prompts: Token ids of each prompt.
        decoding: How to decode.
        batch: Most rows side by side.
        told: Called after each answer.
        choose: How tokens are chosen.
        follow: Makes second prompts, which are answered greedily. None means that there are none.
        how: Further arguments of `decode_behind_prefix`.

    Returns:
        The answers by the numbers of their prompts; second prompts are numbered behind all first ones.
    """
    count = len(prompts)
    detokenizer = Detokenizer(model, tokenizer, decoding, prompts[0])
    elsewhere: dict[int, Sequence[int]] = {}
    if follow is not None:
        alike = _alike(prompts, expected(follow, count))

        def in_row(number: int, ids: list[int]) -> Sequence[int] | None:
            second = follow(number, detokenizer.answer(ids))
            if second is None or shared_length([prompts[number], second]) >= alike[number]:
                return second
            elsewhere[number + count] = second
            return None

        how |= {"alike": alike, "follow": in_row}
        choose = greedy_from(count, choose)
    new = decode_behind_prefix(
        model,
        prompts,
        batch=batch,
        max_new_tokens=decoding.max_new_tokens,
        ends=detokenizer.ends,
        stopped=detokenizer.stopped,
        choose=choose,
        told=told,
        **how,
    )
    answers = {number: detokenizer.answer(ids) for number, ids in new.items()}
    if elsewhere:
        greedy = replace(decoding, options={})
        apart = decode_together(model, tokenizer, list(elsewhere.values()), greedy, batch, told)
        answers.update({number: apart[place] for place, number in enumerate(elsewhere)})
    return answers


def _alike(prompts: Sequence[Sequence[int]], seconds: Mapping[int, Sequence[int]]) -> list[int]:
    """How many tokens of each prompt its second one begins with; all of them where there is none."""
    return [
        shared_length([prompt, seconds[number]]) if number in seconds else len(prompt)
        for number, prompt in enumerate(prompts)
    ]
