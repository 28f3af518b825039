"""How a run's wall time falls with the number of workers, computed from measured times of documents.

    python perf/cluster_simulation.py [--results results_*.json] [--adapter-mib 168] [--documents 1000]

The times come from the record in a results file of lm-eval. Without one, a few generated documents are lifted here
with a random two-layer model; their absolute times mean little, the spread between short and long ones does. As many
documents as asked for are drawn from the measured ones. For 1 to 512 workers it prints:

    together    the processes of ``accelerate launch``: documents dealt beforehand by their tokens, longest first
    cluster     workers of Ray: whoever is idle takes the longest document that is left
    questions   lm-eval's own way: questions dealt in turns, every process trains each document that it meets
    efficiency  work divided by workers times wall time, 100 % where nobody waits; of the cluster
    store       what all workers together write, in MiB per second of wall time; of the cluster

Loading the base model is not in it: every worker does that once, at the same time.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from lift_eval.distribution.schedule import assign, longest_first  # noqa: E402 - the checkout, installed or not

WORKERS = [2**power for power in range(10)]
MEASURED = 16
QUESTIONS = 10


@dataclass(frozen=True)
class Measured:
    """What a document took.

    Attributes:
        tokens: Its length.
        questions: How many were asked.
        lift: Seconds to train it, pairs included.
        answer: Seconds to answer all its questions.
    """

    tokens: int
    questions: int
    lift: float
    answer: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.lift + self.answer


def from_results(file: Path) -> list[Measured]:
    """The documents of a run that made them itself, from the record in its results."""
    lift = json.loads(file.read_text(encoding="utf-8"))["config"]["lift"]
    return [
        Measured(
            record["tokens"],
            record["questions"],
            record["seconds"]["synthesis"] + record["seconds"]["train"],
            record["seconds"]["answer"],
        )
        for record in lift["documents"]
        if not record["reused"] and not record["failure"]
    ]


def from_this_machine() -> tuple[list[Measured], float]:
    """Lift generated documents of 1 to 16 times the same length; also gives the MiB of an adapter."""
    from lift_eval.adapters.state import trainable
    from lift_eval.document import Document
    from lift_eval.lifter.lifter import Lifter
    from lift_eval.recipe import load_recipe
    from tests import line
    from tests.tiny_models import tiny_model, tiny_tokenizer

    arguments = {key: value for key, value in line.ARGUMENTS.items() if key != "recipe"}
    lifter = Lifter(
        tiny_model(), tiny_tokenizer(), load_recipe("lora", {**arguments, "decoding.max_new_tokens": 8})
    )
    measured = []
    for number in range(MEASURED + 1):
        document = Document(line.document(f"Person {number}", 8 * max(number, 1)), f"Article {number}")
        began = time.perf_counter()
        with lifter.lift(document) as session:
            trained = time.perf_counter()
            session.answer([f"Where was Person {number} in {1900 + year}?" for year in range(QUESTIONS)])
            ended = time.perf_counter()
        measured.append(Measured(session.record.tokens, QUESTIONS, trained - began, ended - trained))
    size = sum(tensor.nbytes for tensor in trainable(lifter.model).values())
    return measured[1:], size / 2**20  # the first document also warmed up


def together(documents: Sequence[Measured], workers: int) -> float:
    """Wall time where documents are dealt beforehand by their tokens."""
    shares = assign([document.tokens for document in documents], workers)
    return max(sum(documents[place].seconds for place in share) for share in shares)


def cluster(documents: Sequence[Measured], workers: int) -> float:
    """Wall time where whoever is idle takes the longest document that is left."""
    free = [0.0] * workers
    for place in longest_first([document.tokens for document in documents]):
        heapq.heappush(free, heapq.heappop(free) + documents[place].seconds)
    return max(free)


def questions(documents: Sequence[Measured], workers: int) -> float:
    """Wall time where questions are dealt in turns, and every worker trains each document that it meets."""
    loads = [0.0] * workers
    turn = 0
    for document in documents:
        met = {(turn + question) % workers for question in range(document.questions)}
        for worker in met:
            loads[worker] += document.lift
        for question in range(document.questions):
            loads[(turn + question) % workers] += document.answer / document.questions
        turn += document.questions
    return max(loads)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description="Simulate 1 to 512 workers from measured times of documents."
    )
    parser.add_argument(
        "--results", type=Path, help="a results file of lm-eval with a record of this package"
    )
    parser.add_argument("--documents", type=int, default=1000)
    parser.add_argument(
        "--adapter-mib", type=float, default=168, help="LoRA of rank 64 on an 8 B model: 168 * 2**20"
    )
    parser.add_argument("--seed", type=int, default=0)
    parsed = parser.parse_args()
    measured, size = (
        (from_results(parsed.results), parsed.adapter_mib) if parsed.results else from_this_machine()
    )
    documents = random.Random(parsed.seed).choices(measured, k=parsed.documents)
    work = sum(document.seconds for document in documents)
    shortest, longest = min(d.seconds for d in measured), max(d.seconds for d in measured)
    console = Console(width=100)
    console.print(
        f"{len(measured)} measured documents, {shortest:.2f} to {longest:.2f} s; {len(documents)} drawn: "
        f"{work:.0f} s of work, {len(documents) * size:.0f} MiB of adapters"
    )
    table = Table(*("workers", "together", "cluster", "questions", "efficiency", "store"), box=None)
    for workers in WORKERS:
        wall = cluster(documents, workers)
        table.add_row(
            str(workers),
            f"{together(documents, workers):.1f} s",
            f"{wall:.1f} s",
            f"{questions(documents, workers):.1f} s",
            f"{work / (workers * wall):.0%}",
            f"{len(documents) * size / wall:.1f} MiB/s",
        )
    console.print(table)


if __name__ == "__main__":
    main()
