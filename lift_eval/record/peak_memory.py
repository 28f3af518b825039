"""How much memory has been used at most: of the GPU where one is used, else of the process."""

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
"""Between two looks at the process; no step of training on a CPU is shorter."""
_before_resets = {"cuda": 0}
"""What torch counted before it was told to count anew."""


def peak_memory_bytes() -> int:
    """Most memory so far."""
    if _on_gpu():
        return max(_before_resets["cuda"], torch.cuda.max_memory_allocated())
    return _process_peak()


@contextmanager
def watch(memory: dict[str, int], stage: str) -> Iterator[None]:
    """Note the most memory that is used meanwhile, unless the stage took more before.

    A GPU's is counted by torch. A process is looked at now and then, since its own count can't be begun anew without
    spoiling it for others.

    Args:
        memory: Bytes by stage.
        stage: Where to note it.
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
    # Linux' getrusage begins with what the process had that started this one.
    if sys.platform == "linux":
        found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(errors="replace"))
        if found is not None:
            return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _on_gpu() -> bool:
    return torch.cuda.is_available() and torch.cuda.max_memory_allocated() > 0
