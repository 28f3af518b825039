"""What only a GPU can tell of Llama-3-8B's shape with random weights, in order of value, within ten minutes.

Training and decoding beside the device's peaks, in bf16 and nf4; predicted and measured memory; what others' kernels
bring; several documents in one batch. Each stage has a bound on its time, and what it finds is printed and kept before
the next one begins. Without a GPU it prints what the account of operations expects, and measures nothing; the same
stages run on a CPU with ``--device cpu`` on a tiny shape, to see that they work.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from common.setting import console, print_table
from gpu.bench import DIVISORS, Size
from gpu.running import Results, run_stages
from gpu.stages import STAGES
from gpu.works import Work, fast, published

from lift_eval.memory.workload import MOST_TOKENS
from lift_eval.training.finetune import column_cost_of
from lift_eval.training.layout import Layout

ASSUMED_PEAK = 6.6e14
"""Operations per second of a large bfloat16 product; an assumption, until a GPU has been measured."""
GOAL = 0.5
"""Share of the peak that training should reach."""


def expected(work: Work, size: Size, *, checkpointing: bool, shared: bool) -> list[str]:
    """What the account says of a document's training: each sample by itself, or laid out as training does."""
    shape = work.shape(size.config)
    if shared:
        cost = column_cost_of(work.model(size.config))
        layout = Layout(MOST_TOKENS["cuda"], checkpointing, share_prefixes=True, column_cost=cost)
        operations, tokens = work.operations(shape, work.epochs, layout)
    else:
        operations = work.operations_alone(shape, work.epochs, checkpointing=checkpointing)
        tokens = sum(sample.tokens for epoch in work.epochs for sample in epoch)
    return [
        work.name
        + (", shared beginnings once" if shared else "")
        + (", checkpointing" if checkpointing else ""),
        f"{tokens:,}",
        f"{operations / 1e15:.1f}",
        f"{operations / ASSUMED_PEAK / GOAL:.1f}",
        f"{work.limit:.0f}",
    ]


def print_expected(size: Size) -> None:
    """Print what to expect of two documents."""
    console.print("no GPU: nothing measured; what the account expects of Llama-3-8B's shape")
    print_table(
        f"Expected at {GOAL:.0%} of an assumed peak of {ASSUMED_PEAK / 1e12:.0f} T operations per second",
        ["", "tokens", "P operations", "seconds", "goal"],
        [
            expected(work(size, "bf16"), size, checkpointing=on, shared=shared)
            for work in (fast, published)
            for shared in (False, True)
            for on in (False, True)
        ],
    )


def bound(text: str) -> tuple[str, float]:
    """A stage and its bound, from the command line."""
    name, _, seconds = text.partition("=")
    if name not in STAGES:
        raise argparse.ArgumentTypeError(f"'{name}' is not a stage; there are {', '.join(STAGES)}")
    return name, float(seconds)


def main() -> None:
    """Run the stages where there is a GPU or a device is named, else print what to expect."""
    parser = argparse.ArgumentParser(description=str(sys.modules[__name__].__doc__))
    parser.add_argument("--device", help="default: the GPU, where there is one")
    parser.add_argument("--shape", choices=DIVISORS, help="default: llama-3-8b, on a CPU tiny")
    parser.add_argument(
        "--seconds", type=float, default=600, help="for all stages; what no longer fits is skipped"
    )
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES), metavar="STAGE")
    parser.add_argument(
        "--bound", nargs="+", type=bound, default=[], metavar="STAGE=SECONDS", help="another bound"
    )
    parser.add_argument("--out", type=Path, help="file that results are added to, a line of JSON each")
    options = parser.parse_args()
    device = options.device or ("cuda" if torch.cuda.is_available() else None)
    if device is None:
        print_expected(Size("llama-3-8b", "cpu"))
        return
    shape = options.shape or ("tiny" if device == "cpu" else "llama-3-8b")
    size, results = Size(shape, device), Results(options.out)
    run_stages(options.stages, size, results, seconds=options.seconds, bounds=dict(options.bound))


if __name__ == "__main__":
    main()
