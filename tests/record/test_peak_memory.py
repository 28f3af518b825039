"""How much memory a stage of the work took at most."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from lift_eval.record.peak_memory import LOOK_SECONDS, peak_memory_bytes, watch

MIB = 2**20
BLOCK = 256 * MIB
LONG_ENOUGH = 10 * LOOK_SECONDS


def take_and_give_back() -> None:
    block = bytearray(b"x") * BLOCK
    time.sleep(LONG_ENOUGH)
    del block


def test_what_was_given_back_before_the_end_counts() -> None:
    memory: dict[str, int] = {}
    with watch(memory, "quiet"):
        pass
    with watch(memory, "train"):
        take_and_give_back()
    assert memory["train"] - memory["quiet"] == pytest.approx(BLOCK, rel=0.1)
    assert peak_memory_bytes() >= 0.99 * memory["train"]  # the system counts some pages later


def test_a_stage_that_comes_again_keeps_its_highest() -> None:
    memory: dict[str, int] = {}
    with watch(memory, "answer"):
        take_and_give_back()
    highest = memory["answer"]
    with watch(memory, "answer"):
        pass
    assert memory == {"answer": highest}


def test_looking_ends_with_the_stage_also_where_it_fails() -> None:
    memory: dict[str, int] = {}
    with pytest.raises(ValueError, match="diverged"), watch(memory, "train"):
        raise ValueError("diverged")
    assert memory["train"] > 0
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("memory of")] == []


def test_a_process_is_not_charged_for_what_started_it() -> None:
    code = "from lift_eval.record.peak_memory import peak_memory_bytes; print(peak_memory_bytes())"
    block = bytearray(b"x") * (4 * BLOCK)
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0 < int(told.stdout) < len(block)
