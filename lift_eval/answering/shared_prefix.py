"""Greedy decoding of prompts that begin alike: their shared prefix is read once.

Prompts that have nearly everything in common share a row, whose keys and values are in memory once; what is each
prompt's own is a continuation in that row. Prompts that differ early, such as those whose middle is cut out at
different places, have rows of their own, side by side. In each step every continuation gets its next token. A finished
continuation leaves its row, and an empty row makes room.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from lift_eval.answering.grouped_attention import grouped
from lift_eval.answering.key_values import SPARE, KeyValues, rows_that_fit

MIN_SHARED_TOKENS = 64
"""A shorter common beginning is read with each prompt."""

CHUNK = 512
"""Most tokens read at once behind others: they look at all columns, and those of later tokens are wasted."""

_PLAIN = {
    "_from_model_config", "bos_token_id", "do_sample", "eos_token_id", "max_length", "max_new_tokens",
    "output_attentions", "output_hidden_states", "pad_token_id", "temperature", "top_k", "top_p",
    "transformers_version", "use_cache",
}  # fmt: skip
"""Settings of generation that do not change what greedy decoding chooses."""

_COMMON, _PADDING = -1, -2
"""Columns that all continuations of a row see, and those that only padding sees."""

_OWNER = torch.int16
"""Masks compare the owners of all columns; narrow numbers do so fast."""


def decodes_plainly(model: Any, options: Mapping[str, Any]) -> bool:  # noqa: ANN401
    """Whether generation takes the most probable token each time, as it is.

    Args:
        model: Whose generation config may ask for more, such as a repetition penalty.
        options: Arguments of ``generate`` in force.
    """
    asked = {**model.generation_config.to_diff_dict(), **options}
    return not options.get("do_sample") and all(
        key in _PLAIN or value is None for key, value in asked.items()
    )


def shared_length(prompts: Sequence[Sequence[int]]) -> int:
    """Tokens that all prompts begin with, short of the shortest prompt's last."""
    first, last = min(prompts, key=list), max(prompts, key=list)
    limit = min(len(prompt) for prompt in prompts) - 1
    return next((i for i in range(limit) if first[i] != last[i]), limit)


