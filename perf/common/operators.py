"""Where the time of some work goes, by operator, as torch's profiler counts it on a processor."""

# ruff: noqa: ANN401 - events of the profiler have no types

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.profiler import ProfilerActivity, profile

from common.setting import Row, print_rows

BETWEEN = "python between operators"
PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")
ATTENTION = "scaled_dot_product"


@dataclass
class Operator:
    """What an operator takes in all its calls.

    Attributes:
        seconds: Without the operators that it calls.
        operations: Of products; 0 of others. Attention within a text counts as causal.
    """

    seconds: float = 0.0
    operations: float = 0.0


def profiled(work: Callable[[], Any]) -> dict[str, Operator]:
    """Run some work under the profiler; the operators by name, and what passes between them."""
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True, with_flops=True) as profiler:
        began = time.perf_counter()
        work()
        spent = time.perf_counter() - began
    operators: dict[str, Operator] = defaultdict(Operator)
    for event in profiler.key_averages(group_by_input_shape=True):
        found = operators[event.key]
        found.seconds += event.self_cpu_time_total / 1e6
        found.operations += _operations(event)
    operators[BETWEEN].seconds = max(spent - sum(operator.seconds for operator in operators.values()), 0.0)
    return operators


def print_operators(title: str, work: Callable[[], Any], most: int = 10) -> None:
    """Print the operators that take most of the time of some work."""
    operators = profiled(work)
    total = sum(operator.seconds for operator in operators.values())
    largest = sorted(operators.items(), key=lambda item: -item[1].seconds)[:most]
    rows: list[Row] = [
        {
            "operator": name,
            "share of time": f"{found.seconds / total:.0%}",
            "G operations per second": found.operations / found.seconds / 1e9 if found.operations else None,
        }
        for name, found in largest
    ]
    print_rows(f"{title}, where the time goes, under the profiler", rows)


def _operations(event: Any) -> float:
    """Operations of an operator's calls on inputs of one shape."""
    if event.key in PRODUCTS:
        return float(event.flops)
    kernel = event.key.startswith("aten::_") and ATTENTION in event.key and "fused" not in event.key
    if not kernel:
        return 0.0
    back = "backward" in event.key
    query, keys = event.input_shapes[back : 2 + back]  # the backward pass is given the gradient first
    looks = query[2] * (keys[2] if query[2] != keys[2] else (keys[2] + 1) / 2)
    return float((10 if back else 4) * query[0] * query[1] * query[3] * looks * event.count)
