"""Workers on one machine or many, by Ray: each holds the base model, and documents are handed to them one at a time.

    lm_eval --model lift --model_args pretrained=M,workers=8,workers.address=auto ...

A worker that dies or hangs loses its document, no more: another one does it, and a new worker takes its place. Where
the cluster has less room than there are workers asked for, those that find room begin, and nodes that join later are
used as they come.
"""

from __future__ import annotations

import importlib
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lift_eval.distribution.groups import Group, Outcome
from lift_eval.distribution.schedule import longest_first
from lift_eval.errors import LiftEvalError, RecipeError, WorkerError, sentences_of
from lift_eval.record.peak_memory import peak_memory_bytes
from lift_eval.record.record import DocumentRecord

logger = logging.getLogger(__name__)

ATTEMPTS = 3
"""Workers that may die or hang over one document before it is given up, and in a row while they start."""
POLL_SECONDS = 1.0
CALL_SECONDS = 10.0
PATIENCE_SECONDS = 60.0
"""Time after which a run without any worker says what it waits for."""


class ClusterSettings(BaseModel):
    """What ``--model_args`` may say of workers: ``workers=8`` and dotted keys.

    Attributes:
        count: Most workers at a time (``workers``).
        gpus: Of each worker; a part of one lets several share it, 0 keeps them on CPUs.
        cpus: Of each worker.
        timeout: Seconds after which a worker that has not finished its document counts as hung.
        address: Address of a running Ray cluster; ``auto`` means the one of this machine. None starts a cluster here.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        alias_generator=lambda name: "workers" if name == "count" else f"workers.{name}",
    )
    count: int = Field(ge=1, le=10_000)
    gpus: float = Field(default=1, ge=0)
    cpus: float = Field(default=1, ge=0)
    timeout: float = Field(default=24 * 3600, gt=0)
    address: str | None = None


def cluster_settings(workers: object, arguments: dict[str, Any]) -> ClusterSettings | None:
    """Take what concerns workers out of the model arguments.

    Args:
        workers: The argument ``workers``. None means no cluster.
        arguments: The other model arguments; those that begin with ``workers.`` are taken out.

    Returns:
        The settings. None means a run in this process.

    Raises:
        RecipeError: If they are wrong, or there is no ``workers`` for them.
    """
    given = {key: arguments.pop(key) for key in list(arguments) if key.startswith("workers.")}
    if workers is None:
        if given:
            raise RecipeError(
                "model arguments",
                [f"'{key}' describes workers, but their number is missing; add workers=N" for key in given],
            )
        return None
    try:
        return ClusterSettings.model_validate({"workers": workers, **given})
    except ValidationError as error:
        raise RecipeError("model arguments", sentences_of(error, ClusterSettings)) from None


def cluster_arguments(address: str, workers: int | None = None) -> dict[str, int | str]:
    """Model arguments for a run on a running cluster.

    Args:
        address: Of the cluster; ``auto`` for the one that this machine belongs to.
        workers: Most workers. None means one on each GPU that the cluster has now, or on each CPU where it has no GPU.

    Raises:
        WorkerError: If Ray is not installed, or there is no cluster at the address.
    """
    ray = _import_ray()
    own = not ray.is_initialized()
    _connect(ray, address=address)
    resources = ray.cluster_resources()
    if own:
        ray.shutdown()
    gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
    on_cpus: dict[str, int | str] = {} if gpus else {"workers.gpus": 0}
    return {"workers": workers or gpus or max(cpus, 1), "workers.address": address, **on_cpus}


def _import_ray() -> Any:  # noqa: ANN401 - a module without types
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise WorkerError(
            "workers=... needs Ray: pip install 'lift-eval[ray]', or leave workers out"
        ) from error


def _connect(ray: Any, **where: Any) -> None:  # noqa: ANN401 - Ray's own arguments
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    try:
        _call(where.get("address"))
        ray.init(log_to_driver=False, logging_level="ERROR", **where)
    except (OSError, ValueError) as error:  # among them ConnectionError
        raise WorkerError(
            f"there is no Ray cluster at '{where.get('address')}' ({_last_line(error)}); 'ray status' shows the one of "
            "this machine, 'ray start --head' starts one"
        ) from error


def _call(address: str | None) -> None:
    """Fail at once where nobody listens; Ray itself would try for minutes."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CALL_SECONDS).close()


