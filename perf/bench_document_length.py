"""Cost against document length, 2k to 128k tokens: seconds, the fitted exponent, and the peak of memory.

One epoch of the recipe `lora` on the document, in one step, through `Lifter`, the building of samples included.
"""

from __future__ import annotations

import math
import resource
import statistics
import sys

import torch
from common.setting import Setting, document_of, print_table, seconds, setting

from lift_eval import Document, load_recipe

LENGTHS = (2_048, 8_192, 32_768, 131_072)


def peak_bytes(device: str) -> int:
    """Most memory used since the start (CPU) or since the last call (GPU)."""
    if device.startswith("cuda"):
        peak = torch.cuda.max_memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        return peak
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def exponent(lengths: list[int], times: list[float]) -> float:
    """Slope of the straight line through the logarithms."""
    return statistics.linear_regression([math.log(x) for x in lengths], [math.log(y) for y in times]).slope


def main() -> None:
    """Print the tables."""
    with setting(str(sys.modules[__name__].__doc__)) as where:
        _print(where)


def _print(where: Setting) -> None:
    recipe = load_recipe("lora", {"training.context_epochs": 1, "precision.dtype": where.dtype})
    lifter = where.lifter(recipe)

    def lift(document: Document) -> None:
        with lifter.lift(document):
            pass

    lift(document_of(lifter.tokenizer, LENGTHS[0]))  # warm up
    rows, times, trained = [], [], []
    for length in LENGTHS:  # ascending: the peak of a process never falls
        document = document_of(lifter.tokenizer, length)
        runs = [
            seconds(lambda document=document: lift(document), where.device)[0]
            for _ in range(1 if length > 50_000 else 3)
        ]
        times.append(statistics.median(runs))
        count = max(
            1, 1 + math.ceil((length - recipe.training.segment_tokens) / recipe.training.stride_tokens)
        )
        trained.append(count * recipe.training.segment_tokens)
        rows.append(
            [
                str(length),
                f"{times[-1]:.2f}",
                f"{trained[-1] / times[-1]:.0f}",
                f"{peak_bytes(where.device) / 2**20:.0f}",
            ]
        )
    print_table(
        "One epoch of a document", ["tokens", "seconds", "trained tokens per second", "peak memory MiB"], rows
    )
    print_table(
        "Exponent of the cost",
        ["", "exponent"],
        [
            ["in the tokens of the document", f"{exponent(list(LENGTHS), times):.3f}"],
            ["in the tokens of its overlapping segments", f"{exponent(trained, times):.3f}"],
        ],
    )


if __name__ == "__main__":
    main()
