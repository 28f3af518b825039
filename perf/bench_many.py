"""Several documents at once on a model too small to fill the machine: the bundled one with its recipe `tiny`.

Where the time of one document goes, and what batching can bring at most; the pairs of K documents written in one batch
against one at a time; processes against threads. Without an option all three parts are printed. Training side by side
is bench_together.py's.
"""

# ruff: noqa: ANN401 - models and tokenizers of transformers have no types

from __future__ import annotations

import argparse
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from account import Shape, matrix_peak
from common.operators import BETWEEN, PRODUCTS, profiled
from common.processes import seconds_together
from common.setting import Paired, Setting, console, print_pairs, print_table, setting

from lift_eval import Document, load_recipe
from lift_eval.answering.decoding import Answer, Decoding
from lift_eval.answering.generate import answer
from lift_eval.document import document_seed
from lift_eval.lifter.lifter import Lifter
from lift_eval.models.loading import BUNDLED
from lift_eval.synthesis.generators import ModelGenerator
from lift_eval.synthesis.synthesizer import Synthesis
from lift_eval.tiny import world
from lift_eval.training.finetune import finetune
from lift_eval.training.samples import Sample

PARTS = {
    "where": "where the time of one document goes",
    "side": "documents at once against one at a time",
    "processes": "threads against processes; always by wall clock",
}
DOCUMENTS = 8
"""Documents of each way to use the cores."""
GPU_OPERATIONS = 25e12
"""Per second of a GPU in float32; assumed."""

NO_WORK = {
    f"aten::{name}"
    for name in ("as_strided", "empty", "expand", "reshape", "slice", "t", "transpose", "view")
}


# --- where the time goes -----------------------------------------------------------------------------------------


@dataclass
class Phase:
    """One part of the work on a document.

    Attributes:
        seconds: By the clock.
        passes: Forward passes.
        tokens: Of all passes, padding included.
        fixed: Seconds of as many passes over next to nothing.
        operations: Of the matrix products.
    """

    seconds: float
    passes: int
    tokens: int
    fixed: float
    operations: float

    def row(self, name: str, peak: float) -> list[str]:
        """What the table prints."""
        return [
            name,
            f"{self.seconds:.2f}",
            str(self.passes),
            str(self.tokens),
            f"{self.operations / self.seconds / peak:.0%}",
            f"{self.fixed:.2f}",
            f"{self.seconds / (self.seconds - self.fixed):.2f}",
        ]


class Passes:
    """Counts the passes of a model's body."""

    def __init__(self, model: Any) -> None:
        self.shapes: list[tuple[int, int]] = []
        base = model.get_base_model()
        self.handle = base.model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, _: Any, __: Any, inputs: dict[str, Any]) -> None:
        if inputs.get("input_ids") is not None:  # else hidden states on their way to the head
            self.shapes.append(tuple(inputs["input_ids"].shape))

    def taken(self) -> list[tuple[int, int]]:
        """The shapes since the last call."""
        found, self.shapes = self.shapes, []
        return found


