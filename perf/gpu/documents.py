"""Adapters of several documents trained in one batch, beside one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from bench_together import compare, epochs_of
from common.setting import Row, text_of

from gpu.bench import Bench
from lift_eval.lifter.lifter import Lifter
from lift_eval.tiny.blank import train_tokenizer

COUNTS = (1, 2, 4, 8, 16)
TOKENS = (512, 2048)
"""Of a document, which are one optimizer step."""
RANK, STEPS, PAIRS = 16, 2, 1
MICRO_BATCH_TOKENS = 8192


def documents(bench: Bench) -> Iterator[Row]:
    """Train so many documents on both ways; the smaller step first."""
    recipe = bench.size.recipe("lora", "bf16")
    adapter = recipe.adapter.model_copy(update={"rank": RANK, "alpha": 2 * RANK, "targets": "all-linear"})
    recipe = recipe.model_copy(update={"adapter": adapter})
    lifter = Lifter(bench.base("bf16"), train_tokenizer([text_of(4000)]), recipe)
    lifter.compute = lifter.compute.model_copy(
        update={"micro_batch_tokens": bench.size.scaled(MICRO_BATCH_TOKENS), "gradient_checkpointing": False}
    )
    for tokens, count in bench.parts(product(map(bench.size.scaled, TOKENS), COUNTS)):
        work = [epochs_of(lifter, number, tokens, STEPS) for number in range(count)]
        bench.reset_peak()
        yield {"": f"{count} x {tokens:,} tokens", **compare(lifter, work, PAIRS), "GiB": bench.peak_gib}
