"""Work of several processes at once, timed from the moment when all of them are ready."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from typing import Any, TypeAlias

Prepare: TypeAlias = Callable[..., Callable[[], object]]
"""Makes ready what one process does, from the number of the process and what all are given."""


def seconds_together(processes: int, prepare: Prepare, *given: object) -> float:
    """Seconds of wall clock until the last process is done.

    Args:
        processes: How many are started.
        prepare: A function of a module, since a new process has to find it.
        given: Passed on to it.

    Raises:
        RuntimeError: If a process fails.
    """
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(processes + 1, timeout=600)
    workers = [
        context.Process(target=_work, args=(ready, prepare, number, *given)) for number in range(processes)
    ]
    for worker in workers:
        worker.start()
    ready.wait()
    began = time.perf_counter()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise RuntimeError("a process failed; its error is above")
    return time.perf_counter() - began


def _work(ready: Barrier, prepare: Prepare, number: int, *given: Any) -> None:  # noqa: ANN401
    work = prepare(number, *given)
    ready.wait()
    work()
