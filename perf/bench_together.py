"""Several documents' LoRA trained in one batch against one after the other, on the same samples.

A document has a number of tokens, in segments of 192 at most, which are one optimizer step. Both sides run in turn;
what is printed is the time of the documents one after the other over that of all at once.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from common.setting import Row, about, console, print_rows, text_of

from lift_eval import load_recipe
from lift_eval.adapters.stacked import StackedLora
from lift_eval.lifter.lifter import Lifter
from lift_eval.models.loading import supports_prefix_sharing
from lift_eval.training.finetune import Course, FinetuneReport, finetune
from lift_eval.training.samples import Sample
from lift_eval.training.segments import segment_samples
from lift_eval.training.together import finetune_together

Epochs = list[list[Sample]]

SEGMENT = 192
MICRO_BATCH_TOKENS = 2048


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="folder or name of a checkpoint; default: the bundled one")
    parser.add_argument("--documents", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--tokens", type=int, nargs="+", default=[128, 1024], help="of a document")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=2, help="how often both sides run; one more warms up")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    settings = {"adapter.rank": 8, "adapter.targets": "all-linear", "precision.dtype": "float32"}
    segments = {"training.segment_tokens": SEGMENT, "training.stride_tokens": SEGMENT}
    recipe = load_recipe("lora", {**settings, **segments})
    lifter = Lifter.from_pretrained(options.model, recipe, device=options.device)
    lifter.compute = lifter.compute.model_copy(update={"micro_batch_tokens": MICRO_BATCH_TOKENS})
    console.print(about(options.model or "bundled", options.device, "float32", "cpu"), markup=False)
    rows: list[Row] = []
    for tokens in options.tokens:
        for count in options.documents:
            work = [epochs_of(lifter, number, tokens, options.steps) for number in range(count)]
            sizes = {"tokens of a step": str(tokens), "documents": count}
            rows.append({**sizes, **compare(lifter, work, options.pairs)})
            console.print(rows[-1])  # a sign of life
    print_rows("Documents at once against one after the other", rows)


def epochs_of(lifter: Lifter, number: int, tokens: int, steps: int) -> Epochs:
    """Steps on the segments of an invented document of so many tokens; another number is another document."""
    ids = torch.tensor(lifter.encoder.plain_ids(text_of(tokens // 4, seed=number))[:tokens])
    training = lifter.recipe.training
    return [segment_samples(ids, training.segment_tokens, training.stride_tokens)] * steps


def compare(lifter: Lifter, work: Sequence[Epochs], pairs: int) -> Row:
    """Train documents one after the other and at once, so often; one time more warms up."""
    spent: tuple[list[float], list[float]] = ([], [])
    worst = 0.0
    for _ in range(pairs + 1):
        first, alone = _timed(partial(_one_by_one, lifter, work))
        second, together = _timed(partial(_at_once, lifter, work))
        spent[0].append(first)
        spent[1].append(second)
        ours, theirs = (torch.tensor([report.losses for report in side]) for side in (together, alone))
        worst = max(worst, float((ours / theirs - 1).abs().max()))
    ratios = [one / other for one, other in zip(*(side[1:] for side in spent), strict=True)]
    return {
        "one by one s": statistics.median(spent[0][1:]),
        "at once s": statistics.median(spent[1][1:]),
        "ratio": statistics.median(ratios),
        "range": f"{min(ratios):.2f} to {max(ratios):.2f}",
        "losses differ by": worst,
    }


def _timed(work: Callable[[], list[FinetuneReport]]) -> tuple[float, list[FinetuneReport]]:
    """Seconds, and the result: processor time, since others use the machine too, on a GPU by the clock."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    began = clock()
    result = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - began, result


def _one_by_one(lifter: Lifter, work: Sequence[Epochs]) -> list[FinetuneReport]:
    reports = []
    for epochs in work:
        lifter.restore({})
        reports.append(
            finetune(
                lifter.model,
                epochs,
                lifter.recipe.training,
                compute=lifter.compute,
                share_prefixes=supports_prefix_sharing(lifter.model),
                column_cost=lifter.column_cost,
                generator=torch.Generator(),
            )
        )
    lifter.restore({})
    return reports


def _at_once(lifter: Lifter, work: Sequence[Epochs]) -> list[FinetuneReport]:
    stack = StackedLora(lifter.model, len(work))
    courses = [
        Course(list(stack.weights(number).values()), epochs, lifter.recipe.training, torch.Generator())
        for number, epochs in enumerate(work)
    ]
    reports = finetune_together(
        lifter.model,
        stack,
        courses,
        compute=lifter.compute,
        share_prefixes=supports_prefix_sharing(lifter.model),
        column_cost=lifter.column_cost,
    )
    return [report for report in reports if isinstance(report, FinetuneReport)]


if __name__ == "__main__":
    main()
