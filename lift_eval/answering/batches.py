"""Decoding by transformers' ``generate``, batch by batch: of any model, and however tokens are chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from lift_eval.answering.cache_rows import shared_length
from lift_eval.answering.choosing import Choose, Chosen, beyond_greedy
from lift_eval.answering.copied_prefix import CopiedPrefix, branches
from lift_eval.answering.decoding import GREEDY, Answer, Decoding, Detokenizer, Follow, expected
from lift_eval.record.progress import OnProgress


def decode_in_batches(
    model: Any,  # noqa: ANN401 - PreTrainedModel or PeftModel
    tokenizer: Any,  # noqa: ANN401
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    batch: int,
    told: OnProgress,
    choose: Choose | None,
    follow: Follow | None = None,
) -> dict[int, Answer]:
    """Decode prompts in batches of like length, and behind each batch the prompts that follow from its answers.

    What prompts begin with is read once where the model's cache can be copied (`CopiedPrefix`).

    Args:
        model: In evaluation mode.
        tokenizer: Its tokenizer.
        prompts: Token ids of each prompt.
        decoding: How to decode.
        batch: Most prompts side by side.
        told: Called as answers are done.
        choose: How tokens are chosen. None means as ``generate`` does.
        follow: Makes second prompts, which are answered greedily. None means that there are none.

    Returns:
        The answers by the numbers of their prompts; second prompts are numbered behind all first ones.
    """
    count = len(prompts)
    seconds = expected(follow, count) if follow else {}
    prefix = None
    if beyond_greedy(model, decoding.arguments).get("num_beams", 1) == 1:
        prefix = CopiedPrefix.of(model, [*prompts, *seconds.values()], plain=choose is not None)

    def decoded(
        asked: Mapping[int, Sequence[int]], how: Decoding, to_come: Sequence[Sequence[int]]
    ) -> dict[int, Answer]:
        if not asked:
            return {}
        rows = list(asked.values())
        arguments = {**how.arguments, **(prefix.arguments(rows, to_come) if prefix else {})}
        if choose and how.samples:
            arguments |= {**GREEDY, "logits_processor": LogitsProcessorList([Chosen(choose, list(asked))])}
        return dict(zip(asked, _generate(model, tokenizer, rows, how, arguments), strict=True))

    answers: dict[int, Answer] = {}
    waiting = _in_order(prompts)
    while waiting:
        first, waiting = waiting[:batch], waiting[batch:]
        own = [seconds.pop(number) for number in first if number in seconds]
        later = [*(prompts[number] for number in waiting), *seconds.values()]
        answers |= decoded({number: prompts[number] for number in first}, decoding, [*own, *later])
        asked = ((number, follow(number, answers[number])) for number in first) if follow else ()
        second = {number + count: ids for number, ids in asked if ids is not None}
        answers |= decoded(second, replace(decoding, options={}), later)
        told(len(answers), 2 * count if follow else count, "")
    return answers


def _in_order(prompts: Sequence[Sequence[int]]) -> list[int]:
    """Numbers of prompts, longest first; those that go on alike behind what all begin with stay together."""
    alike = (
        sorted(branch, key=lambda number: (-len(prompts[number]), list(prompts[number])))
        for branch in branches(dict(enumerate(prompts)), shared_length(prompts))
    )
    return list(chain(*sorted(alike, key=lambda branch: -len(prompts[branch[0]]))))


class _Stopping(StoppingCriteria):  # type: ignore[misc]
    """Ends a row as soon as the text of its answer does.

    Args:
        detokenizer: Finds that.
        start: Columns of the prompts.
    """

    def __init__(self, detokenizer: Detokenizer, start: int) -> None:
        self.detokenizer, self.start = detokenizer, start

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: Any) -> Tensor:  # noqa: ANN401
        done = [self.detokenizer.stopped(row) for row in input_ids[:, self.start :].tolist()]
        return torch.tensor(done, device=input_ids.device)


def _generate(
    model: Any,  # noqa: ANN401
    tokenizer: Any,  # noqa: ANN401
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    arguments: Mapping[str, Any],
) -> list[Answer]:
    """Answers to prompts side by side, padded on the left."""
    detokenizer = Detokenizer(model, tokenizer, decoding, prompts[0])
    ends = detokenizer.ends
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (ends[0] if ends else 0)
    width = max(len(prompt) for prompt in prompts)
    rows = torch.full((len(prompts), width), pad, dtype=torch.int64)
    mask = torch.zeros_like(rows)
    for row, prompt in enumerate(prompts):
        rows[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    if "cache_params" in arguments:  # a recurrent model is given what is left to read, and nothing else
        rows, mask = rows[:, -1:], mask[:, -1:]
    rows, mask, width = rows.to(model.device), mask.to(model.device), rows.shape[1]
    criteria = [_Stopping(detokenizer, width)] if decoding.stops else []
    held_back = [*ends, *_stop_tokens(tokenizer, decoding.stop)] if decoding.min_new_tokens else ends
    output = model.generate(
        input_ids=rows,
        attention_mask=mask,
        max_new_tokens=decoding.max_new_tokens,
        pad_token_id=pad,
        eos_token_id=held_back or None,
        stopping_criteria=StoppingCriteriaList(criteria),
        **arguments,
    )
    return [detokenizer.answer(_without_padding(row, pad, ends)) for row in output[:, width:].tolist()]


def _without_padding(row: list[int], pad: int, ends: Sequence[int]) -> list[int]:
    """A row without what stands behind a stop string until the longest row of its batch has ended."""
    decoded = len(row)
    while decoded and row[decoded - 1] == pad and pad not in ends:
        decoded -= 1
    return row[:decoded]


def _stop_tokens(tokenizer: Any, stop: Sequence[str]) -> list[int]:  # noqa: ANN401
    """The stop strings that are a token, as such."""
    last = [tokenizer(text, add_special_tokens=False)["input_ids"][-1] for text in stop]
    return [token for token, text in zip(last, stop, strict=True) if tokenizer.decode([token]) == text]
