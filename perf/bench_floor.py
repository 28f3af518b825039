"""Operations of published recipes over those that any exact implementation needs, at full size. Nothing is run.

The shape is Llama-3-8B's, without weights, with a LoRA of rank 16 on all linear layers; the document has 24,000
tokens. The floor is that of common/floor.py, and ours the operations of the micro-batches as they are laid out for
training. The peer computes each sample by itself, as the published code does, without and with gradient checkpointing:
its operations over the floor are the most that any exact implementation can save of them.
"""

# ruff: noqa: ANN401 - models and tokenizers of transformers have no types

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from account import Shape
from bench_training import LORA, epochs_of, short_steps
from common.floor import floor
from common.setting import Row, be_quiet, print_rows
from gpu.bench import Size
from transformers import AutoModelForCausalLM

from lift_eval import Recipe, load_recipe
from lift_eval.adapters.attach import attach
from lift_eval.models.loading import BUNDLED, load_tokenizer, supports_prefix_sharing
from lift_eval.training.batching import micro_batches
from lift_eval.training.finetune import column_cost_of
from lift_eval.training.samples import Sample

ROOM = 8192
"""Tokens of a micro-batch."""

Steps = Sequence[Sequence[Sample]]


def adapted(shape: str) -> tuple[Any, Recipe]:
    """A model without weights, with the LoRA, and the published recipe."""
    with torch.device("meta"):
        base: Any = AutoModelForCausalLM.from_config(Size(shape, "meta").config)
    recipe = load_recipe("llama3_loogle", {"adapter": LORA})
    return attach(base, recipe.adapter, seed=0), recipe


def cases(shape: str) -> Iterator[Row]:
    """Count each case."""
    tokenizer = load_tokenizer(str(BUNDLED))
    model, recipe = adapted(shape)
    epochs = epochs_of(recipe, tokenizer, Size(shape, "meta").scaled(24_000))
    contextualized = recipe.training.context_epochs
    yield counted("llama3_loogle: contextualized segments", model, epochs[:contextualized])
    yield counted("llama3_loogle: segments and pairs", model, epochs[contextualized:])
    yield counted("llama3_loogle: the whole recipe", model, epochs)
    short = load_recipe("v2", {"adapter": LORA, "prompt.chat_template": False})
    yield counted("v2: pairs about sentences", model, short_steps(tokenizer, short, 8, 6))


def operations(model: Any, steps: Steps) -> tuple[float, float]:
    """Operations of some steps as they are laid out, and of their floor."""
    shape, share, cost = Shape.of(model), supports_prefix_sharing(model), column_cost_of(model)
    laid_out = (
        micro_batches(step, ROOM, share_prefixes=share, cache_prefixes=True, column_cost=cost)
        for step in steps
    )
    return sum(map(shape.laid_out, laid_out)), floor(model, steps)


def counted(name: str, model: Any, steps: Steps) -> Row:
    """A row of the table: also of a peer that computes each sample by itself, as the published code does."""
    ours, least = operations(model, steps)
    shape = Shape.of(model)
    alone, again = (
        sum(shape.training(step, checkpointing=checkpointing) for step in steps)
        for checkpointing in (False, True)
    )
    return {
        "": name,
        "steps": len(steps),
        "tokens": sum(sample.tokens for step in steps for sample in step),
        "T operations": ours / 1e12,
        "ours / floor": f"{ours / least:.3f}",
        "peer / floor": f"{alone / least:.2f}",
        "with checkpointing": f"{again / least:.2f}",
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=("llama-3-8b", "tiny"), default="llama-3-8b")
    be_quiet()
    print_rows("Operations over the floor", list(cases(parser.parse_args().shape)))


if __name__ == "__main__":
    main()
