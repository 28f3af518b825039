"""Laws of cost: time and peak memory against a document's length, its questions, and the number of documents.

Each point is a process of its own, which lifts with a small random model, one epoch in one step, after a warm-up:

    length     one document, from 2,048 tokens on, with one question
    questions  one document of 512 tokens, with 1 to 1,000 questions
    documents  1 to 1,000 documents of 256 tokens, one after the other, with a question each

An exponent is the slope of the straight line that fits the logarithms best. The law to keep: time grows at most with an
exponent of 1.05, memory as well in the length, and not at all in questions and documents (an exponent of at most
0.02, which is 15 % over three decades). The published stride makes segments overlap: a document of one segment is
trained once, the tokens of a longer one up to 2.7 times. So the length is also counted in tokens of segments.

Writes the points to OUT.csv and draws them to OUT.svg.
"""

# ruff: noqa: ANN401 - plots of lets-plot have no types

from __future__ import annotations

import argparse
import csv
import math
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from common.setting import Row, Setting, be_quiet, console, document_of, print_rows, setting

from lift_eval import Document, load_recipe
from lift_eval.lifter.lifter import Lifter
from lift_eval.record.peak_memory import peak_memory_bytes
from lift_eval.training.segments import segment_ranges

MOST = {"length": 131_072, "questions": 1000, "documents": 1000}
FIRST, FACTOR = (
    {"length": 2048, "questions": 1, "documents": 1},
    {"length": 2, "questions": 10, "documents": 10},
)
TOKENS = {"questions": 512, "documents": 256}
SEGMENTS = "length, in tokens of segments"
MOST_EXPONENT, CONSTANT = 1.05, 0.02
OUT = Path(__file__).parents[1] / "build" / "scaling"


@dataclass(frozen=True)
class Point:
    """What one size of an axis took.

    Attributes:
        axis: What grows.
        size: How far.
        seconds: Of lifting and answering.
        peak_mib: Most memory of the process.
    """

    axis: str
    size: int
    seconds: float
    peak_mib: float


def measure(where: Setting, axis: str, size: int) -> Point:
    """Lift and answer at one size, in this process."""
    be_quiet()
    changes = {"training.context_epochs": 1, "precision.dtype": where.dtype, "decoding.max_new_tokens": 8}
    lifter = where.lifter(load_recipe("lora", changes))
    tokens = size if axis == "length" else TOKENS[axis]
    count = size if axis == "documents" else 1
    documents = [document_of(lifter.tokenizer, tokens, seed) for seed in range(count)]
    questions = [f"What of number {number}?" for number in range(size if axis == "questions" else 1)]
    _lift(lifter, document_of(lifter.tokenizer, TOKENS["documents"]), ["What?", "Who?"])  # warms up
    spent, _ = where.seconds(lambda: [_lift(lifter, document, questions) for document in documents])
    return Point(axis, size, spent, peak_memory_bytes() / 2**20)


def _lift(lifter: Lifter, document: Document, questions: Sequence[str]) -> None:
    with lifter.lift(document, progress=False) as session:
        session.answer(questions)


def measured(where: Setting, most: dict[str, int]) -> Iterator[Point]:
    """The points of each axis up to its bound, each measured in a process of its own."""
    for axis, bound in most.items():
        size = FIRST[axis]
        while size <= bound:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                point = process.submit(measure, where, axis, size).result()
            console.print(f"{axis} {size}: {point.seconds:.2f} s, {point.peak_mib:.0f} MiB")
            yield point
            size *= FACTOR[axis]


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Slope of the line of least squares through the logarithms."""
    return statistics.linear_regression(list(map(math.log, sizes)), list(map(math.log, values))).slope


def trained_tokens(length: int) -> int:
    """Tokens of all segments of a document."""
    training = load_recipe("lora").training
    return sum(
        part.stop - part.start
        for part in segment_ranges(length, training.segment_tokens, training.stride_tokens)
    )


def laws(points: Sequence[Point]) -> Iterator[Row]:
    """The exponents of each axis that has several points, and whether they keep the law."""
    for axis in dict.fromkeys(point.axis for point in points):
        found = [point for point in points if point.axis == axis]
        if len(found) < 2:
            continue
        yield _law(axis, [point.size for point in found], found)
        if axis == "length":
            yield _law(SEGMENTS, [trained_tokens(point.size) for point in found], found)


def _law(name: str, sizes: Sequence[int], points: Sequence[Point]) -> Row:
    seconds, memory = ([getattr(point, field) for point in points] for field in ("seconds", "peak_mib"))
    most = MOST_EXPONENT if name in ("length", SEGMENTS) else CONSTANT
    exponents = exponent(sizes, seconds), exponent(sizes, memory)
    return {
        "": name,
        "from": sizes[0],
        "to": sizes[-1],
        "time": f"{exponents[0]:.3f}",
        "last two points": f"{exponent(sizes[-2:], seconds[-2:]):.3f}",
        f"at most {MOST_EXPONENT}?": exponents[0] <= MOST_EXPONENT,
        "memory": f"{exponents[1]:.3f}",
        f"at most {MOST_EXPONENT} or {CONSTANT}?": exponents[1] <= most,
    }


def write(points: Sequence[Point], out: Path) -> None:
    """Write the points as CSV, and draw them."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.with_suffix(".csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(asdict(points[0])))
        writer.writeheader()
        writer.writerows(map(asdict, points))
    _plot(points).to_svg(str(out.with_suffix(".svg")))


def _plot(points: Sequence[Point]) -> Any:
    """A panel for each axis and quantity, both axes logarithmic, with the fitted line."""
    from lets_plot import (
        aes,
        facet_wrap,
        geom_point,
        geom_smooth,
        ggplot,
        ggsize,
        labs,
        scale_x_log10,
        scale_y_log10,
    )

    marks: dict[str, list[Any]] = {"size": [], "value": [], "panel": []}
    quantities: dict[str, Callable[[Point], float]] = {
        "seconds": lambda point: point.seconds,
        "MiB": lambda point: point.peak_mib,
    }
    for quantity, value in quantities.items():
        for point in points:
            marks["size"].append(point.size)
            marks["value"].append(value(point))
            marks["panel"].append(f"{quantity} by {point.axis}")
    return (
        ggplot(marks, aes("size", "value"))
        + geom_smooth(method="lm", se=False)
        + geom_point()
        + facet_wrap("panel", ncol=len({point.axis for point in points}), order=0, scales="free")
        + scale_x_log10()
        + scale_y_log10()
        + labs(x="", y="")
        + ggsize(900, 480)
    )


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser()
    for axis, bound in MOST.items():
        parser.add_argument(
            f"--{axis}", type=int, default=bound, help=f"largest ({bound}); 0 leaves the axis out"
        )
    parser.add_argument("--out", type=Path, default=OUT, help="files to write, without their endings")
    with setting(str(sys.modules[__name__].__doc__), parser=parser) as where:
        options = parser.parse_args()
        points = list(measured(where, {axis: getattr(options, axis) for axis in MOST}))
        if points:
            print_rows("Exponents", list(laws(points)))
            write(points, options.out)
            console.print(f"{options.out}.csv, {options.out}.svg")


if __name__ == "__main__":
    main()
