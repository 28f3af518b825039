"""Decoding of prompts under masks of our own: what all of them begin with is read once.

Prompts that have nearly everything in common share a row, whose keys and values are in memory once; what is each
prompt's own is a continuation in that row. Prompts that differ early, such as those whose middle is cut out at
different places, have rows of their own, side by side. In each step every continuation gets its next token. A finished
continuation leaves its row, and an empty row makes room for the next one that waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, count, pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache

from lift_eval.answering.choosing import Choose, most_probable
from lift_eval.answering.grouped_attention import grouped
from lift_eval.answering.key_values import SPARE, KeyValues, rows_that_fit
from lift_eval.answering.reading import Reading
from lift_eval.record.progress import OnProgress, ignore

MIN_SHARED_TOKENS = 64
"""A shorter common beginning is read with each prompt."""

CHUNK = 512
"""Most tokens read at once behind others: they look at all columns, and those of later tokens are wasted."""

REFILLED = 4
"""One in so many rows is empty before those that wait are read: side by side, which costs less than one by one."""

USUAL = Reading()

_COMMON, _PADDING = -1, -2
"""Columns that all continuations of a row see, and those that only padding sees."""

_OWNER = torch.int16
"""Masks compare the owners of all columns; narrow numbers do so fast."""


def shared_length(prompts: Sequence[Sequence[int]]) -> int:
    """Tokens that all prompts begin with, short of the shortest prompt's last."""
    first, last = min(prompts, key=list), max(prompts, key=list)
    limit = min(len(prompt) for prompt in prompts) - 1
    return next((i for i in range(limit) if first[i] != last[i]), limit)


