"""Training: ours and the peer on the same model, samples, steps and settings, in turn; training alone is timed.

(a) contextualized segments as published, gathered into one step; (b) pairs about sentences, eight to a step, as
short as those of v2; (c) the bundled model's recipe; (d) the whole published contextualized recipe, three epochs of
segments and five of segments and pairs in the test prompt, at an eighth of its lengths. Both sides train a LoRA that
starts from the same weights. The published runs use gradient checkpointing, so (a) and (d) also have the peer with it;
ours turns it on when memory runs out. The floor is what any exact implementation needs (common/floor.py); at its time,
it would run at the rate of a large matrix product.
"""

# ruff: noqa: ANN401 - models and tokenizers of transformers have no types

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any

import torch
from account import Shape, matrix_peak, products_peak
from common.floor import floor
from common.setting import (
    Paired,
    Row,
    Setting,
    bundled,
    console,
    document_of,
    pairs_of_lengths,
    print_pairs,
    print_rows,
    setting,
    short_samples,
)
from peers import trainer

from lift_eval import Recipe, load_recipe
from lift_eval.adapters.attach import attach
from lift_eval.adapters.state import AdapterState
from lift_eval.models.loading import supports_prefix_sharing
from lift_eval.prompts.prompt import PromptEncoder
from lift_eval.training.batching import micro_batches
from lift_eval.training.finetune import FinetuneReport, column_cost_of, finetune
from lift_eval.training.pair_samples import PairSamples
from lift_eval.training.samples import Sample
from lift_eval.training.stages import build_epochs

LORA = {"type": "lora", "rank": 16, "alpha": 32, "targets": "all-linear", "init": True}


def contextualized(where: Setting, segments: int = 1) -> tuple[Recipe, list[list[Sample]]]:
    """One gathered epoch of the published contextualized recipe, cut to the first segment of a document."""
    recipe = load_recipe("llama3_loogle", {"adapter": LORA, "training.learning_rate": 2e-4})
    tokenizer = where.tokenizer()
    encoder = PromptEncoder(tokenizer, recipe.prompt, 16384)
    document = document_of(tokenizer, 4352)
    pairs = PairSamples(document, (), encoder, recipe.auxiliary)
    epochs = build_epochs(document, recipe, encoder, pairs, torch.Generator().manual_seed(0))
    return recipe, [list(epoch)[:segments] for epoch in epochs][:1]


def whole_recipe(where: Setting) -> tuple[Recipe, list[list[Sample]]]:
    """All epochs of the published recipe, for a document of 24,000 tokens and its prompts at a scale of an eighth.

    At this scale attention takes about the share of the time that it takes at full length in a large model.
    """
    scaled = {
        "training.segment_tokens": 256,
        "training.stride_tokens": 96,
        "training.window_tokens": 512,
        "prompt.max_tokens": 975,
        "compute.micro_batch_tokens": 1024,
    }
    recipe = load_recipe("llama3_loogle", {"adapter": LORA, "training.learning_rate": 2e-4, **scaled})
    return recipe, epochs_of(recipe, where.tokenizer(), 3000)


def epochs_of(recipe: Recipe, tokenizer: Any, tokens: int) -> list[list[Sample]]:
    """All epochs of a recipe, pairs included, for a document of so many tokens."""
    encoder = PromptEncoder(tokenizer, recipe.prompt, 16384)
    document = document_of(tokenizer, tokens)
    pairs = PairSamples(document, pairs_of_lengths(recipe.auxiliary.pairs), encoder, recipe.auxiliary)
    epochs = build_epochs(document, recipe, encoder, pairs, torch.Generator().manual_seed(0))
    return [list(epoch) for epoch in epochs]


def sentence_pairs(where: Setting, steps: int = 6) -> tuple[Recipe, list[list[Sample]]]:
    """Steps of eight closed-book pairs, as short as those of v2, without its chat template."""
    changes = {"adapter": LORA, "prompt.chat_template": False, "training.learning_rate": 5e-5}
    recipe = load_recipe("v2", changes)
    return recipe, short_steps(where.tokenizer(), recipe, 8, steps)


def short_steps(tokenizer: Any, recipe: Recipe, size: int, steps: int) -> list[list[Sample]]:
    """Steps of so many closed-book pairs each, as a recipe would train them."""
    samples = short_samples(tokenizer, recipe, size * steps)
    return [samples[start : start + size] for start in range(0, len(samples), size)]