class _Worker:
    """What runs in a worker's process: a whole model of its own."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def start(self) -> dict[str, Any]:
        """Load the model, and say what it is. Not in the constructor: its exceptions would arrive as text."""
        self._model = self._make()
        info: dict[str, Any] = self._model.get_model_info()
        return info

    def work(self, kind: str, group: Group, earlier: DocumentRecord | None) -> tuple[Outcome, int]:
        outcome: Outcome = self._model.work(kind, group, earlier=earlier)
        return outcome, peak_memory_bytes()


@dataclass
class _Task:
    """A group that is at work.

    Attributes:
        worker: Handle of the worker that has it; it is ready where the place is none.
        place: Place of the group in the run. None means that the worker is starting.
        since: When it was handed over.
    """

    worker: Any
    place: int | None
    since: float


class Cluster:
    """A set of workers; it is started when the first documents come.

    Args:
        settings: How many, and what each needs.
        make: Makes the model class of one worker; it runs in the worker's process.

    Raises:
        WorkerError: If Ray is not installed.
    """

    def __init__(self, settings: ClusterSettings, make: Callable[[], Any]) -> None:
        self._ray = _import_ray()
        self.settings = settings
        self.info: dict[str, Any] = {}
        self.peak_memory_bytes = 0
        self._make = make
        self._idle: list[Any] = []
        self._tasks: dict[Any, _Task] = {}
        self._failed_starts = 0

    def outcomes(
        self,
        kind: str,
        groups: Sequence[Group],
        weights: Sequence[float],
        known: Mapping[str, DocumentRecord],
    ) -> Iterator[tuple[int, Outcome]]:
        """Have groups worked on, the longest documents first.

        Args:
            kind: Of the requests.
            groups: All groups.
            weights: Their lengths.
            known: Records of earlier in the run, by the documents' hashes.

        Yields:
            Place and outcome of each group as it is finished.

        Raises:
            LiftEvalError: If a worker raises an error that the user can fix.
            WorkerError: If workers fail before they are ready.
        """
        waiting = deque(longest_first(weights))
        attempts = dict.fromkeys(waiting, 0)
        self._start()
        began, warned = time.monotonic(), False
        while waiting or any(task.place is not None for task in self._tasks.values()):
            while waiting and self._idle:
                self._hand_over(kind, groups, waiting.popleft(), known)
            for reference in self._finished():
                task = self._tasks.pop(reference)
                try:
                    result = self._ray.get(reference)
                except self._ray.exceptions.RayTaskError as error:
                    raise _cause(error) from error
                except self._ray.exceptions.RayError as error:
                    self._replace(task, error)
                    if task.place is not None:
                        attempts[task.place] += 1
                        if attempts[task.place] < ATTEMPTS:
                            waiting.appendleft(task.place)
                        else:
                            yield task.place, _give_up(groups[task.place], error)
                    continue
                self._idle.append(task.worker)
                if task.place is None:
                    self.info, self._failed_starts = result, 0
                else:
                    outcome, peak = result
                    self.peak_memory_bytes = max(self.peak_memory_bytes, peak)
                    yield task.place, outcome
            if not self.info and not warned and time.monotonic() - began > PATIENCE_SECONDS:
                warned = True
                logger.warning(
                    "no worker has started yet: each asks for %g GPUs and %g CPUs, and the cluster has %s",
                    self.settings.gpus,
                    self.settings.cpus,
                    self._ray.cluster_resources(),
                )

    def close(self) -> None:
        """End all workers; those of a run that is interrupted would finish their documents for nobody."""
        for worker in [*self._idle, *(task.worker for task in self._tasks.values())]:
            self._ray.kill(worker)
        self._idle, self._tasks = [], {}

    def _start(self) -> None:
        settings = self.settings
        here: dict[str, Any] = (
            {"address": settings.address}
            if settings.address
            else {"num_cpus": max(1, round(settings.count * settings.cpus)), "include_dashboard": False}
        )
        _connect(self._ray, **here)
        while len(self._idle) + len(self._tasks) < self.settings.count:
            self._add_worker()

    def _add_worker(self) -> None:
        resources = {"num_gpus": self.settings.gpus, "num_cpus": self.settings.cpus}
        worker = self._ray.remote(**resources)(_Worker).remote(self._make)
        self._tasks[worker.start.remote()] = _Task(worker, None, time.monotonic())

    def _hand_over(
        self, kind: str, groups: Sequence[Group], place: int, known: Mapping[str, DocumentRecord]
    ) -> None:
        worker, document = self._idle.pop(), groups[place].document
        earlier = known.get(document.digest) if document else None
        reference = worker.work.remote(kind, groups[place], earlier)
        self._tasks[reference] = _Task(worker, place, time.monotonic())

    def _finished(self) -> list[Any]:
        """Wait a little for tasks that end, and end those that take too long."""
        ended, _ = self._ray.wait(list(self._tasks), timeout=POLL_SECONDS)
        for reference, task in self._tasks.items():
            if (
                task.place is not None
                and reference not in ended
                and time.monotonic() - task.since > self.settings.timeout
            ):
                logger.warning(
                    "a worker has not finished its document in %g s and is stopped", self.settings.timeout
                )
                self._ray.kill(task.worker)
                task.since = time.monotonic()  # its task ends with the error of a worker that died
        return list(ended)

    def _replace(self, task: _Task, error: Exception) -> None:
        """Start another worker for one that is gone."""
        if task.place is None:
            self._failed_starts += 1
            if self._failed_starts >= ATTEMPTS:
                raise WorkerError(
                    f"{ATTEMPTS} workers in a row failed before they were ready: {_last_line(error)}; see the logs of "
                    "Ray on their machines"
                ) from error
        logger.warning("a worker died (%s); another one replaces it", _last_line(error))
        self._add_worker()


def _cause(error: Any) -> BaseException:  # noqa: ANN401 - RayTaskError
    """What was raised in the worker; a fault of the program keeps its traceback, which Ray's error shows."""
    return error.cause if isinstance(error.cause, LiftEvalError) else error


def _give_up(group: Group, error: Exception) -> Outcome:
    record = DocumentRecord(
        digest=group.document.digest if group.document else "",
        title=group.document.title if group.document else "",
    )
    record.give_up(
        WorkerError(f"{ATTEMPTS} workers died or hung over it, the last: {_last_line(error)}"),
        len(group.requests),
    )
    return Outcome((), record)


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()


class ModelElsewhere:
    """Stands for the base model where only workers have it."""

    def to(self, device: object) -> ModelElsewhere:
        """Do nothing: there is nothing to move."""
        return self
