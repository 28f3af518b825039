"""Running stages within their bounds, each in a process that can be ended."""

from __future__ import annotations

import json
import multiprocessing
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import transformers
from common.setting import Row, about, console, print_rows

from gpu.bench import Bench, Size
from gpu.stages import STAGES
from lift_eval.models.faults import first_line

START_SECONDS = 45.0
"""What a process may take until it can run a stage; it may take longer as long as the stage still fits in."""


class StageError(Exception):
    """A stage that was not finished, and why.

    Attributes:
        ends_worker: Whether its process is of no more use.
    """

    def __init__(self, reason: str, *, ends_worker: bool = True) -> None:
        super().__init__(reason)
        self.ends_worker = ends_worker


class Worker:
    """A process that runs stages and keeps their model between them.

    Args:
        size: Of the model.
        seconds: Most that it may take until it can run a stage.

    Attributes:
        about: The machine and the versions, in a line.

    Raises:
        StageError: If the process does not start.
    """

    def __init__(self, size: Size, seconds: float) -> None:
        context = multiprocessing.get_context("spawn")  # a fork cannot use a GPU
        self._connection, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, size), daemon=True)
        self._process.start()
        there.close()
        try:
            self.about: str = self._received(
                time.monotonic() + seconds, f"not started within {seconds:.0f} s"
            )
        except StageError:
            self.close()
            raise

    def rows(self, stage: str, bound: float) -> Iterator[Row]:
        """Run a stage, row by row as they come.

        Raises:
            StageError: If it fails or is not done within its bound.
        """
        end = time.monotonic() + bound
        with self._alive():
            self._connection.send((stage, bound))
        while (told := self._received(end, f"not done within its bound of {bound:g} s")) is not None:
            if isinstance(told, StageError):
                raise told
            yield told

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self._connection.close()

    def _received(self, end: float, late: str) -> Any:  # noqa: ANN401
        with self._alive():
            if self._connection.poll(max(end - time.monotonic(), 0)):
                return self._connection.recv()
        raise StageError(late)

    @contextmanager
    def _alive(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, OSError) as error:
            self._process.join()
            raise StageError(f"its process ended with status {self._process.exitcode}") from error


def _serve(connection: Connection, size: Size) -> None:
    """Run the stages that are asked for; each is answered by its rows, and then by None or an error."""
    transformers.logging.set_verbosity_error()
    warnings.filterwarnings("ignore")
    bench = Bench(size)
    connection.send(about(f"{size.shape}'s shape", size.device, "bfloat16"))
    with suppress(EOFError, OSError):  # nobody asks any more
        while True:
            stage, bound = connection.recv()
            connection.send(_run(bench, connection, stage, bound))
            bench.release()


def _run(bench: Bench, connection: Connection, stage: str, bound: float) -> StageError | None:
    bench.begin(bound)
    try:
        for row in STAGES[stage].rows(bench):
            connection.send(row)
    except TimeoutError as error:
        return StageError(str(error), ends_worker=False)
    except Exception as error:
        return StageError(f"{type(error).__name__}: {first_line(error)}")
    return None


class Results:
    """What stages found: a line of JSON each as soon as it is there, and a table behind each stage.

    Args:
        out: File that lines are added to. None means that they are printed alone.
    """

    def __init__(self, out: Path | None) -> None:
        self._out = out

    def line(self, stage: str, **fields: object) -> None:
        """Add a line about a stage."""
        if self._out is not None:
            with self._out.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"stage": stage, **fields}) + "\n")

    def ended(self, stage: str, seconds: float, bound: float, rows: Mapping[str, Row], reason: str) -> None:
        """Add how a stage ended, and print its rows."""
        self.line(stage, status="failed" if reason else "done", seconds=round(seconds, 1), reason=reason)
        if rows:
            print_rows(stage, list(rows.values()))
        told = f"failed, {reason}" if reason else "done"
        console.print(f"{stage}: {told} ({seconds:.0f} s of {bound:g} s)", markup=False)

    def skipped(self, stage: str, reason: str) -> None:
        """Say that a stage was not begun."""
        self.line(stage, status="skipped", reason=reason)
        console.print(f"{stage}: skipped, {reason}", markup=False)


def run_stages(
    names: Sequence[str], size: Size, results: Results, *, seconds: float, bounds: Mapping[str, float]
) -> None:
    """Run stages in turn; one that fails costs no more than its bound.

    Args:
        names: Keys of `STAGES`.
        size: Of the model.
        results: Where their rows go.
        seconds: Most that all of them take. A stage that might not be done by then is skipped.
        bounds: Of stages that have another bound than their own.
    """
    end, worker = time.monotonic() + seconds, None
    for name in names:
        bound, began = bounds.get(name, STAGES[name].bound), time.monotonic()
        needed = bound + (START_SECONDS if worker is None else 0)
        if needed > end - began:
            results.skipped(name, f"{end - began:.0f} s are left and it may take {needed:.0f} s")
            continue
        rows: dict[str, Row] = {}
        reason = ""
        try:
            if worker is None:
                worker = Worker(size, end - began - bound)
                results.line("machine", about=worker.about)
                console.print(worker.about, markup=False)
            for row in worker.rows(name, bound):
                results.line(name, row=row)
                rows[str(row[""])] = row
        except StageError as error:
            reason = str(error)
            if worker is not None and error.ends_worker:
                worker.close()
                worker = None
        results.ended(name, time.monotonic() - began, bound, rows, reason)
    if worker is not None:
        worker.close()
