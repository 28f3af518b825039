"""The recipe `fast` and the published contextualized recipe that it extends: operations, processor time, scores.

The bundled model is compared in the same way, with everything scaled to its window of 256 tokens: the recipe `tiny`
with windows, segments and stages as published, and the fast form of that. With --score both fine-tune it on documents
of its benchmark, and the difference of their scores is printed with its interval.
"""

# ruff: noqa: ANN401 - models and tokenizers of transformers have no types

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from account import Shape
from common.setting import Paired, Setting, bundled, console, document_of, filler_pairs, print_table, setting
from compare_lift import Trial
from gpu import llama_3_8b
from transformers import AutoModelForCausalLM

from lift_eval import Document, Recipe, load_recipe
from lift_eval.adapters.attach import attach
from lift_eval.adapters.state import AdapterState
from lift_eval.models.loading import supports_prefix_sharing
from lift_eval.prompts.prompt import PromptEncoder
from lift_eval.reporting.statistics import compare_paired
from lift_eval.store import Store
from lift_eval.synthesis.replies import Pair
from lift_eval.synthesis.synthesizer import Synthesizer
from lift_eval.tiny import world
from lift_eval.training.finetune import finetune, step_samples
from lift_eval.training.pair_samples import PairSamples
from lift_eval.training.samples import Sample, tokens_read
from lift_eval.training.stages import build_epochs

PUBLISHED_TINY: dict[str, Any] = {
    "training.contextualized": True,
    "training.segment_tokens": 64,
    "training.stride_tokens": 24,
    "training.window_tokens": 128,
    "training.recite_instruction": "\n",
    "training.context_epochs": 3,
    "training.joint_epochs": 5,
    "training.joint_segments": True,
}
"""Windows, segments, stride and stages of the published recipe at a thirty-second of its lengths."""
FAST_TINY = {
    **PUBLISHED_TINY,
    "training.stride_tokens": 48,
    "training.window_draw": "step",
    "training.samples_per_step": 8,
    "training.learning_rate": 6e-3,
}
"""What the recipe `fast` changes, at the same scale; size of the step and rate were chosen on development documents."""

TIMED = {
    "adapter": {"type": "lora", "rank": 16, "alpha": 32, "targets": "all-linear", "init": True},
    "training.context_epochs": 1,
    "training.joint_epochs": 1,
}
"""Changes to both shipped recipes for the small model that is timed: an epoch of each stage."""


@dataclass(frozen=True)
class Case:
    """One document, trained by both recipes.

    Attributes:
        name: What it stands for.
        document: The document.
        pairs: Its question-answer pairs.
        recipes: The published one and its fast form.
        window: Most tokens of a prompt.
    """

    name: str
    document: Document
    pairs: Sequence[Pair]
    recipes: tuple[Recipe, Recipe]
    window: int

    def steps(self, recipe: Recipe, tokenizer: Any) -> list[Sequence[Sample]]:
        """The samples of each optimizer step."""
        encoder = PromptEncoder(tokenizer, recipe.prompt, self.window)
        freezes = recipe.training.freezes_context
        pairs = PairSamples(self.document, self.pairs, encoder, recipe.auxiliary, freezes=freezes)
        generator = torch.Generator().manual_seed(0)
        epochs = list(build_epochs(self.document, recipe, encoder, pairs, generator))
        size = recipe.training.samples_per_step
        return [step for epoch in epochs for step in step_samples(list(epoch), size, generator)]


def large(tokenizer: Any, tokens: int, changes: Mapping[str, Any]) -> Case:
    """A document for the shipped recipes, with the ten pairs that they ask for."""
    recipes = load_recipe("llama3_loogle", changes), load_recipe("fast", changes)
    document = document_of(tokenizer, tokens)
    return Case(f"{tokens:,} tokens", document, filler_pairs(10), recipes, 8192)


def tiny(made: world.ArticleWithRows) -> Case:
    """A document of the bundled benchmark, with two pairs about each of its facts."""
    recipes = load_recipe("tiny", PUBLISHED_TINY), load_recipe("tiny", FAST_TINY)
    pairs = [
        Pair(question, fact.answer, "") for _, fact in made.article.facts for question in fact.questions[:2]
    ]
    return Case(
        "bundled model, one document", Document(made.article.text, made.article.title), pairs, recipes, 256
    )


def account(case: Case, shape: Shape, tokenizer: Any) -> list[list[str]]:
    """Rows of the table of operations."""
    totals = []
    rows = []
    for recipe, side in zip(case.recipes, ("published", "fast"), strict=True):
        steps = case.steps(recipe, tokenizer)
        checkpointing = recipe.compute.gradient_checkpointing
        totals.append(
            [sum(shape.training(step, checkpointing=on) for step in steps) for on in (False, checkpointing)]
        )
        rows.append(
            [
                f"{case.name}, {side}",
                str(len(steps)),
                f"{sum(tokens_read(step) for step in steps):,}",
                f"{sum(sample.supervised for step in steps for sample in step):,}",
                *(f"{total / 1e12:,.2f}" for total in totals[-1]),
            ]
        )
    ratios = [published / fast for published, fast in zip(*totals, strict=True)]
    return [*rows, ["published / fast", "", "", "", *(f"{ratio:.2f}" for ratio in ratios)]]


