"""Decoding the questions of one document."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor
from transformers import LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from lift_eval.answering.choosing import Choose, Chosen, beyond_greedy, chooser
from lift_eval.answering.copied_prefix import CopiedPrefix
from lift_eval.answering.reading import Reading
from lift_eval.answering.settings import DecodingSettings
from lift_eval.answering.shared_prefix import decode_behind_prefix
from lift_eval.answering.thinking import Thinking
from lift_eval.errors import RecipeError
from lift_eval.models.loading import autocast, supports_prefix_sharing
from lift_eval.record.progress import OnProgress, ignore

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
            decoding where they do not ask to sample. Sampling keeps the limits (top_k, top_p) of the model's own
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


class _Stopping(StoppingCriteria):  # type: ignore[misc]
    """Ends a row as soon as its answer holds a stop string or has its form.

    Args:
        tokenizer: The tokenizer.
        decoding: Whose stop strings and form count.
        start: Columns of the prompts.
        opened: Whether the prompts end within thinking.
    """

    def __init__(self, tokenizer: Any, decoding: Decoding, start: int, *, opened: bool) -> None:  # noqa: ANN401
        self.tokenizer, self.decoding, self.start, self.opened = tokenizer, decoding, start, opened
        # A stop string of n characters lies within the last n tokens, each of at least one character; the margin
        # covers tokens that are part of one character.
        self.tail = max(map(len, decoding.stop), default=0) + 4

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: Any) -> Tensor:  # noqa: ANN401
        done = [self.ended(row) for row in input_ids[:, self.start :].tolist()]
        return torch.tensor(done, device=input_ids.device)

    def ended(self, ids: list[int]) -> bool:
        """Whether new tokens end an answer."""
        decoding, thinking = self.decoding, self.decoding.thinking
        tail = 0 if decoding.form else len(ids) - self.tail
        text = self.tokenizer.decode(ids[max(tail, decoding.min_new_tokens) :])
        if decoding.end(text) is None:
            return False
        answer = thinking.answer(self.tokenizer.decode(ids), opened=self.opened) if thinking else ""
        return thinking is None or (answer is not None and decoding.end(answer) is not None)


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


def answer(
    model: Any,  # noqa: ANN401 - PreTrainedModel or PeftModel
    tokenizer: Any,  # noqa: ANN401
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    *,
    batch: int,
    seed: int = 0,
    on_answered: OnProgress | None = None,
    reading: Reading | None = None,
) -> list[Answer]:
    """Answer prompts; what they begin with is read once.

    Answers of a model whose masks may be replaced are decoded by `decode_behind_prefix`, where a finished answer makes
    room for the next. Those of other models, and where more is asked for than `chooser` knows, are decoded by
    ``generate`` in batches of like length, which goes on from what `CopiedPrefix` has read.

    Args:
        model: In evaluation mode.
        tokenizer: Its tokenizer.
        prompts: Token ids of each prompt.
        decoding: How to decode.
        batch: Most prompts decoded at once; prompts that share a row count as one.
        seed: Of sampling; prompt n is sampled by this seed plus n, whatever stands beside it. (Where ``generate`` must
            choose, all prompts are sampled by this one, in their batches.)
        on_answered: Called as answers are done.
        reading: How prompts are read; then decoding must be greedy (`check_greedy`). None means as usual.

    Returns:
        The answers in the order of the prompts.
    """
    if not prompts:
        return []
    told = on_answered or ignore
    order = sorted(range(len(prompts)), key=lambda index: (-len(prompts[index]), list(prompts[index])))
    answers: dict[int, Answer] = {}
    with torch.inference_mode(), autocast(model.device, model.dtype), _seeded(seed):
        if reading is not None:
            return _answer_as_read(model, tokenizer, prompts, decoding, batch, reading, told)
        choose = chooser(model, decoding.arguments, range(seed, seed + len(prompts)))
        if choose and len(prompts) > 1 and supports_prefix_sharing(model):
            answers = decode_together(model, tokenizer, prompts, decoding, batch, told, choose=choose)
            return [answers[index] for index in range(len(prompts))]
        beams = decoding.options.get("num_beams", 1) != 1
        prefix = None if beams else CopiedPrefix.of(model, prompts, plain=choose is not None)
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            chosen = _as_chosen(choose, rows) if choose and decoding.samples else {}
            decoded = _decode(model, tokenizer, [prompts[index] for index in rows], decoding, prefix, chosen)
            answers.update(zip(rows, decoded, strict=True))
            told(len(answers), len(prompts), "")
    return [answers[index] for index in range(len(prompts))]


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Let ``generate`` sample by a seed inside, and nothing outside."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def _as_chosen(choose: Choose, prompts: Sequence[int]) -> dict[str, Any]:
    """Arguments by which ``generate`` takes what is chosen for some prompts."""
    return {**GREEDY, "logits_processor": LogitsProcessorList([Chosen(choose, prompts)])}


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


def _answer_as_read(
    model: Any,  # noqa: ANN401
    tokenizer: Any,  # noqa: ANN401
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    batch: int,
    reading: Reading,
    told: OnProgress,
) -> list[Answer]:
    answers: dict[int, Answer] = {}

    def told_of_all(done: int, _: int, note: str) -> None:
        told(len(answers) + done, len(prompts), note)

    for places, how, document in reading.groups(prompts):
        some = [prompts[place] for place in places]
        if how is None:
            usual = answer(model, tokenizer, some, decoding, batch=batch, on_answered=told_of_all)
            decoded = dict(enumerate(usual))
        else:
            more: dict[str, Any] = {"reading": how, "document": document}
            decoded = decode_together(model, tokenizer, some, decoding, batch, told_of_all, **more)
        answers.update({place: decoded[number] for number, place in enumerate(places)})
    return [answers[place] for place in range(len(prompts))]


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


def decode_together(
    model: Any,  # noqa: ANN401
    tokenizer: Any,  # noqa: ANN401
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    batch: int,
    told: OnProgress,
    follow: Follow | None = None,
    **how: Any,  # noqa: ANN401
) -> dict[int, Answer]:
    """Answers as `decode_behind_prefix` decodes them, whose other arguments are in ``how``."""
    ends = end_tokens(model, tokenizer)
    opened = _is_open(tokenizer, prompts, decoding)
    stopping = _Stopping(tokenizer, decoding, 0, opened=opened) if decoding.stops else None

    def cut(ids: list[int]) -> Answer:
        return _cut(tokenizer, ids, ends, decoding, opened=opened)

    new = decode_behind_prefix(
        model,
        prompts,
        batch=batch,
        max_new_tokens=decoding.max_new_tokens,
        ends=ends,
        stopped=stopping.ended if stopping else lambda _: False,
        follow=None if follow is None else lambda number, ids: follow(number, cut(ids)),
        told=told,
        **how,
    )
    return {number: cut(ids) for number, ids in new.items()}


def _is_open(tokenizer: Any, prompts: Sequence[Sequence[int]], decoding: Decoding) -> bool:  # noqa: ANN401
    """Whether prompts end within thinking: all of them do, or none, by their chat template."""
    return decoding.thinking is not None and decoding.thinking.is_open(
        tokenizer.decode(prompts[0][-END_OF_PROMPT:])
    )


def _decode(
    model: Any,  # noqa: ANN401
    tokenizer: Any,  # noqa: ANN401
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    prefix: CopiedPrefix | None,
    chosen: Mapping[str, Any],
) -> list[Answer]:
    ends = end_tokens(model, tokenizer)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (ends[0] if ends else 0)
    width = max(len(prompt) for prompt in prompts)
    rows = torch.full((len(prompts), width), pad, dtype=torch.int64)
    mask = torch.zeros_like(rows)
    for row, prompt in enumerate(prompts):
        rows[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    read = prefix.arguments(prompts) if prefix else {}
    if "cache_params" in read:  # a recurrent model is given what is left to read, and nothing else
        rows, mask = rows[:, -1:], mask[:, -1:]
    rows, mask, width = rows.to(model.device), mask.to(model.device), rows.shape[1]
    opened = _is_open(tokenizer, prompts, decoding)
    criteria = [_Stopping(tokenizer, decoding, width, opened=opened)] if decoding.stops else []
    held_back = [*ends, *_stop_tokens(tokenizer, decoding.stop)] if decoding.min_new_tokens else ends
    output = model.generate(
        input_ids=rows,
        attention_mask=mask,
        max_new_tokens=decoding.max_new_tokens,
        pad_token_id=pad,
        eos_token_id=held_back or None,
        stopping_criteria=StoppingCriteriaList(criteria),
        **read,
        **{**decoding.arguments, **chosen},
    )
    return [
        _cut(tokenizer, _without_padding(row, pad, ends), ends, decoding, opened=opened)
        for row in output[:, width:].tolist()
    ]


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


def _cut(tokenizer: Any, ids: list[int], ends: Sequence[int], decoding: Decoding, *, opened: bool) -> Answer:  # noqa: ANN401
    ended = next((i for i, token in enumerate(ids) if token in ends), None)
    thinking, stop = decoding.thinking, decoding.stop
    thought = thinking.count(tokenizer, ids[:ended], opened=opened) if thinking else 0
    least = max(decoding.min_new_tokens, thought)
    text, beginning = (
        tokenizer.decode(part, skip_special_tokens=True) for part in (ids[thought:ended], ids[thought:least])
    )
    if thought:
        text, beginning = text.lstrip(), beginning.lstrip()
    first = decoding.end(text, len(beginning))
    complete = ended is not None or first is not None
    if stop and not complete:  # a stop string may be a special token, which the text does not show
        tail = tokenizer.decode(ids[least:])
        complete = any(term in tail for term in stop)
    return Answer(text[:first], complete, thought, len(ids) if ended is None else ended)
