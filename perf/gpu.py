"""Llama-3-8B's shape with random weights on a GPU: the published settings, in bf16 and nf4.

Without a GPU it prints what the account of operations expects, and measures nothing.
"""

# ruff: noqa: ANN401 - models and tokenizers of transformers have no types

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from account import Shape, matrix_peak
from common.setting import QUESTION_WORDS, Setting, about, console, print_table, seconds, text_of
from transformers import AutoModelForCausalLM, LlamaConfig

from lift_eval import Recipe, load_recipe
from lift_eval.adapters.attach import attach
from lift_eval.answering.generate import Decoding, answer
from lift_eval.memory.workload import MOST_TOKENS
from lift_eval.models.loading import quantization_config, supports_prefix_sharing
from lift_eval.tiny.blank import train_tokenizer
from lift_eval.training.batching import micro_batches
from lift_eval.training.contextualized import contextualized_samples, draw_windows
from lift_eval.training.finetune import column_cost_of, finetune, step_samples
from lift_eval.training.samples import Sample
from lift_eval.training.segments import segments

ASSUMED_PEAK = 6.6e14
"""Operations per second of a large bfloat16 product; an assumption, until a GPU has been measured."""
GOAL = 0.5
"""Share of the peak that training should reach."""
PROMPT_TOKENS = 7_800


@dataclass(frozen=True)
class Work:
    """The training of one document.

    Attributes:
        name: What it stands for.
        recipe: Its recipe.
        epochs: Its samples, epoch by epoch.
        limit: Seconds that it should take at most.
    """

    name: str
    recipe: Recipe
    epochs: Sequence[Sequence[Sample]]
    limit: float


def llama_3_8b() -> LlamaConfig:
    """The shape of Llama-3-8B."""
    return LlamaConfig(
        vocab_size=128_256, hidden_size=4096, intermediate_size=14_336, num_hidden_layers=32,
        num_attention_heads=32, num_key_value_heads=8, max_position_embeddings=8192, rope_theta=500_000.0,
        rms_norm_eps=1e-5, bos_token_id=128_000, eos_token_id=128_001,
    )  # fmt: skip


def _tokens(count: int, seed: int) -> torch.Tensor:
    return torch.randint(0, 4096, (count,), generator=torch.Generator().manual_seed(seed))


