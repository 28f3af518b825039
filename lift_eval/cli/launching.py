"""Commands that are run to their end, in one process or in several that share one run."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress

from lift_eval.harness.exit_status import GIVEN_UP

LOOK_SECONDS = 0.1
"""Seconds between two looks at the running processes."""
TERMINATE_SECONDS = 60
"""Seconds that a process has to end by itself after another one has failed."""
LOOPBACK = "127.0.0.1"
QUIET = {"LMEVAL_LOG_LEVEL": "ERROR", "TRANSFORMERS_VERBOSITY": "error"}
"""Environment of all processes but the first: their messages repeat its own, so they log errors only."""


def run_command(command: Sequence[str], processes: int = 1) -> int:
    """Run a command to its end; it handles signals itself.

    A terminal sends Ctrl-C to every process, so this one waits for the command to react, as shells do. TERM is sent to
    one process only, so it is passed on.

    Args:
        command: What to run.
        processes: How many times side by side; they find each other as those of ``torchrun`` do. Where one of them
            fails, the others are ended.

    Returns:
        The exit status, as shells have it: 128 and the signal's number where one ended the command. Of several
        processes that of the first that failed, or else the highest.
    """
    places = [{}] if processes == 1 else list(_environments(processes))
    running = [subprocess.Popen(command, env={**os.environ, **place}) for place in places]  # noqa: S603 - our own
    try:
        with _pass_signals_on(running):
            return _wait(running)
    finally:
        for process in running:
            process.kill()
            process.wait()


def _wait(running: Sequence[subprocess.Popen[bytes]]) -> int:
    while True:
        ended = [process.poll() for process in running]
        statuses = [status for status in ended if status is not None]
        failed = [status for status in statuses if status not in (0, GIVEN_UP)]
        if failed or len(statuses) == len(running):
            break
        time.sleep(LOOK_SECONDS)
    if not failed:
        return max(statuses)
    for process in running:
        process.terminate()
    for process in running:
        with suppress(subprocess.TimeoutExpired):
            process.wait(TERMINATE_SECONDS)
    return _shell_status(failed[0])


def _shell_status(status: int) -> int:
    return status if status >= 0 else 128 - status


def _environments(processes: int) -> Iterator[dict[str, str]]:
    """The environment variables that give each process its rank, under torch's names."""
    with closing(socket.socket()) as free:
        free.bind((LOOPBACK, 0))
        port = str(free.getsockname()[1])
    threads = str(max(1, (os.cpu_count() or 1) // processes))
    for rank in map(str, range(processes)):
        yield {
            **(QUIET if rank != "0" else {}),
            "RANK": rank,
            "LOCAL_RANK": rank,
            "WORLD_SIZE": str(processes),
            "LOCAL_WORLD_SIZE": str(processes),
            "MASTER_ADDR": LOOPBACK,
            "MASTER_PORT": port,
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads),
        }


@contextmanager
def _pass_signals_on(running: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    def terminate(*_: object) -> None:
        for process in running:
            process.terminate()

    handlers: dict[int, Callable[..., None]] = {signal.SIGINT: lambda *_: None, signal.SIGTERM: terminate}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
