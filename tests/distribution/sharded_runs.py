"""Runs of one, two and four processes, and of one that dies: a script of its own, since it forks.

    python -m tests.distribution.sharded_runs FOLDER

Forked processes need not import everything again. Prints one JSON line per run.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lift_eval.harness.exit_status import set_exit_status
from lift_eval.harness.model import LiftLM
from tests import line

DOCUMENTS = 3
SECONDS = 120
"""Most that any run here may take; a deadlock ends as a failure."""


def fork(folder: Path, rank: int, count: int, port: int, work: Callable[[], Any]) -> int:
    """Work in a process of its own, launched as torchrun does on machines of two; what comes of it goes to files."""
    process = os.fork()
    if process:
        return process
    launch = {
        "RANK": rank,
        "LOCAL_RANK": rank % 2,
        "WORLD_SIZE": count,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    os.environ.update({name: str(value) for name, value in launch.items()})
    said = os.open(folder / f"said-{rank}.txt", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    signal.alarm(SECONDS)
    try:
        with set_exit_status():
            done = work()
            (folder / f"results-{rank}.json").write_text(json.dumps(done))
        os._exit(0)
    except SystemExit as end:
        sys.stderr.flush()
        os._exit(int(end.code or 0))
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)


def launched(folder: Path, count: int, work: Callable[[], Any], **also: Callable[[], Any]) -> dict[str, Any]:
    """Run in several processes.

    Args:
        folder: For their files.
        count: How many.
        work: Of each, unless
        also: gives another to the process ``rank_N``.
    """
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = time.monotonic()
    started = [fork(folder, rank, count, port, also.get(f"rank_{rank}", work)) for rank in range(count)]
    statuses = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in started]
    done = [folder / f"results-{rank}.json" for rank in range(count)]
    return {
        "statuses": statuses,
        "seconds": time.monotonic() - began,
        "done": [json.loads(file.read_text()) if file.exists() else None for file in done],
        "said": [(folder / f"said-{rank}.txt").read_text().splitlines()[-1:] for rank in range(count)],
    }


def dying(work: Callable[[], Any], documents: int) -> Callable[[], Any]:
    """The same work, killed when it begins one document more."""
    original, begun = LiftLM.work, []

    def die(self: LiftLM, *arguments: Any, **named: Any) -> Any:
        begun.append(arguments)
        if len(begun) > documents:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, *arguments, **named)

    def mortal() -> Any:
        LiftLM.work = die  # type: ignore[method-assign]
        return work()

    return mortal


def main(folder: Path) -> None:
    torch.set_num_threads(1)  # so that forking is safe
    line.prepare(folder, documents=DOCUMENTS)
    line.ask_once_about_this_machine()

    def over(store: str) -> Callable[[], Any]:
        return lambda: line.run(folder, store=str(folder / store))

    def show(name: str, run: dict[str, Any]) -> None:
        print(json.dumps({"name": name, **run}), flush=True)

    show("one", launched(folder / "one", 1, over("store-1")))
    show("again", launched(folder / "again", 1, over("store-1-again")))
    show("two", launched(folder / "two", 2, over("store-2")))
    show("four", launched(folder / "four", 4, over("store-4")))  # one has nothing to do
    works = over("store-dies")
    show("dies", launched(folder / "dies", 2, works, rank_1=dying(works, 1)))
    show("resumed", launched(folder / "resumed", 2, works))
    fewer = lambda: line.run(folder, ("choices",), store="off")  # noqa: E731
    show("differ", launched(folder / "differ", 2, over("store-differ"), rank_1=fewer))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