def bundled_recipe(where: Setting, steps: int = 3) -> tuple[Recipe, list[list[Sample]]]:
    """Steps of the recipe `tiny`."""
    recipe = load_recipe("tiny", {"training.schedule": "constant", "training.warmup_steps": 0})
    return recipe, short_steps(where.tokenizer(), recipe, int(recipe.training.samples_per_step), steps)


def compare(
    where: Setting,
    name: str,
    recipe: Recipe,
    steps: Sequence[Sequence[Sample]],
    *,
    checkpointing: bool = False,
) -> tuple[list[str], Row]:
    """Train on both sides in turn; returns rows of the table of times and of the table of operations."""
    model: Any = attach(where.model(), recipe.adapter, seed=recipe.seed)
    initial = AdapterState.capture(model)
    settings = recipe.training.model_copy(update={"samples_per_step": "all"})  # an epoch is a step here
    ours, theirs, worst = [], [], 0.0
    report: Any = None
    for turn in range(where.pairs + 1):
        todo = steps if turn else steps[:1]  # the first step warms up
        initial.restore(model)
        spent, report = where.seconds(partial(train, model, todo, recipe))
        ours.append(spent)
        peer = trainer.load(
            where.checkpoint, recipe.adapter, seed=recipe.seed, device=where.device, dtype=where.torch_dtype
        )
        losses, spent = trainer.train(peer, todo, settings, checkpointing=checkpointing, clock=where.timer)
        theirs.append(spent)
        worst = max(worst, *(abs(a - b) / b for a, b in zip(report.losses, losses, strict=True)))
        del peer
        gc.collect()
    paired = Paired(ours[1:], theirs[1:])
    row = paired.row(name, f"losses, to {worst:.0e}")
    console.print("  ".join(row))  # a sign of life
    return row, rates(where, name, model, steps, report.micro_batch_tokens, median(paired.ours))


def train(model: Any, steps: Sequence[Sequence[Sample]], recipe: Recipe) -> FinetuneReport:
    """Take the steps on our side, without gradient checkpointing."""
    return finetune(
        model,
        steps,
        recipe.training.model_copy(update={"samples_per_step": "all"}),
        compute=recipe.compute.model_copy(update={"gradient_checkpointing": False}),
        share_prefixes=supports_prefix_sharing(model),
        generator=torch.Generator().manual_seed(0),
    )


def rates(
    where: Setting, name: str, model: Any, steps: Sequence[Sequence[Sample]], room: int, spent: float
) -> Row:
    """Operations of steps that took so many seconds in micro-batches of at most so many tokens, and their floor."""
    share, cost = supports_prefix_sharing(model), column_cost_of(model)
    batches = [
        micro_batches(step, room, share_prefixes=share, cache_prefixes=True, column_cost=cost)
        for step in steps
    ]
    widest = max(batch.input_ids.numel() for step in batches for batch in step)
    shape = Shape.of(model)
    operations, least = sum(map(shape.laid_out, batches)), floor(model, steps)
    peak, own = matrix_peak(where), products_peak(where, model, widest)
    return {
        "": name,
        "tokens": sum(sample.tokens for step in steps for sample in step),
        "G operations": operations / 1e9,
        "G per second": operations / spent / 1e9,
        "of matrix peak": f"{operations / spent / peak:.0%}",
        "of its own products' peak": f"{operations / spent / own:.0%}",
        "operations / floor": f"{operations / least:.2f}",
        "seconds / floor at matrix peak": f"{spent * peak / least:.2f}",
    }


def cases(where: Setting, names: str) -> Iterator[tuple[list[str], Row]]:
    """The rows of the cases that are asked for."""
    if "b" in names:
        yield compare(where, "(b) pairs per sentence", *sentence_pairs(where))
    folder = bundled()
    if "c" in names and folder is None:
        console.print("(c) left out: the bundled model is not in this checkout")
    elif "c" in names and folder is not None:
        tiny = replace(where, checkpoint=folder)
        yield compare(tiny, "(c) bundled model", *bundled_recipe(tiny))
    for letter, name, work in (("a", "contextualized", contextualized), ("d", "whole recipe", whole_recipe)):
        if letter in names:
            samples = work(where)
            yield compare(where, f"({letter}) {name}", *samples)
            yield compare(where, f"({letter}) peer with checkpointing", *samples, checkpointing=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", default="bcad", help="letters of the cases to run")
    names = parser.parse_known_args()[0].cases
    with setting(str(sys.modules[__name__].__doc__), parser=parser) as where:
        results = list(cases(where, names))
        print_pairs("Training alone, the same steps", [times for times, _ in results])
        print_rows("Ours against the account and the floor", [rate for _, rate in results])


if __name__ == "__main__":
    main()