def published_v1(quantization: str) -> Work:
    """A LooGLE document of 24,000 tokens: 3 + 5 epochs of Gated Memory, ten pairs in prompts of 7,800 tokens."""
    recipe = load_recipe("llama3_loogle", {"precision.quantization": quantization})
    training, ids, generator = recipe.training, _tokens(24_000, 0), torch.Generator().manual_seed(0)
    length, stride = training.segment_tokens, training.stride_tokens
    count = len(segments(ids, length, stride))
    context = contextualized_samples(
        ids,
        length,
        stride,
        windows=[draw_windows(len(ids), training.window_tokens, generator) for _ in range(count)],
        ellipsis=_tokens(1, 1),
        instruction=_tokens(12, 2),
    )
    half, rest = _tokens(PROMPT_TOKENS // 2, 3), _tokens(PROMPT_TOKENS // 2, 4)
    count = recipe.auxiliary.pairs
    lengths = [2 * QUESTION_WORDS[number * len(QUESTION_WORDS) // count] for number in range(count)]
    pairs = [  # cut in the middle: the longer the question, the later the second half begins
        Sample(torch.cat([half, rest[length:], _tokens(length, number)]), _tokens(12, -number - 1))
        for number, length in enumerate(lengths)
    ]
    epochs = [context] * training.context_epochs + [[*context, *pairs]] * training.joint_epochs
    return Work("24,000 tokens, published v1", recipe, epochs, 240)


def fast_v2(quantization: str) -> Work:
    """A document of 8,000 tokens at v2's fast setting: one pair for each of 320 sentences, one epoch."""
    recipe = load_recipe("v2_fast", {"precision.quantization": quantization})
    beginning = _tokens(45, 0)
    samples = [
        Sample(torch.cat([beginning, _tokens(25, number)]), _tokens(20, -number - 1)) for number in range(320)
    ]
    return Work("8,000 tokens, v2 fast", recipe, [samples], 5)


def expected(work: Work, *, checkpointing: bool, shared: bool) -> list[str]:
    """What the account says of a document's training: each sample by itself, or laid out as training does."""
    with torch.device("meta"):
        base = AutoModelForCausalLM.from_config(llama_3_8b(), dtype=torch.bfloat16)
        model: Any = attach(base, work.recipe.adapter, seed=0)
    shape, operations, tokens = Shape.of(model), 0.0, 0
    generator, size = torch.Generator().manual_seed(0), work.recipe.training.samples_per_step
    for step in (step for epoch in work.epochs for step in step_samples(epoch, size, generator)):
        if shared:
            batches = micro_batches(
                step,
                MOST_TOKENS["cuda"],
                share_prefixes=True,
                cache_prefixes=True,
                column_cost=column_cost_of(model),
            )
            operations += shape.laid_out(batches, checkpointing=checkpointing)
            cache_prefixes = {
                id(prefix): prefix for batch in batches if batch.prefix for prefix in batch.prefix.path
            }
            tokens += sum(batch.input_ids.numel() for batch in batches)
            tokens += sum(len(prefix.ids) for prefix in cache_prefixes.values())
        else:
            operations += shape.training(step, checkpointing=checkpointing)
            tokens += sum(sample.tokens for sample in step)
    return [
        work.name
        + (", shared beginnings once" if shared else "")
        + (", checkpointing" if checkpointing else ""),
        f"{tokens:,}",
        f"{operations / 1e15:.1f}",
        f"{operations / ASSUMED_PEAK / GOAL:.1f}",
        f"{work.limit:.0f}",
    ]


def measure(quantization: str) -> None:
    """Run both documents and the answers on the GPU, and print rates and peaks of memory."""
    peak = matrix_peak(Setting(Path(), "cuda", "bfloat16", pairs=1))
    rows = []
    for work in (fast_v2(quantization), published_v1(quantization)):
        with torch.device("cuda"):
            base = AutoModelForCausalLM.from_config(llama_3_8b(), dtype=torch.bfloat16).requires_grad_(False)
        settings = quantization_config(work.recipe.precision, torch.bfloat16)
        model: Any = attach(base, work.recipe.adapter, seed=0, quantization=settings)
        operations = Shape.of(base if settings else model).training(
            sample for epoch in work.epochs for sample in epoch
        )
        torch.cuda.reset_peak_memory_stats()
        _train(model, work, work.epochs[0][:16])  # warm up
        spent, report = seconds(lambda model=model, work=work: _train(model, work, None), "cuda")
        rows.append(
            [
                f"{work.name}, {quantization}",
                f"{spent:.1f}",
                f"{operations / spent / 1e12:.0f}",
                f"{operations / spent / peak:.0%}",
                f"{torch.cuda.max_memory_allocated() / 2**30:.1f}",
                f"{report.micro_batch_tokens}{' ckpt' if report.gradient_checkpointing else ''}",
            ]
        )
        if work.limit < 60:
            _answer(model)
        del model, base
        torch.cuda.empty_cache()
    print_table(
        f"Measured; matrix peak {peak / 1e12:.0f} T operations per second",
        ["", "seconds", "T operations/s", "of peak", "peak GiB", "micro-batch"],
        rows,
    )


def _train(model: Any, work: Work, few: Sequence[Sample] | None) -> Any:
    return finetune(
        model,
        work.epochs if few is None else [few],
        work.recipe.training,
        compute=work.recipe.compute.model_copy(update={"gradient_checkpointing": False}),
        share_prefixes=supports_prefix_sharing(model),
        generator=torch.Generator().manual_seed(0),
    )


def _answer(model: Any) -> None:
    tokenizer = train_tokenizer([text_of(4000)])
    prompt = _tokens(PROMPT_TOKENS - 30, 5).tolist()
    prompts = [prompt + _tokens(30, number).tolist() for number in range(18)]
    one, _ = seconds(lambda: answer(model, tokenizer, prompts[:1], Decoding(1), batch=1), "cuda")
    all_of_them, _ = seconds(lambda: answer(model, tokenizer, prompts, Decoding(32), batch=18), "cuda")
    console.print(f"first token {one:.2f} s; 18 answers of 32 tokens {all_of_them:.2f} s")


def main() -> None:
    """Measure where there is a GPU, else print what to expect."""
    parser = argparse.ArgumentParser(description=str(sys.modules[__name__].__doc__))
    parser.add_argument("--quantization", nargs="+", choices=("none", "nf4"), default=["none", "nf4"])
    arguments = parser.parse_args()
    if torch.cuda.is_available():
        console.print(about("Llama-3-8B's shape", "cuda", "bfloat16"), markup=False)
        for quantization in arguments.quantization:
            measure(quantization)
        return
    console.print("no GPU: nothing measured; what the account expects of Llama-3-8B's shape")
    works = [fast_v2("none"), published_v1("none")]
    print_table(
        f"Expected at {GOAL:.0%} of an assumed peak of {ASSUMED_PEAK / 1e12:.0f} T operations per second",
        ["", "tokens", "P operations", "seconds", "goal"],
        [
            expected(work, checkpointing=on, shared=shared)
            for work in works
            for shared in (False, True)
            for on in (False, True)
        ],
    )


if __name__ == "__main__":
    main()
