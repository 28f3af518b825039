"""Decoding of prompts under masks of our own: what all of them begin with is read once.

Prompts that have nearly everything in common share a row, whose keys and values are in memory once; what is each
prompt's own is a continuation in that row. Prompts that differ early, such as those whose middle is cut out at
different places, have rows of their own, side by side. In each step every continuation gets its next token. A finished
continuation leaves its row, and those that are left move together: into few rows, to make room for the next ones that
wait, or evenly into all rows when none wait. Where a second prompt follows from an answer, it stays in the row, and
what both prompts begin with is not read again.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache

from lift_eval.answering.cache_rows import (
    COMMON,
    PADDING,
    CacheRow,
    Continuation,
    evenly,
    lay_out,
    shared_length,
)
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

FollowIds: TypeAlias = Callable[[int, list[int]], Sequence[int] | None]
"""Makes a second prompt, by the number of the first and the new tokens behind it. None means that there is none."""

_OWNER = torch.int16
"""Masks compare the owners of all columns; narrow numbers do so fast."""


def decode_behind_prefix(
    model: Any,  # noqa: ANN401 - PreTrainedModel or PeftModel
    prompts: Sequence[Sequence[int]],
    *,
    batch: int,
    max_new_tokens: int,
    ends: Sequence[int],
    stopped: Callable[[list[int]], bool],
    choose: Choose = most_probable,
    follow: FollowIds | None = None,
    alike: Sequence[int] = (),
    told: OnProgress = ignore,
    reading: Reading = USUAL,
    document: int = 0,
) -> dict[int, list[int]]:
    """Decode prompts.

    Args:
        model: In evaluation mode, with full attention in every layer.
        prompts: Token ids.
        batch: Most rows side by side; fewer where a GPU's memory does not hold them.
        max_new_tokens: Most tokens of an answer.
        ends: Tokens that end an answer.
        stopped: Whether an answer is ended by its tokens so far.
        choose: How tokens are chosen. Second prompts are numbered behind all first ones, in their order.
        follow: Makes second prompts. None means that there are none.
        alike: For each prompt, how many of its tokens its second one begins with; all of them if it has none.
        told: Called after each answer.
        reading: How prompts are read.
        document: How many tokens are read before some are dropped; 0 where all are kept.

    Returns:
        The new tokens of each prompt, by its number, the one that ended them included.
    """
    held = reading.held_back
    read = [prompt[: len(prompt) - held] for prompt in prompts]
    shared = min(shared_length(read), document or len(read[0]), *alike)
    shared = shared if shared >= MIN_SHARED_TOKENS or document else 0
    beginning = DynamicCache(config=model.config)
    if shared:
        with reading.reader():
            beginning = reading.first(model, torch.tensor([list(read[0][:shared])], device=model.device))
    dropped = shared - beginning.get_seq_length()
    rows = lay_out(prompts, held, shared, alike, dropped)
    width = len(rows[0].tokens) + SPARE
    size = min(batch, len(rows), rows_that_fit(beginning, width) or batch)

    def over(new: list[int]) -> bool:
        return bool(new) and (len(new) >= max_new_tokens or new[-1] in ends or stopped(new))

    answers = _Answers(len(prompts), over, follow, told)
    _Decoder(model, beginning, size, width, reading, choose).decode(rows, answers)
    return answers.done


class _Answers:
    """Answers that are done, and the prompts that follow from them.

    Args:
        count: How many first prompts there are.
        over: Whether new tokens are a whole answer.
        follow: See `decode_behind_prefix`.
        told: Called after each answer.

    Attributes:
        done: The new tokens of each prompt, by its number.
    """

    def __init__(
        self, count: int, over: Callable[[list[int]], bool], follow: FollowIds | None, told: OnProgress
    ) -> None:
        self.count, self.over, self.follow, self.told = count, over, follow, told
        self.done: dict[int, list[int]] = {}

    def takes(self, one: Continuation) -> bool:
        """Whether the answer of a continuation is whole; then it is done."""
        new = one.answer[len(one.held) :]
        if not self.over(new):
            return False
        self.done[one.prompt] = new
        self.told(len(self.done), self.count if self.follow is None else 2 * self.count, "")
        return True

    def following(self, prompt: int) -> tuple[int, Sequence[int]] | None:
        """The number and the tokens of the prompt that follows from the answer to another; None where none does."""
        if self.follow is None or prompt >= self.count:
            return None
        second = self.follow(prompt, self.done[prompt])
        return None if second is None else (prompt + self.count, second)


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
        self.rows: list[CacheRow] = []
        self.memory = KeyValues(beginning, size, width)
        self.owners = torch.full((size, width), PADDING, dtype=_OWNER, device=model.device)
        self.owners[:, : self.shared] = COMMON

    def decode(self, rows: Iterable[CacheRow], answers: _Answers) -> None:
        """Choose the tokens of all answers in some rows, and of those to the prompts that follow from them."""
        waiting = deque(rows)
        while waiting or self.rows:
            for place, row in enumerate(self.rows):
                row.alive = [one for number in row.alive for one in self._going_on(place, number, answers)]
            self._leave()
            if self.rows and answers.follow is None:
                self._balance(full=bool(waiting))
            free = self.size - len(self.rows)
            if waiting and (not self.rows or self._has_room(len(self.rows))):
                self._enter([waiting.popleft() for _ in range(min(free, len(waiting)))])
            elif self.rows:
                with grouped(self.model):
                    self._write()

    def _going_on(self, place: int, number: int, answers: _Answers) -> Iterator[int]:
        """The continuation that has tokens to come: this one, or the prompt that follows from it, or none."""
        row = self.rows[place]
        while answers.takes(one := row.continuations[number]):
            second = answers.following(one.prompt)
            if second is None:
                return
            with grouped(self.model):
                number = self._follow(place, *second)
        yield number

    def _follow(self, place: int, prompt: int, ids: Sequence[int]) -> int:
        """Read a second prompt in a row, and choose the first token of its answer; its number in the row."""
        row = self.rows[place]
        number, start, column = row.follow(prompt, ids)
        rest = list(ids[start:])
        logits = self._forward(
            slice(place, place + 1),
            [column],
            [rest],
            [list(range(start, len(ids)))],
            [[number] * len(rest)],
            [len(rest) - 1],
        )
        self._choose(logits, [(0, 0, row.continuations[number])])
        return number

    def _leave(self) -> None:
        """Let rows without a continuation go; the place of such a row is taken by the last one."""
        for number in reversed(range(len(self.rows))):
            if not self.rows[number].alive:
                last = len(self.rows) - 1
                if number < last:
                    self.memory.move(last, number, self.rows[last].used)
                    self.owners[number] = self.owners[last]
                    self.rows[number] = self.rows[last]
                self.rows.pop()

    def _balance(self, *, full: bool) -> None:
        """Spread the continuations evenly over the rows, where a step then reads a third fewer tokens.

        What a continuation sees beyond the beginning of all rows goes with it. Rows do not become wider.

        Args:
            full: Whether to fill few rows instead, where that makes room for those that wait.
        """
        alive = [(place, number) for place, row in enumerate(self.rows) for number in row.alive]
        most, widest = max(len(row.alive) for row in self.rows), max(row.used for row in self.rows)
        if full:
            rows = math.ceil(len(alive) / most)
            gains = self._has_room(rows) and not self._has_room(len(self.rows))
        else:
            rows = len(self.rows)
            gains = 3 * math.ceil(len(alive) / rows) <= 2 * most
        if not gains:
            return
        parts = evenly([(place, number, self._own(place, number)) for place, number in alive], rows)
        columns = [[column for *_, own in part for column in own] for part in parts]
        width = max(map(len, columns))
        if self.shared + width > widest:
            return
        sources = [[place for place, _, own in part for _ in own] for part in parts]
        owners = [[number for number, (*_, own) in enumerate(part) for _ in own] for part in parts]
        places, taken = (_filled(one, width, 0).to(self.model.device) for one in (sources, columns))
        self.memory.spread(places, taken, self.shared)
        self.owners[:rows, self.shared :] = PADDING
        self.owners[:rows, self.shared : self.shared + width] = _filled(owners, width, PADDING)
        common = [COMMON] * self.shared
        self.rows = [
            CacheRow.moved(
                [self.rows[place].continuations[number] for place, number, _ in part], common + own
            )
            for part, own in zip(parts, owners, strict=True)
        ]

    def _has_room(self, rows: int) -> bool:
        """Whether those that wait are read when so many rows are decoded."""
        return (self.size - rows) * REFILLED >= self.size

    def _own(self, place: int, number: int) -> list[int]:
        """The columns that a continuation sees beyond the beginning of all rows."""
        owners = self.rows[place].owners[self.shared :]
        return [column for column, owner in enumerate(owners, self.shared) if owner in (COMMON, number)]

    def _enter(self, rows: list[CacheRow]) -> None:
        """Read rows, as many side by side as make few tokens, and choose the first token of each answer."""
        together = max(CHUNK // (len(rows[0].tokens) - self.shared), 1)
        for start in range(0, len(rows), together):
            with self.reading.reader():
                self._read(rows[start : start + together])

    def _read(self, rows: list[CacheRow]) -> None:
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
            row.owners += row.alive
        self._choose(
            logits,
            [
                (number, place, one)
                for number, row in enumerate(continuations)
                for place, one in enumerate(row)
            ],
        )

    def _choose(self, logits: Tensor, behind: list[tuple[int, int, Continuation]]) -> None:
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
            self.owners = pad(self.owners, (0, stop + SPARE - self.owners.shape[1]), value=PADDING)
        seen = self.owners[places, :stop]
        seen.scatter_(1, columns, _filled(owners, width, PADDING).to(device, _OWNER))
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
    visible = ((seen == COMMON) & (seeing != PADDING)) | (seen == seeing)
    visible &= torch.arange(owners.shape[1], device=owners.device) <= columns[..., None]
    mask = torch.zeros(visible.shape, dtype=model.dtype, device=owners.device)
    return mask.masked_fill_(~visible, torch.finfo(model.dtype).min)[:, None]