def where_it_goes(where: Setting) -> None:
    """Print the table of one document."""
    made = next(world.documents("dev", 1))
    document = Document(made.article.text, made.article.title)
    lifter = where.lifter(load_recipe("tiny"))
    shape, passes = Shape.of(lifter.model), Passes(lifter.model)
    peak = matrix_peak(where)
    fixed_step, fixed_token = _fixed_costs(where, lifter, passes)
    phases: dict[str, Phase] = {}

    def measure(name: str, work: Callable[[], Any], fixed: float, per_token: float) -> Any:
        passes.taken()
        spent, result = where.seconds(work)
        shapes = passes.taken()
        tokens = sum(rows * width for rows, width in shapes)
        looks = sum(rows * width * width for rows, width in shapes if width > 1)
        operations = per_token * tokens + (3 if name == "training" else 1) * 4 * shape.channels * looks
        phases[name] = Phase(spent, len(shapes), tokens, len(shapes) * fixed, operations)
        return result

    seed = document_seed(lifter.recipe.seed, document)
    base, adapted = 2 * shape.weights, 2 * (shape.weights + shape.adapter)
    lifter.synthesizer.begin(document, seed)  # warms up
    synthesis = measure("synthesis", lambda: lifter.synthesizer.begin(document, seed), fixed_token, base)
    with _use_synthesis(lifter, synthesis), lifter.session(document) as session:
        measure("training", session.train, fixed_step, 2 * adapted + 2 * shape.adapter)
        asked = [pair["Q"] for row in (made.shortqa, made.longqa) for pair in row["qa_pairs"]]
        measure("answering", lambda: session.answer(asked), fixed_token, adapted)
    total = Phase(
        *(sum(getattr(phase, part) for phase in phases.values()) for part in Phase.__dataclass_fields__)
    )
    print_table(
        f"One document of {session.record.tokens} tokens; matrix peak {peak / 1e9:.0f} G operations per second",
        ["", "seconds", "passes", "tokens", "of matrix peak", "fixed s", "batching at most"],
        [phase.row(name, peak) for name, phase in [*phases.items(), ("together", total)]],
    )
    computing = total.operations / GPU_OPERATIONS
    console.print(
        f"A pass over two tokens costs {fixed_step * 1e3:.1f} ms in training (a step of its own), a token "
        f"{fixed_token * 1e3:.1f} ms.\nA GPU of {GPU_OPERATIONS / 1e12:.0f} T operations per second (assumed) would "
        f"compute for {computing:.2f} s and be told what to do for {total.fixed:.2f} s: eight documents at once would "
        f"bring {(total.fixed + computing) / (total.fixed / 8 + computing):.1f} there."
    )
    with _use_synthesis(lifter, synthesis), lifter.session(document) as session:
        _print_operators(session.train)


def _fixed_costs(where: Setting, lifter: Lifter, passes: Passes) -> tuple[float, float]:
    """Seconds of a training step over two tokens, and of a decoding step of one row."""
    nothing = [[Sample(torch.tensor([5]), torch.tensor([6]))]] * 20
    prompt = lifter.encoder.plain_ids("The")
    decoding = Decoding(20)

    def train() -> Any:
        settings = lifter.recipe.training.model_copy(update={"learning_rate": 1e-9})
        return finetune(
            lifter.model,
            nothing,
            settings,
            compute=lifter.compute,
            share_prefixes=True,
            generator=torch.Generator(),
        )

    def decode() -> Any:
        return answer(lifter.model, lifter.tokenizer, [prompt], decoding, batch=1)

    found = []
    for work in (train, decode):
        work()
        passes.taken()
        spent = sorted(where.seconds(work)[0] for _ in range(5))[2]
        found.append(spent / (len(passes.taken()) / 5))
    lifter.restore({})
    return found[0], found[1]


@contextmanager
def _use_synthesis(lifter: Lifter, synthesis: Synthesis) -> Iterator[None]:
    """Let the lifter find these pairs instead of making them."""
    begin = lifter.synthesizer.begin
    lifter.synthesizer.begin = lambda *_: synthesis  # type: ignore[method-assign]
    try:
        yield
    finally:
        lifter.synthesizer.begin = begin  # type: ignore[method-assign]


def _print_operators(train: Callable[[], Any]) -> None:
    """Print the shares of kinds of operators in training; by wall clock, as the profiler counts."""
    shares: dict[str, float] = defaultdict(float)
    for name, operator in profiled(train).items():
        shares[_kind(name)] += operator.seconds
    total = sum(shares.values())
    rows = [
        [kind, f"{spent / total:.0%}"] for kind, spent in sorted(shares.items(), key=lambda kind: -kind[1])
    ]
    print_table("Training, where the time goes, under the profiler", ["", "share"], rows)


def _kind(key: str) -> str:
    if key == BETWEEN:
        return key
    if key in PRODUCTS:
        return "matrix products"
    if "scaled_dot_product" in key:
        return "attention"
    if "adamw" in key.lower():
        return "optimizer"
    if not key.startswith("aten::") or key in NO_WORK:
        return "autograd's books and views"
    return "other operators"


# --- side by side ------------------------------------------------------------------------------------------------


def compare(where: Setting, counts: Sequence[int]) -> None:
    """Print writing pairs of several documents at once against one at a time."""
    lifter = where.lifter(load_recipe("tiny"))
    made = list(world.documents("dev", max(counts)))
    requests = [_requests(lifter, document) for document in made]
    rows = []
    for count in counts:
        rows.append(_compare_writing(where, lifter, requests[:count]))
        console.print("  ".join(rows[-1]))  # a sign of life
    print_pairs("Documents at once ('ours') against one at a time ('peer')", rows)


