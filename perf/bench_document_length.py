"""Cost against document length, 2k to 128k tokens: seconds, the fitted exponent, and the peak of memory.

One epoch of the recipe `lora` on the document, in one step, through `Lifter`, the building of samples included.
"""

from __future__ import annotations

import argparse
import math
import resource
import statistics
import sys

import torch
from common.setting import Setting, document_of, print_table, setting

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
    parser = argparse.ArgumentParser()
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS, help="tokens of the documents")
    lengths = sorted(parser.parse_known_args()[0].lengths)  # ascending: the peak of a process never falls
    with setting(str(sys.modules[__name__].__doc__), parser=parser) as where:
        _print(where, lengths)


def _print(where: Setting, lengths: list[int]) -> None:
    recipe = load_recipe("lora", {"training.context_epochs": 1, "precision.dtype": where.dtype})
    lifter = where.lifter(recipe)

    def lift(document: Document) -> None:
        with lifter.lift(document):
            pass

    lift(document_of(lifter.tokenizer, lengths[0]))  # warm up
    rows, times, trained = [], [], []
    for length in lengths:
        document = document_of(lifter.tokenizer, length)
        runs = [
            where.seconds(lambda document=document: lift(document))[0]
            for _ in range(1 if length > 10_000 else 3)
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
            ["in the tokens of the document", f"{exponent(lengths, times):.3f}"],
            ["in the tokens of its overlapping segments", f"{exponent(trained, times):.3f}"],
        ],
    )


if __name__ == "__main__":
    main()
