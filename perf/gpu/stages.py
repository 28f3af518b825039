"""The stages in order of value: what is known after the first of them matters most."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from common.setting import Row

from gpu.bench import GIB, QUANTIZATIONS, Bench
from gpu.decoding import questions, requests
from gpu.documents import documents
from gpu.micro_batch import micro_batches
from gpu.switches import SWITCHES, switched
from gpu.training import train
from gpu.works import WORKS


@dataclass(frozen=True)
class Stage:
    """One question.

    Attributes:
        name: What it is called on the command line.
        bound: Seconds that it may take at most, the making of its model included.
        rows: Answers it on a bench, part by part; rows of the same first value replace one another.
    """

    name: str
    bound: float
    rows: Callable[[Bench], Iterator[Row]]


def peaks(bench: Bench) -> Iterator[Row]:
    """What the device does at most."""
    memory = torch.cuda.mem_get_info()[1] / GIB if bench.measures_memory else None
    yield {
        "": bench.size.device,
        "T op/s": bench.peak / 1e12,
        "GB copied/s": bench.copy_peak / 1e9,
        "GiB": memory,
    }


def _stages() -> Iterator[Stage]:
    yield Stage("peaks", 20, peaks)
    for precision in QUANTIZATIONS:
        for work in WORKS:
            bound = 75 if work == "published" else 45
            yield Stage(f"train-{work}-{precision}", bound, partial(train, work=work, precision=precision))
        yield Stage(f"decode-questions-{precision}", 35, partial(questions, precision=precision))
        yield Stage(f"decode-requests-{precision}", 35, partial(requests, precision=precision))
    for recipe, precision in (("lora", "bf16"), ("llama3_loogle", "nf4")):
        run = partial(micro_batches, recipe=recipe, precision=precision)
        yield Stage(f"micro-batch-{recipe}-{precision}", 90, run)
    for name in SWITCHES:
        yield Stage(f"switch-{name}", 90 if name == "compile" else 45, partial(switched, switch=name))
    yield Stage("documents", 90, documents)


STAGES = {stage.name: stage for stage in _stages()}
"""By their names, in order of value."""