def _compare_writing(where: Setting, lifter: Lifter, requests: Sequence[list[str]]) -> list[str]:
    """The first round of requests alone, which is greedy: sampling would need a random state for each document."""

    def write(asked: list[str]) -> list[Answer | None]:
        settings = lifter.recipe.auxiliary.model_copy(update={"batch": len(asked)})
        writer = ModelGenerator(lifter.model, lifter.tokenizer, settings, lifter.window)
        with lifter.model.disable_adapter():
            return list(writer.generate(asked, temperature=0.0, seed=0))

    everything = [request for asked in requests for request in asked]
    times, ours, theirs = _in_turn(
        where,
        lambda: write(everything),
        lambda: [reply for asked in requests for reply in write(asked)],
    )
    same = sum(one == other for one, other in zip(ours, theirs, strict=True))
    return times.row(f"writing pairs, {len(requests)} documents", f"{same} of {len(ours)} replies")


def _in_turn(where: Setting, ours: Callable[[], Any], theirs: Callable[[], Any]) -> tuple[Paired, Any, Any]:
    """Times of both sides, the first pair left out, and what they gave."""
    spent: tuple[list[float], list[float]] = ([], [])
    for _ in range(where.pairs + 1):
        seconds, our_result = where.seconds(ours)
        spent[0].append(seconds)
        seconds, their_result = where.seconds(theirs)
        spent[1].append(seconds)
    return Paired(spent[0][1:], spent[1][1:]), our_result, their_result


def _requests(lifter: Lifter, made: world.ArticleWithRows) -> list[str]:
    document, auxiliary = Document(made.article.text, made.article.title), lifter.recipe.auxiliary
    passages = auxiliary.method.choose(document, auxiliary, torch.Generator())
    return [passage.request() for passage in passages]


# --- processes ---------------------------------------------------------------------------------------------------


def compare_processes() -> None:
    """Print documents per hour of one process with one thread and with all cores, and of as many processes."""
    cores = os.cpu_count() or 1
    ways = sorted({(1, 1), (1, 2), (2, 1), (1, cores), (cores, 1)}, key=lambda way: (way[0] * way[1], way))
    spent = {way: seconds_together(way[0], _lift, *way) for way in ways}
    rows = [
        [
            f"{processes} x {threads}",
            f"{seconds:.1f}",
            f"{DOCUMENTS * 3600 / seconds:.0f}",
            f"{spent[1, 1] / seconds:.2f}",
        ]
        for (processes, threads), seconds in spent.items()
    ]
    print_table(
        f"{DOCUMENTS} documents, pairs, training and answers, by wall clock",
        ["processes x threads", "seconds", "documents per hour", "of one by one"],
        rows,
    )


def _lift(number: int, processes: int, threads: int) -> Callable[[], None]:
    """A process's share of the documents, behind one that warms it up."""
    torch.set_num_threads(threads)
    lifter = Lifter.from_pretrained(device="cpu")
    made = list(world.documents("dev", DOCUMENTS, words=950))
    with lifter.lift(Document("The ship Silver Heron was built in 1842. It sank in the fog.")) as session:
        session.answer(["When was the ship Silver Heron built?"])

    def work() -> None:
        for one in made[number::processes]:
            with lifter.lift(Document(one.article.text, one.article.title)) as session:
                session.answer([pair["Q"] for row in (one.shortqa, one.longqa) for pair in row["qa_pairs"]])

    return work


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    for part, what in PARTS.items():
        parser.add_argument(f"--{part}", action="store_true", help=what)
    parser.add_argument("--documents", type=int, nargs="+", default=[2, 4, 8], help="at once")
    parser.set_defaults(model=BUNDLED)
    with setting(str(sys.modules[__name__].__doc__), parser=parser) as where:
        options = parser.parse_args()
        asked = [part for part in PARTS if getattr(options, part)] or list(PARTS)
        if "where" in asked:
            where_it_goes(where)
        if "side" in asked:
            compare(where, options.documents)
        if "processes" in asked:
            compare_processes()


if __name__ == "__main__":
    main()