def group_rows(prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Gather prompts, as indices, that are best decoded as continuations of one row.

    Continuations do not see each other, so all of them together are hardly longer than what they share.
    """

    def shared(row: Iterable[int]) -> int:
        return shared_length([prompts[index] for index in row])

    rows: list[list[int]] = []
    for index in sorted(range(len(prompts)), key=lambda index: list(prompts[index])):
        row = [*rows[-1], index] if rows else [index]
        common = shared(row)
        if rows and sum(len(prompts[one]) - common for one in row) <= common:
            rows[-1] = row
        else:
            rows.append([index])
    # A step reads as many tokens of each row as of the one with the most prompts.
    alike: list[list[list[int]]] = []
    for row in rows:
        if alike and len(alike[-1][0]) > 1 and shared(chain(*alike[-1], row)) == shared(alike[-1][0]):
            alike[-1].append(row)
        else:
            alike.append([row])
    return [part for some in alike for part in _evenly(list(chain(*some)), len(some))]


def _evenly(prompts: Sequence[int], rows: int) -> list[list[int]]:
    """Prompts spread over rows, in order."""
    edges = [len(prompts) * row // rows for row in range(rows + 1)]
    return [list(prompts[start:stop]) for start, stop in pairwise(edges)]


def decode_behind_prefix(
    model: Any,  # noqa: ANN401 - PreTrainedModel or PeftModel
    prompts: Sequence[Sequence[int]],
    *,
    batch: int,
    max_new_tokens: int,
    ends: Sequence[int],
    stopped: Callable[[list[int]], bool],
    choose: Choose = most_probable,
    told: OnProgress = ignore,
    reading: Reading = USUAL,
    document: int = 0,
) -> list[list[int]]:
    """Decode prompts.

    Args:
        model: In evaluation mode, with full attention in every layer.
        prompts: Token ids.
        batch: Most rows side by side; fewer where a GPU's memory does not hold them.
        max_new_tokens: Most tokens of an answer.
        ends: Tokens that end an answer.
        stopped: Whether an answer is ended by its tokens so far.
        choose: How tokens are chosen.
        told: Called after each answer.
        reading: How prompts are read.
        document: How many tokens are read before some are dropped; 0 where all are kept.

    Returns:
        The new tokens of each prompt, the one that ended it included.
    """
    held = reading.held_back
    read = [prompt[: len(prompt) - held] for prompt in prompts]
    shared = min(shared_length(read), document or len(read[0]))
    shared = shared if shared >= MIN_SHARED_TOKENS or document else 0
    beginning = DynamicCache(config=model.config)
    if shared:
        with reading.reader():
            beginning = reading.first(model, torch.tensor([list(read[0][:shared])], device=model.device))
    dropped = shared - beginning.get_seq_length()
    rows = [_CacheRow.of(row, read, shared).without(dropped) for row in group_rows(read)]
    for one in (one for row in rows for one in row.continuations):
        one.held = list(prompts[one.prompt][len(read[one.prompt]) :])
    rows.sort(key=lambda row: -len(row.tokens))  # those read side by side are of like length
    width = len(rows[0].tokens) + SPARE
    size = min(batch, len(rows), rows_that_fit(beginning, width) or batch)
    finished = count(1)

    def ended(ids: list[int]) -> bool:
        new = ids[held:]
        over = bool(new) and (len(new) >= max_new_tokens or new[-1] in ends or stopped(new))
        if over:
            told(next(finished), len(prompts), "")
        return over

    _Decoder(model, beginning, size, width, reading, choose).decode(rows, ended)
    answers = {one.prompt: one.answer[held:] for row in rows for one in row.continuations}
    return [answers[index] for index in range(len(prompts))]


@dataclass
class _Continuation:
    """A prompt and its answer so far.

    Attributes:
        prompt: Number of the prompt.
        length: Of its tokens.
        end: Column of its last token in the row.
        held: Tokens of the prompt that are not read with the rest of it.
        answer: These, and new tokens.
    """

    prompt: int
    length: int
    end: int
    held: list[int] = field(default_factory=list)
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
        used: Columns that hold something.
    """

    tokens: list[int]
    positions: list[int]
    owners: list[int]
    continuations: list[_Continuation]
    alive: list[int]
    used: int

    @classmethod
    def of(cls, indices: Sequence[int], prompts: Sequence[Sequence[int]], shared: int) -> _CacheRow:
        """Lay out prompts; a single one goes on where all rows do."""
        row = [prompts[index] for index in indices]
        common = shared_length(row) if len(row) > 1 else shared
        tokens, positions = list(row[0][:common]), list(range(common))
        owners, continuations = [_COMMON] * common, []
        for number, (index, prompt) in enumerate(zip(indices, row, strict=True)):
            tokens += prompt[common:]
            positions += range(common, len(prompt))
            owners += [number] * (len(prompt) - common)
            continuations.append(_Continuation(index, len(prompt), len(tokens) - 1))
        return cls(tokens, positions, owners, continuations, list(range(len(continuations))), len(tokens))

    def without(self, columns: int) -> _CacheRow:
        """The row when so many of its first columns have been dropped from memory."""
        for one in self.continuations:
            one.end -= columns
        kept = (self.tokens[columns:], self.positions[columns:], self.owners[columns:])
        return _CacheRow(*kept, self.continuations, self.alive, self.used - columns)


class _Decoder:
    """Decodes rows side by side.

    Args:
        model: The model.
        beginning: Keys and values of what all rows begin with.
        size: How many rows there is room for.
        width: Columns to make room for.
        reading: How prompts are read.
        choose: How tokens are chosen.
    """

    def __init__(
        self,
        model: Any,  # noqa: ANN401
        beginning: DynamicCache,
        size: int,
        width: int,
        reading: Reading,
        choose: Choose,
    ) -> None:
        self.model, self.size, self.reading, self.choose = model, size, reading, choose
        self.shared = beginning.get_seq_length()
        self.rows: list[_CacheRow] = []
        self.memory = KeyValues(beginning, size, width)
        self.owners = torch.full((size, width), _PADDING, dtype=_OWNER, device=model.device)
        self.owners[:, : self.shared] = _COMMON

    def decode(self, rows: Iterable[_CacheRow], finished: Callable[[list[int]], bool]) -> None:
        """Choose the tokens of all answers in some rows."""
        waiting = deque(rows)
        while waiting or self.rows:
            self._leave(finished)
            free = self.size - len(self.rows)
            if waiting and (not self.rows or free * REFILLED >= self.size):
                self._enter([waiting.popleft() for _ in range(min(free, len(waiting)))])
            elif self.rows:
                with grouped(self.model):
                    self._write()

    def _leave(self, finished: Callable[[list[int]], bool]) -> None:
        """Let finished continuations go; an empty row's place is taken by the last row."""
        for row in self.rows:
            row.alive = [number for number in row.alive if not finished(row.continuations[number].answer)]
        for number in reversed(range(len(self.rows))):
            if not self.rows[number].alive:
                last = len(self.rows) - 1
                if number < last:
                    self.memory.move(last, number, self.rows[last].used)
                    self.owners[number] = self.owners[last]
                    self.rows[number] = self.rows[last]
                self.rows.pop()

    def _enter(self, rows: list[_CacheRow]) -> None:
        """Read rows, as many side by side as make few tokens, and choose the first token of each answer."""
        together = max(CHUNK // (len(rows[0].tokens) - self.shared), 1)
        for start in range(0, len(rows), together):
            with self.reading.reader():
                self._read(rows[start : start + together])

    def _read(self, rows: list[_CacheRow]) -> None:
        places = slice(len(self.rows), len(self.rows) + len(rows))
        for start in range(self.shared, len(rows[0].tokens), CHUNK):
            part = slice(start, start + CHUNK)
            ends = {one.end for row in rows for one in row.continuations if start <= one.end < part.stop}
            kept = sorted(end - start for end in ends) or [0]
            logits = self._forward(
                places,
                [start] * len(rows),
                [row.tokens[part] for row in rows],
                [row.positions[part] for row in rows],
                [row.owners[part] for row in rows],
                kept,
            )
            self._choose(
                logits,
                [
                    (number, kept.index(one.end - start), one)
                    for number, row in enumerate(rows)
                    for one in row.continuations
                    if one.end in ends
                ],
            )
        self.rows += rows

    def _write(self) -> None:
        """Choose the next token of each answer."""
        continuations = [[row.continuations[number] for number in row.alive] for row in self.rows]
        logits = self._forward(
            slice(0, len(self.rows)),
            [row.used for row in self.rows],
            [[one.answer[-1] for one in row] for row in continuations],
            [[one.length + len(one.answer) - 1 for one in row] for row in continuations],
            [row.alive for row in self.rows],
            list(range(max(map(len, continuations)))),
        )
        for row in self.rows:
            row.used += len(row.alive)
        self._choose(
            logits,
            [
                (number, place, one)
                for number, row in enumerate(continuations)
                for place, one in enumerate(row)
            ],
        )

    def _choose(self, logits: Tensor, behind: list[tuple[int, int, _Continuation]]) -> None:
        """Choose the next token of continuations, each behind a place in a row."""
        if not behind:
            return
        rows, places, continuations = zip(*behind, strict=True)
        tokens = self.choose(logits[list(rows), list(places)], [one.prompt for one in continuations])
        for one, token in zip(continuations, tokens, strict=True):
            # What is held back stands in place of what the reader would say.
            one.answer += one.held if one.held and not one.answer else [token]

    def _forward(
        self,
        places: slice,
        starts: list[int],
        tokens: list[list[int]],
        positions: list[list[int]],
        owners: list[list[int]],
        kept: list[int],
    ) -> Tensor:
        """Read tokens of some rows, each from a column on.

        Returns:
            Logits behind kept places among them, shape (rows, kept, vocabulary).
        """
        device, width = self.model.device, max(map(len, tokens))
        columns = torch.tensor(starts, device=device)[:, None] + torch.arange(width, device=device)
        stop = max(starts) + width
        if stop > self.owners.shape[1]:
            self.owners = pad(self.owners, (0, stop + SPARE - self.owners.shape[1]), value=_PADDING)
        seen = self.owners[places, :stop]
        seen.scatter_(1, columns, _filled(owners, width, _PADDING).to(device, _OWNER))
        self.memory.aim(places, columns, stop)
        logits: Tensor = self.model(
            input_ids=_filled(tokens, width, 0).to(device),
            attention_mask=_mask(self.model, seen, columns),
            position_ids=_filled(positions, width, 0).to(device),
            past_key_values=self.memory,
            use_cache=True,
            logits_to_keep=torch.tensor(kept, device=device),
        ).logits
        return logits


def _filled(rows: list[list[int]], width: int, filler: int) -> Tensor:
    return torch.tensor([[*row, *[filler] * (width - len(row))] for row in rows])


def _mask(model: Any, owners: Tensor, columns: Tensor) -> Tensor:  # noqa: ANN401
    """The mask added to the scores of new columns, shape (rows, 1, new, columns): 0 where they may look."""
    seeing, seen = owners.gather(1, columns)[..., None], owners[:, None, :]
    visible = ((seen == _COMMON) & (seeing != _PADDING)) | (seen == seeing)
    visible &= torch.arange(owners.shape[1], device=owners.device) <= columns[..., None]
    mask = torch.zeros(visible.shape, dtype=model.dtype, device=owners.device)
    return mask.masked_fill_(~visible, torch.finfo(model.dtype).min)[:, None]
