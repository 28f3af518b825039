"""Settings of glibc's malloc: freed tensors go back to the system (docs/decisions/0019-heap.md)."""

from __future__ import annotations

import ctypes
import os
import platform

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1
"""Numbers of mallopt's parameters."""
LARGE_BLOCK = 4 * 2**20
"""Bytes from which a block is a mapping of its own, which is unmapped when the block is freed."""
KEPT_AT_THE_TOP = 64 * 2**20
"""Free bytes that the heap keeps at its end, so that it is not shrunk and grown again in each step."""
TUNED_BY = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")


def tune_glibc() -> bool:
    """Fix the size from which glibc maps blocks by themselves, for the whole process.

    glibc raises that size as blocks are freed, up to 32 MiB. Most activations then lie in the heap, whose holes never
    go back to the system.

    Returns:
        Whether the size was fixed. Another C library, or an environment that tunes malloc itself, is left alone.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in TUNED_BY):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    wanted = ((MMAP_THRESHOLD, LARGE_BLOCK), (TRIM_THRESHOLD, KEPT_AT_THE_TOP))
    return all(mallopt(name, value) == 1 for name, value in wanted)
