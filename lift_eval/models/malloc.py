"""Memory that tensors have left goes back to the system (docs/decisions/0019-heap.md)."""

from __future__ import annotations

import ctypes
import os
import platform

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1
"""What glibc calls its parameters."""
LARGE_BLOCK = 4 * 2**20
"""From this size on a block is a mapping of its own, which ends with it."""
KEPT_AT_THE_TOP = 64 * 2**20
"""What the heap may keep at its end, so that it is not given back and asked for again in each step."""
TUNED_BY = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")


def return_large_blocks() -> bool:
    """Let glibc keep the size from which blocks are mappings of their own, for the whole process.

    It would raise that size as blocks are freed, up to 32 MiB. Most activations then lie in the heap, whose holes are
    never given back.

    Returns:
        Whether it was done: not with another C library, and not where the environment says how memory is handled.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in TUNED_BY):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    wanted = ((MMAP_THRESHOLD, LARGE_BLOCK), (TRIM_THRESHOLD, KEPT_AT_THE_TOP))
    return all(mallopt(name, value) == 1 for name, value in wanted)