def llama_shape(recipe: Recipe) -> Shape:
    """The shape of Llama-3-8B with a recipe's adapter."""
    with torch.device("meta"):
        base = AutoModelForCausalLM.from_config(llama_3_8b(), dtype=torch.bfloat16)
        return Shape.of(attach(base, recipe.adapter, seed=0))


def timing(where: Setting, case: Case) -> list[str]:
    """Train the document in turn by both recipes; returns a row of times."""
    tokenizer = where.tokenizer()
    model: Any = attach(where.model(), case.recipes[0].adapter, seed=0)
    initial = AdapterState.capture(model)
    times: dict[str, list[float]] = {"fast": [], "published": []}
    for _ in range(where.pairs):
        for recipe, side in zip(case.recipes, ("published", "fast"), strict=True):
            initial.restore(model)
            steps = case.steps(recipe, tokenizer)
            spent, _ = where.seconds(lambda steps=steps, recipe=recipe: _train(model, steps, recipe))
            times[side].append(spent)
    return Paired(times["fast"], times["published"]).row(case.name)


def _train(model: Any, steps: Sequence[Sequence[Sample]], recipe: Recipe) -> Any:
    return finetune(
        model,
        steps,
        recipe.training.model_copy(update={"samples_per_step": "all"}),  # an epoch is a step here
        compute=recipe.compute.model_copy(update={"gradient_checkpointing": False}),
        share_prefixes=supports_prefix_sharing(model),
        generator=torch.Generator().manual_seed(0),
    )


def scores(checkpoint: Path, split: str, count: int, seeds: Sequence[int]) -> list[list[str]]:
    """Rows of the table of scores, in percent, of all questions of both tasks."""
    documents = list(world.documents(split, count))
    sides = {"published": PUBLISHED_TINY, "fast": FAST_TINY}
    right: dict[str, list[list[int]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        for seed in seeds:
            trials = {side: _trial(checkpoint, seed, overrides, store) for side, overrides in sides.items()}
            for made in documents:
                for side, trial in trials.items():
                    began = time.process_time()
                    trial.document(made)
                    found = {name: sum(one.right[-1]) for name, one in trial.scores.items()}
                    console.print(f"{made.article.title}, seed {seed}, {side}: {found}, "
                                  f"{time.process_time() - began:.1f} s of processor time")  # fmt: skip
            for side, trial in trials.items():
                for name, one in trial.scores.items():
                    right.setdefault(f"{name} {side}", []).append([sum(pair) for pair in one.right])
    asked = np.full((1, count), 2.0 * world.QUESTIONS_PER_DOCUMENT)
    return [
        _paired(
            label,
            *(np.mean(right[f"{name} {side}"], axis=0, keepdims=True) for side in ("fast", "published")),
            asked,
        )
        for label, name in (("document in the prompt", "lift"), ("closed-book", "lift_closed_book"))
    ]


def _trial(checkpoint: Path, seed: int, overrides: Mapping[str, Any], store: Store) -> Trial:
    """A trial that takes the pairs that the other side has had the model write."""
    trial = Trial("lift", checkpoint, seed, overrides)
    made = trial.lifter.synthesizer
    trial.lifter.synthesizer = Synthesizer(made.settings, made.generator, store)
    return trial


def _paired(name: str, fast: Any, published: Any, asked: Any) -> list[str]:
    result = compare_paired(fast, published, asked)
    return [
        name,
        f"{published.sum() / asked.sum():.1%}",
        f"{fast.sum() / asked.sum():.1%}",
        f"{100 * result.difference:+.1f}",
        f"{100 * result.interval.low:+.1f} to {100 * result.interval.high:+.1f}",
        f"{result.permutation_p:.3f}",
    ]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=int, default=8_000, help="tokens of the document that is timed")
    parser.add_argument("--score", choices=("dev", "test"), help="also compare scores, on this split")
    parser.add_argument("--documents", type=int, default=12, help="documents of the comparison of scores")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_known_args()[0]
    with setting(str(sys.modules[__name__].__doc__), pairs=3, parser=parser) as where:
        folder = bundled()
        case = large(where.tokenizer(), 24_000, {})
        rows = account(case, llama_shape(case.recipes[0]), where.tokenizer())
        timed = [timing(where, large(where.tokenizer(), options.tokens, TIMED))]
        if folder is not None:
            small = replace(where, checkpoint=folder)
            case = tiny(next(iter(world.documents("dev", 1))))
            model = attach(small.model(), case.recipes[0].adapter, seed=0)
            rows += account(case, Shape.of(model), small.tokenizer())
            timed.append(timing(small, case))
        print_table(
            "Account: Llama-3-8B's shape at 24,000 tokens; the bundled model",
            ["", "steps", "tokens read", "supervised", "T operations", "as the recipe checkpoints"],
            rows,
        )
        print_table(
            "Training: an epoch of each stage on the small model, all epochs on the bundled one",
            ["", "fast s", "published s", "published / fast", "range", "pairs", ""],
            timed,
        )
        if options.score and folder is not None:
            print_table(
                f"Exact match of the bundled model, {options.documents} {options.score} documents, "
                f"{len(options.seeds)} seed(s)",
                ["", "published", "fast", "difference", "95 % interval", "sign-flip p"],
                scores(folder, options.score, options.documents, options.seeds),
            )


if __name__ == "__main__":
    main()
