"""The stages of perf/gpu.py, on a tiny model without a GPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "perf" / "gpu.py"


def test_a_stage_over_its_bound_is_reported_and_the_next_ones_are_run(tmp_path: Path) -> None:
    out = tmp_path / "gpu.jsonl"
    stages = ["train-published-bf16", "peaks", "documents", "switch-variable-lengths"]
    bounds = ["train-published-bf16=0", "documents=10000", "peaks=600", "switch-variable-lengths=600"]
    command = [sys.executable, str(SCRIPT), "--device", "cpu", "--seconds", "3600", "--out", str(out)]
    command += ["--stages", *stages, "--bound", *bounds]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=1800)
    lines = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    ends = {line["stage"]: line for line in lines if "status" in line}
    assert [(name, ends[name]["status"]) for name in stages] == [
        ("train-published-bf16", "failed"),
        ("peaks", "done"),
        ("documents", "skipped"),
        ("switch-variable-lengths", "done"),
    ]
    assert ends["train-published-bf16"]["reason"] == "not done within its bound of 0 s"
    assert "may take 10000 s" in ends["documents"]["reason"]
    rows = {line["stage"]: line["row"] for line in lines if "row" in line}
    assert rows["peaks"]["T op/s"] > 0
    # Samples in a row without padding learn what they learn in rows of their own.
    assert rows["switch-variable-lengths"]["losses differ by"] == pytest.approx(0, abs=1e-3)
    assert all(name in ran.stdout for name in stages)
