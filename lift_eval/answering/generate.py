"""Answers to questions about a document, and to a generator's requests: what prompts begin with is read once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from lift_eval.answering.batches import decode_in_batches
from lift_eval.answering.choosing import chooser, most_probable
from lift_eval.answering.decoding import Answer, Decoding, Follow
from lift_eval.answering.reading import Reading
from lift_eval.answering.together import decode_together
from lift_eval.models.loading import autocast, supports_prefix_sharing
from lift_eval.record.progress import OnProgress, ignore


def answer(
    model: Any,  # noqa: ANN401 - PreTrainedModel or PeftModel
    tokenizer: Any,  # noqa: ANN401
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    *,
    batch: int,
    seed: int = 0,
    on_answered: OnProgress = ignore,
    reading: Reading | None = None,
) -> list[Answer]:
    """Answer prompts.

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
    count = len(prompts)
    answers: dict[int, Answer] = {}
    for places, how, document in reading.groups(prompts) if reading else [(range(count), None, 0)]:
        decoded = _decode(
            model,
            tokenizer,
            [prompts[place] for place in places],
            decoding,
            batch,
            seed,
            partial(_tell_more, on_answered, len(answers), count),
            **({"reading": how, "document": document} if how else {}),
        )
        answers.update({place: decoded[number] for number, place in enumerate(places)})
    return [answers[place] for place in range(count)]


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
    """Answer prompts and then, greedily, the prompts that follow from the answers; what both begin with is read once.

    Args:
        model: See `answer`.
        tokenizer: See `answer`.
        prompts: Token ids of each first prompt.
        decoding: How to decode the answers to them.
        follow: Makes the second prompts.
        batch: See `answer`.
        seed: Of sampling; see `answer`.
        on_answered: Called as answers are done.

    Returns:
        Both answers, in the order of the prompts; None where there is no second prompt.
    """
    count = len(prompts)
    answers = _decode(model, tokenizer, prompts, decoding, batch, seed, on_answered, follow=follow)
    return [(answers[number], answers.get(number + count)) for number in range(count)]


def _decode(
    model: Any,  # noqa: ANN401
    tokenizer: Any,  # noqa: ANN401
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    batch: int,
    seed: int,
    told: OnProgress,
    **how: Any,  # noqa: ANN401
) -> dict[int, Answer]:
    """Answers by the numbers of their prompts.

    They are decoded together where masks may be replaced: a finished answer makes room for the next. Elsewhere, for a
    single prompt, and where more is asked for than `chooser` knows, ``generate`` decodes them in batches.
    """
    if not prompts:
        return {}
    choose = chooser(model, decoding.arguments, range(seed, seed + len(prompts)))
    asked = model, tokenizer, prompts, decoding, batch, told
    with torch.inference_mode(), autocast(model.device, model.dtype), _seeded(seed):
        together = choose is not None and supports_prefix_sharing(model) and len(prompts) > 1
        if together or "reading" in how:
            return decode_together(*asked, choose or most_probable, **how)
        return decode_in_batches(*asked, choose, **how)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Let ``generate`` sample by a seed inside, and nothing outside."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def _tell_more(told: OnProgress, before: int, total: int, done: int, _: int, note: str) -> None:
    """Tell of progress in a part, of which so many answers are done before it."""
    told(before + done, total, note)
