"""Layouts of samples that begin alike, in turn on the same samples.

Short ones: forty samples, the step of the bundled model's recipe, of three lengths of their common beginning, as rows,
packed rows as wide as fits, as wide as pays, and with cached prefixes where these pay. Long ones: question-answer pairs
in the test prompt of the published recipe at a scale, cut in both ways, without and with prefixes; there is room for as
many tokens as there would be by default on a CPU and on a GPU.
"""

# ruff: noqa: ANN401 - models and tokenizers of transformers have no types

from __future__ import annotations

import argparse
import statistics
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from common.setting import Setting, document_of, pairs_of_lengths, print_table, setting

from lift_eval import load_recipe
from lift_eval.adapters.attach import attach
from lift_eval.memory.workload import MOST_TOKENS
from lift_eval.prompts.prompt import PromptEncoder
from lift_eval.recipe import LoraSettings
from lift_eval.training.batching import MicroBatch, micro_batches
from lift_eval.training.finetune import column_cost_of
from lift_eval.training.loss import step_gradient
from lift_eval.training.pair_samples import PairSamples
from lift_eval.training.samples import Sample

SAMPLES = 40
MAX_TOKENS = 4096
PROMPT_TOKENS = 7800
"""Of the published recipe."""


def samples_of(beginning: int) -> list[Sample]:
    """Samples with a common beginning, a question of 8 to 20 tokens and an answer of 3 to 12."""
    generator = torch.Generator().manual_seed(0)

    def tokens(low: int, high: int) -> torch.Tensor:
        length = int(torch.randint(low, high + 1, (), generator=generator))
        return torch.randint(0, 256, (length,), generator=generator)

    shared = tokens(beginning, beginning)
    return [Sample(torch.cat([shared, tokens(8, 20)]), tokens(3, 12)) for _ in range(SAMPLES)]


@dataclass(frozen=True)
class Layout:
    """A way to lay out samples: arguments of `micro_batches`."""

    max_tokens: int = MAX_TOKENS
    share_prefixes: bool = True
    cache_prefixes: bool = False
    column_cost: float = 0.0

    def of(self, samples: Sequence[Sample]) -> list[MicroBatch]:
        """The micro-batches."""
        return micro_batches(samples, **asdict(self))


def prompted(where: Setting, truncate: str, tokens: int, count: int) -> list[Sample]:
    """Pairs in prompts of so many tokens, about a document three times as long."""
    recipe = load_recipe("llama3_loogle", {"prompt.truncate": truncate, "prompt.max_tokens": tokens})
    encoder = PromptEncoder(where.tokenizer(), recipe.prompt, 16384)
    document = document_of(where.tokenizer(), 3 * tokens)
    return list(PairSamples(document, pairs_of_lengths(count), encoder, recipe.auxiliary).epoch(0))


def shapes(batches: Sequence[MicroBatch]) -> str:
    """Rows x width of the micro-batches, and what they stand behind."""
    counted = Counter("x".join(map(str, batch.input_ids.shape)) for batch in batches)
    cached = {id(prefix): prefix for batch in batches if batch.prefix for prefix in batch.prefix.path}
    rows = " + ".join(shape if times == 1 else f"{times} of {shape}" for shape, times in counted.items())
    if len(counted) > 4:
        rows = f"{len(batches)} passes"
    read = (
        f" behind {len(cached)} prefixes of {sum(len(prefix.ids) for prefix in cached.values())}"
        if cached
        else ""
    )
    return rows + read


def compare(
    where: Setting, model: Any, samples: Sequence[Sample], layouts: Mapping[str, Layout]
) -> list[list[str]]:
    """Train a step in each layout in turn; returns rows of the table."""
    supervised = sum(sample.supervised for sample in samples)
    times: dict[str, list[float]] = {name: [] for name in layouts}
    losses: dict[str, float] = {}

    def step(layout: Layout) -> float:
        loss = step_gradient(model, layout.of(samples), supervised)
        model.zero_grad()
        return float(loss)

    for _ in range(where.pairs + 1):
        for name, layout in layouts.items():
            spent, losses[name] = where.seconds(lambda layout=layout: step(layout))
            times[name].append(spent)
    return [
        [
            name,
            f"{statistics.median(times[name][1:]) * 1e3:.1f}",
            shapes(layout.of(samples)),
            f"{losses[name]:.5f}",
        ]
        for name, layout in layouts.items()
    ]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=int, default=975, help="tokens of the long prompts")
    parser.add_argument("--count", type=int, default=30, help="how many of them")
    options = parser.parse_known_args()[0]
    with setting(str(sys.modules[__name__].__doc__), pairs=7, parser=parser) as where:
        adapter = LoraSettings(rank=32, alpha=32, targets="all-linear", init=True)
        model = attach(where.model(), adapter, seed=0).train()
        cost = column_cost_of(model)
        heads = ["ms", "rows x width", "loss"]
        short = {
            "rows": Layout(share_prefixes=False),
            "widest packed rows": Layout(),
            "packed rows that pay": Layout(column_cost=cost),
            "packed rows and cached prefixes": Layout(column_cost=cost, cache_prefixes=True),
        }
        rows = [
            [f"{beginning} + {row[0]}", *row[1:]]
            for beginning in (16, 40, 220)
            for row in compare(where, model, samples_of(beginning), short)
        ]
        print_table(f"{SAMPLES} short samples, one step", ["common tokens + layout", *heads], rows)
        scale = options.tokens / PROMPT_TOKENS
        long = {
            f"room for {int(most * scale)}, {'with' if cache_prefixes else 'no'} prefixes": Layout(
                int(most * scale), column_cost=cost, cache_prefixes=cache_prefixes
            )
            for most in MOST_TOKENS.values()
            for cache_prefixes in (False, True)
        }
        rows = [
            [f"{truncate}: {row[0]}", *row[1:]]
            for truncate in ("document", "prompt")
            for row in compare(where, model, prompted(where, truncate, options.tokens, options.count), long)
        ]
        print_table(
            f"{options.count} pairs in prompts of {options.tokens} tokens, one step",
            ["truncate: layout", *heads],
            rows,
        )


if __name__ == "__main__":
    main()