def group_rows(prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Gather prompts, as indices, that are best decoded as continuations of one row.

    Continuations do not see each other, so all of them together are no longer than what they share.
    """
    rows: list[list[int]] = []
    for index in sorted(range(len(prompts)), key=lambda index: list(prompts[index])):
        row = [*rows[-1], index] if rows else [index]
        shared = shared_length([prompts[one] for one in row])
        if rows and sum(len(prompts[one]) - shared for one in row) <= shared:
            rows[-1] = row
        else:
            rows.append([index])
    return rows


def decode_behind_prefix(
    model: Any,  # noqa: ANN401 - PreTrainedModel or PeftModel
    prompts: Sequence[Sequence[int]],
    *,
    batch: int,
    max_new_tokens: int,
    ends: Sequence[int],
    stopped: Callable[[list[int]], bool],
) -> list[list[int]]:
    """Decode prompts that begin with the same tokens.

    Args:
        model: In evaluation mode, with full attention in every layer.
        prompts: Token ids; two prompts or more.
        batch: Most rows side by side; fewer where a GPU's memory does not hold them.
        max_new_tokens: Most tokens of an answer.
        ends: Tokens that end an answer.
        stopped: Whether an answer is ended by its tokens so far.

    Returns:
        The new tokens of each prompt, the one that ended it included.
    """
    shared = shared_length(prompts)
    beginning = DynamicCache(config=model.config)
    model(
        input_ids=torch.tensor([list(prompts[0][:shared])], device=model.device),
        past_key_values=beginning,
        use_cache=True,
        logits_to_keep=1,
    )
    rows = [_CacheRow.of(row, prompts, shared) for row in group_rows(prompts)]
    width = max(len(row.owners) for row in rows) + SPARE
    answers: dict[int, list[int]] = {}
    for some in _batches(rows, min(batch, rows_that_fit(beginning, width) or batch)):
        decoder = _Decoder(model, beginning, some, width)
        decoder.read()
        with grouped(model):
            decoder.write(max_new_tokens, lambda ids: ids[-1] in ends or stopped(ids))
        answers.update(
            (continuation.prompt, continuation.answer) for row in some for continuation in row.continuations
        )
    return [answers[index] for index in range(len(prompts))]


@dataclass
class _Continuation:
    """A prompt and its answer so far.

    Attributes:
        prompt: Number of the prompt.
        length: Of its tokens.
        end: Column of its last token in the row.
        answer: New tokens.
    """

    prompt: int
    length: int
    end: int
    answer: list[int] = field(default_factory=list)


@dataclass
class _CacheRow:
    """Prompts in one row: their common tokens, then the rest of each.

    Attributes:
        tokens: Of all columns.
        positions: In the text, of all columns.
        owners: The continuation of each column, by its number in ``continuations``; `_COMMON` where it belongs to all.
        continuations: The prompts.
        alive: Numbers of the continuations that are not finished.
    """

    tokens: list[int]
    positions: list[int]
    owners: list[int]
    continuations: list[_Continuation]
    alive: list[int]

    @classmethod
    def of(cls, indices: Sequence[int], prompts: Sequence[Sequence[int]], shared: int) -> _CacheRow:
        """Lay out prompts; a single one continuations off where all rows do."""
        row = [prompts[index] for index in indices]
        common = shared_length(row) if len(row) > 1 else shared
        tokens, positions = list(row[0][:common]), list(range(common))
        owners, continuations = [_COMMON] * common, []
        for number, (index, prompt) in enumerate(zip(indices, row, strict=True)):
            tokens += prompt[common:]
            positions += range(common, len(prompt))
            owners += [number] * (len(prompt) - common)
            continuations.append(_Continuation(index, len(prompt), len(tokens) - 1))
        return cls(tokens, positions, owners, continuations, list(range(len(continuations))))


def _batches(rows: list[_CacheRow], most: int) -> Iterator[list[_CacheRow]]:
    """Split rows into batches of like size."""
    count = -(-len(rows) // most)
    for number in range(count):
        yield rows[number * len(rows) // count : (number + 1) * len(rows) // count]


class _Decoder:
    """Decodes rows side by side.

    Args:
        model: The model.
        beginning: Keys and values of what all rows begin with.
        rows: The rows.
        width: Columns to make room for.
    """

    def __init__(self, model: Any, beginning: DynamicCache, rows: list[_CacheRow], width: int) -> None:  # noqa: ANN401
        self.model = model
        self.rows = list(rows)
        self.memory = KeyValues(beginning, len(rows), width)
        self.owners = pad_sequence(
            [torch.tensor(row.owners, dtype=_OWNER, device=model.device) for row in rows],
            batch_first=True,
            padding_value=_PADDING,
        )

    def read(self) -> None:
        """Read the rows, each for itself, and choose the first token of each answer."""
        shared = self.memory.column
        for number, row in enumerate(self.rows):
            self.memory.rows = slice(number, number + 1)
            for start in range(shared, len(row.tokens), CHUNK):
                self.memory.column = start
                stop = min(start + CHUNK, len(row.tokens))
                ending = [
                    continuation for continuation in row.continuations if start <= continuation.end < stop
                ]
                chosen = self._forward(
                    [row.tokens[start:stop]],
                    [row.positions[start:stop]],
                    self.owners[number : number + 1, :stop],
                    [continuation.end - start for continuation in ending] or [0],
                )
                for continuation, token in zip(ending, chosen[0], strict=False):
                    continuation.answer.append(token)
        self.memory.column = self.owners.shape[1]

    def write(self, most: int, finished: Callable[[list[int]], bool]) -> None:
        """Choose the further tokens of all answers, one of each in a step."""
        for _ in range(most - 1):
            self._leave(finished)
            if not self.rows:
                break
            continuations = [[row.continuations[number] for number in row.alive] for row in self.rows]
            width = max(map(len, continuations))
            gaps = [width - len(row) for row in continuations]
            owners = [[*row.alive, *[_PADDING] * gap] for row, gap in zip(self.rows, gaps, strict=True)]
            self.owners = torch.cat([self.owners, self.owners.new_tensor(owners)], dim=1)
            self.memory.rows = slice(0, len(self.rows))
            chosen = self._forward(
                [
                    [*(b.answer[-1] for b in row), *[0] * gap]
                    for row, gap in zip(continuations, gaps, strict=True)
                ],
                [
                    [*(b.length + len(b.answer) - 1 for b in row), *[0] * gap]
                    for row, gap in zip(continuations, gaps, strict=True)
                ],
                self.owners,
                list(range(width)),
            )
            self.memory.column += width
            for row, tokens in zip(continuations, chosen, strict=True):
                for continuation, token in zip(row, tokens, strict=False):
                    continuation.answer.append(token)

    def _leave(self, finished: Callable[[list[int]], bool]) -> None:
        """Let finished continuations go; an empty row's place is taken by the last row."""
        for row in self.rows:
            row.alive = [number for number in row.alive if not finished(row.continuations[number].answer)]
        for number in reversed(range(len(self.rows))):
            if not self.rows[number].alive:
                last = len(self.rows) - 1
                if number < last:
                    self.memory.move(last, number)
                    self.owners[number] = self.owners[last]
                    self.rows[number] = self.rows[last]
                self.rows.pop()
        self.owners = self.owners[: len(self.rows)]

    def _forward(
        self, tokens: list[list[int]], positions: list[list[int]], owners: Tensor, kept: list[int]
    ) -> list[list[int]]:
        """The most probable next tokens behind kept places of the newest columns."""
        device = self.model.device
        logits = self.model(
            input_ids=torch.tensor(tokens, device=device),
            attention_mask=_mask(self.model, owners, len(tokens[0])),
            position_ids=torch.tensor(positions, device=device),
            past_key_values=self.memory,
            use_cache=True,
            logits_to_keep=torch.tensor(kept, device=device),
        ).logits
        chosen: list[list[int]] = logits.float().argmax(dim=-1).tolist()
        return chosen


def _mask(model: Any, owners: Tensor, new: int) -> Tensor:  # noqa: ANN401
    """The mask added to the scores of the newest columns, shape (rows, 1, new, columns): 0 where they may look."""
    seeing, seen = owners[:, -new:, None], owners[:, None, :]
    visible = ((seen == _COMMON) & (seeing != _PADDING)) | (seen == seeing)
    visible[..., -new:].logical_and_(torch.ones(new, new, dtype=torch.bool, device=owners.device).tril())
    mask = torch.zeros(visible.shape, dtype=model.dtype, device=owners.device)
    return mask.masked_fill_(~visible, torch.finfo(model.dtype).min)[:, None]
