"""The processes of one machine or several that ``accelerate launch`` or ``torchrun`` started for one run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch.distributed as dist

from lift_eval.distribution.schedule import assign
from lift_eval.errors import WorkerError

T = TypeVar("T")

LONGEST_WAIT = timedelta(weeks=52)
"""A process that is ready waits for the others as long as they train; one that dies is noticed at once."""


_LAUNCH_VARIABLES = {"RANK", "MASTER_ADDR", "MASTER_PORT"}


class Processes:
    """All processes of this run; a single one where it was not launched as several.

    What they exchange goes over gloo, whatever the devices: it is text and small, and gloo notices a process that is
    gone by its closed connection.

    Attributes:
        rank: This process's number, from 0.
        count: How many there are.
    """

    def __init__(self) -> None:
        launched = dist.is_available() and (dist.is_initialized() or self._launched_without_gpus())
        self.count = dist.get_world_size() if launched else 1
        self.rank = dist.get_rank() if launched else 0
        with self._watched():
            self._group = dist.new_group(backend="gloo", timeout=LONGEST_WAIT) if self.count > 1 else None

    def _launched_without_gpus(self) -> bool:
        """Join the processes of ``torchrun`` where accelerate has not done so, as it does for GPUs only."""
        if int(os.environ.get("WORLD_SIZE", "1")) < 2 or not set(os.environ) >= _LAUNCH_VARIABLES:
            return False
        with self._watched():
            dist.init_process_group("gloo", timeout=LONGEST_WAIT)
        return True

    def label(self, what: str, count: int | None = None) -> str:
        """Name a share of the run for a person, e.g. ``12 documents (process 1 of 4)``."""
        counted = what if count is None else f"{count} {what}"
        return counted if self.count == 1 else f"{counted} (process {self.rank + 1} of {self.count})"

    def share(self, run: str, weights: Sequence[float]) -> list[int]:
        """This process's items, longest first; every process must call it.

        Args:
            run: Hash of what the run asks.
            weights: Of all items.

        Returns:
            Their places.

        Raises:
            WorkerError: If the processes do not ask the same.
        """
        if len(set(self.gather(run))) > 1:
            raise WorkerError(
                "the processes of a run must ask the same questions about the same documents, but their data sets "
                "differ; start them all with the same command on the same data"
            )
        return assign(weights, self.count)[self.rank]

    def gather(self, item: T) -> list[T]:
        """Hand an item to all processes, and get theirs; every process must call it.

        Args:
            item: Anything that can be pickled; it only ever comes from processes of the same run.

        Returns:
            The items of all processes, by rank.

        Raises:
            WorkerError: If a process is gone.
        """
        if self._group is None:
            return [item]
        items: list[T | None] = [None] * self.count
        with self._watched():
            dist.all_gather_object(items, item, group=self._group)
        return items  # type: ignore[return-value]  # none of them is none now

    @contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, dist.DistError) as error:
            raise WorkerError(
                "this process waited for another process of the run that has failed or was killed "
                f"({str(error).splitlines()[0][:200]}); see its own message. The store keeps what is finished: the "
                "same command continues from there"
            ) from error
