"""Peak memory: of the GPU if one is used, otherwise of the process."""

from __future__ import annotations

import re
import resource
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch

LOOK_SECONDS = 0.02
"""Seconds between two measurements of the process; no training step on a CPU is shorter."""
_before_resets = {"cuda": 0}
"""Peaks that torch counted before its counter was reset."""


def peak_memory_bytes() -> int:
    """Peak memory so far."""
    if _on_gpu():
        return max(_before_resets["cuda"], torch.cuda.max_memory_allocated())
    return _process_peak()


@contextmanager
def watch(memory: dict[str, int], stage: str) -> Iterator[None]:
    """Note the peak memory of the code inside, unless the stage took more before.

    Torch counts a GPU's. A process is sampled, since resetting its own peak would spoil the count for others.

    Args:
        memory: Bytes by stage.
        stage: The stage to note it for.
    """
    counted = _on_gpu()
    if counted:
        _before_resets["cuda"] = peak_memory_bytes()
        torch.cuda.reset_peak_memory_stats()
    process, done = psutil.Process(), threading.Event()
    looks = [process.memory_info().rss]

    def look() -> None:
        while not done.wait(LOOK_SECONDS):
            looks[0] = max(looks[0], process.memory_info().rss)

    watcher = None if counted else threading.Thread(target=look, name=f"memory of {stage}", daemon=True)
    if watcher is not None:
        watcher.start()
    try:
        yield
    finally:
        done.set()
        if watcher is not None:
            watcher.join()
        most = torch.cuda.max_memory_allocated() if counted else max(looks[0], process.memory_info().rss)
        memory[stage] = max(memory.get(stage, 0), most)


def _process_peak() -> int:
    # On Linux, getrusage starts at the parent process's peak.
    if sys.platform == "linux":
        found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(errors="replace"))
        if found is not None:
            return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _on_gpu() -> bool:
    return torch.cuda.is_available() and torch.cuda.max_memory_allocated() > 0
