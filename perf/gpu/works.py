"""The training of one document by each recipe: its samples, and the operations that they need."""

# ruff: noqa: ANN401 - models of transformers have no types

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from account import Shape
from common.setting import QUESTION_WORDS
from transformers import AutoModelForCausalLM

from gpu.bench import Size, draw
from lift_eval import Recipe
from lift_eval.adapters.attach import attach
from lift_eval.training.contextualized import contextualized_samples, draw_windows
from lift_eval.training.finetune import step_samples
from lift_eval.training.layout import Layout
from lift_eval.training.samples import Sample
from lift_eval.training.segments import segments

Epochs = Sequence[Sequence[Sample]]


@dataclass(frozen=True)
class Work:
    """The training of one document.

    Attributes:
        name: What it stands for.
        recipe: Its recipe.
        document: Tokens of the document.
        epochs: All its samples, epoch by epoch.
        excerpt: Those of them that are timed.
        limit: Seconds that the document should take at most. None means that no goal is set.
    """

    name: str
    recipe: Recipe
    document: int
    epochs: Epochs
    excerpt: Epochs
    limit: float | None = None

    def operations(self, shape: Shape, epochs: Epochs, layout: Layout) -> tuple[float, int]:
        """Operations of epochs that are laid out as training does, and the tokens that are trained on.

        Args:
            shape: Of the model with the recipe's adapter.
            epochs: All of them, or the excerpt.
            layout: How a step's samples are laid out.
        """
        operations, tokens = self._teaching(shape, epochs), 0
        generator, size = torch.Generator().manual_seed(0), self.recipe.training.samples_per_step
        for step in (step for epoch in epochs for step in step_samples(epoch, size, generator)):
            batches = layout.batches(step)
            operations += shape.laid_out(batches, checkpointing=layout.checkpointing)
            prefixes = {
                id(prefix): prefix for batch in batches if batch.prefix for prefix in batch.prefix.path
            }
            tokens += sum(batch.input_ids.numel() for batch in batches)
            tokens += sum(len(prefix.ids) for prefix in prefixes.values())
        return operations, tokens

    def operations_alone(self, shape: Shape, epochs: Epochs, *, checkpointing: bool = False) -> float:
        """Operations of epochs whose samples share nothing."""
        samples = (sample for epoch in epochs for sample in epoch)
        return self._teaching(shape, epochs) + shape.training(samples, checkpointing=checkpointing)

    def _teaching(self, shape: Shape, epochs: Epochs) -> float:
        if not self.recipe.training.distills:
            return 0.0
        return shape.teaching({id(sample): sample for epoch in epochs for sample in epoch}.values())

    def model(self, config: Any) -> Any:
        """A model without data that has the recipe's adapter."""
        with torch.device("meta"):
            base = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
            return attach(base, self.recipe.adapter.without_initialisation, seed=0)

    def shape(self, config: Any) -> Shape:
        """The shape of the model once its adapter is prepared for the document."""
        return replace(Shape.of(self.model(config)), positions=self.recipe.adapter.positions(self.document))


def published(size: Size, precision: str) -> Work:
    """A LooGLE document of 24,000 tokens: 3 + 5 epochs of Gated Memory, ten pairs in prompts of 7,800 tokens."""
    recipe = size.recipe("llama3_loogle", precision)
    training, ids, generator = recipe.training, draw(size.scaled(24_000), 0), torch.Generator().manual_seed(0)
    length, stride = training.segment_tokens, training.stride_tokens
    context = contextualized_samples(
        ids,
        length,
        stride,
        windows=[
            draw_windows(len(ids), training.window_tokens, generator) for _ in segments(ids, length, stride)
        ],
        ellipsis=draw(1, 1),
        instruction=draw(12, 2),
    )
    half, rest = (draw(recipe.prompt.max_tokens // 2, seed) for seed in (3, 4))
    count = recipe.auxiliary.pairs
    lengths = [2 * QUESTION_WORDS[number * len(QUESTION_WORDS) // count] for number in range(count)]
    pairs = [  # cut in the middle: the longer the question, the later the second half begins
        Sample(torch.cat([half, rest[length:], draw(length, number)]), draw(12, 100 + number))
        for number, length in enumerate(lengths)
    ]
    epochs = [context] * training.context_epochs + [[*context, *pairs]] * training.joint_epochs
    excerpt = [[*context[:6], *pairs[::2][:3]]]
    return Work(f"{len(ids):,} tokens, published v1", recipe, len(ids), epochs, excerpt, 240)


def fast(size: Size, precision: str) -> Work:
    """A document of 8,000 tokens at v2's fast setting: one pair for each of 320 sentences, one epoch."""
    return _sentence_pairs(size, "v2_fast", precision, beginning=45, pairs=320, limit=5)


def v2(size: Size, precision: str) -> Work:
    """The same document with ten pairs for each sentence, and five epochs of four pairs a step."""
    return _sentence_pairs(size, "v2", precision, beginning=60, pairs=3200)


def _sentence_pairs(
    size: Size, name: str, precision: str, *, beginning: int, pairs: int, limit: float | None = None
) -> Work:
    """Pairs about sentences, whose prompts begin alike; 128 of them are timed."""
    recipe, document, start = size.recipe(name, precision), size.scaled(8000), draw(beginning, 0)
    samples = [
        Sample(torch.cat([start, draw(25, number)]), draw(20, 10_000 + number))
        for number in range(size.scaled(pairs))
    ]
    epochs = [samples] * recipe.training.joint_epochs
    return Work(
        f"{document:,} tokens, {name}", recipe, document, epochs, [samples[: size.scaled(128)]], limit
    )


def cartridge(size: Size, precision: str) -> Work:
    """A document of 24,000 tokens: two epochs of conversations, learned from a teacher that reads a chunk with each.

    The teacher reads in the first epoch alone.
    """
    recipe, document = size.recipe("cartridge", precision), size.scaled(24_000)
    count = size.scaled(recipe.auxiliary.pairs)
    generator = torch.Generator().manual_seed(0)
    chunks = torch.randint(size.scaled(512), size.scaled(4096) + 1, (count,), generator=generator).tolist()
    answers = torch.randint(size.scaled(64), size.scaled(448) + 1, (count,), generator=generator).tolist()
    samples = []
    for number, (chunk, answer) in enumerate(zip(chunks, answers, strict=True)):
        question = draw(30, number)
        read = torch.cat([draw(chunk, 10_000 + number), question])
        samples.append(Sample(question, draw(answer, 20_000 + number), teacher_context=read))
    epochs, excerpt = ([part] * recipe.training.joint_epochs for part in (samples, samples[:16]))
    return Work(f"{document:,} tokens, cartridge", recipe, document, epochs, excerpt)


WORKS = {"published": published, "fast": fast, "v2": v2, "cartridge": cartridge}
"""By the names of their stages."""
