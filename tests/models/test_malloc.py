"""Memory that tensors have left goes back to the system."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import pytest

from lift_eval.models.malloc import TUNED_BY

MIB = 2**20
# Blocks of 24 MiB are freed once, which lets glibc raise its threshold, and then again with small blocks between them.
SCRIPT = """
import json, psutil, torch
from lift_eval.models.malloc import tune_glibc

used = lambda: psutil.Process().memory_info().rss
done = tune_glibc()
torch.ones(6 * 2**20)
large, small = [], []
for _ in range(8):
    large.append(torch.ones(6 * 2**20))
    small.append(torch.ones(64))
before = used()
large.clear()
print(json.dumps([done, before - used()]))
"""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")


def given_back(**environment: str) -> tuple[bool, int]:
    """Whether glibc was told, and the bytes that came back of 192 MiB."""
    untuned = {name: value for name, value in os.environ.items() if name not in TUNED_BY}
    told = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=untuned | environment, capture_output=True, text=True, check=True
    )
    done, returned = json.loads(told.stdout)
    return done, returned


def test_large_blocks_come_back_whatever_lies_between_them() -> None:
    done, returned = given_back()
    assert done
    assert returned == pytest.approx(192 * MIB, rel=0.05)


def test_whoever_tunes_memory_is_left_alone() -> None:
    done, returned = given_back(MALLOC_TRIM_THRESHOLD_=str(1024 * MIB), MALLOC_MMAP_THRESHOLD_=str(32 * MIB))
    assert not done
    assert returned < 100 * MIB, "or else there is nothing to be told to glibc"
