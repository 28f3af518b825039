"""Answering: 18 questions about one document in prompts of 7,800 tokens, ours and one `generate` for each, in turn."""

# ruff: noqa: ANN401 - models and tokenizers of transformers have no types

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping
from typing import Any

import torch
from account import Shape, copy_peak, matrix_peak, products_peak
from common.setting import (
    Paired,
    Row,
    Setting,
    console,
    document_of,
    print_pairs,
    print_rows,
    print_table,
    setting,
    text_of,
)
from peers import trainer

from lift_eval import load_recipe
from lift_eval.answering.cache_rows import group_rows, shared_length
from lift_eval.answering.decoding import Decoding
from lift_eval.answering.generate import answer
from lift_eval.prompts.prompt import PromptEncoder

NEW_TOKENS = 32
WORDS = (6, 6, 7, 7, 8, 8, 8, 9, 10, 10, 10, 11, 11, 12, 13, 14, 14, 16)
"""Of the questions, about as in LooGLE's short-dependency part."""
QUESTIONS = len(WORDS)


def prompts_of(where: Setting, truncate: str) -> list[list[int]]:
    """Prompts of one document, cut as the recipe says."""
    tokenizer = where.tokenizer()
    recipe = load_recipe("loogle_icl", {"prompt.truncate": truncate})
    encoder = PromptEncoder(tokenizer, recipe.prompt, 8192)
    document = document_of(tokenizer, 12_000)
    words = text_of(QUESTIONS, seed=1).split()
    questions = [
        f"What of {number} {' '.join(words[number : number + length - 3])}?"
        for number, length in enumerate(WORDS)
    ]
    return [
        encoder.encode(encoder.render(document, question), reserve=NEW_TOKENS).ids for question in questions
    ]


def compare(
    where: Setting, model: object, tokenizer: object, prompts: list[list[int]], name: str
) -> list[str]:
    """Answer on both sides in turn; returns a row of the table of times."""
    ours, theirs, equal = [], [], 0
    decoding = Decoding(NEW_TOKENS)
    answer(model, tokenizer, prompts[:2], decoding, batch=QUESTIONS)  # warm up
    trainer.answer(model, tokenizer, prompts[:1], NEW_TOKENS)
    for _ in range(where.pairs):
        spent, found = where.seconds(lambda: answer(model, tokenizer, prompts, decoding, batch=QUESTIONS))
        ours.append(spent)
        spent, expected = where.seconds(lambda: trainer.answer(model, tokenizer, prompts, NEW_TOKENS))
        theirs.append(spent)
        equal = sum(one.text == other for one, other in zip(found, expected, strict=True))
    row = Paired(ours, theirs).row(name, f"{equal} of {QUESTIONS} answers")
    console.print("  ".join(row))  # a sign of life
    return row


def main() -> None:
    """Print the tables."""
    with setting(str(sys.modules[__name__].__doc__)) as where:
        model, tokenizer = where.model(), where.tokenizer()
        rows, kinds = [], []
        for truncate in ("document", "prompt"):
            prompts = prompts_of(where, truncate)
            name = f"{QUESTIONS} questions, truncate: {truncate}"
            rows.append(compare(where, model, tokenizer, prompts, name))
            counts = (max(map(len, prompts)), shared_length(prompts), len(group_rows(prompts)))
            kinds.append([name, *map(str, counts)])
        print_pairs(f"Answering, {NEW_TOKENS} new tokens each", rows)
        print_table("The prompts", ["", "tokens", "shared by all", "rows side by side"], kinds)
        _print_prefill(where, model, max(prompts_of(where, "document"), key=len))
        cut = ("document", "prompt")
        cases = {
            f"{QUESTIONS} answers, truncate: {truncate}": prompts_of(where, truncate) for truncate in cut
        }
        print_decoding(where, model, tokenizer, cases)


def _print_prefill(where: Setting, model: object, prompt: list[int]) -> None:
    """Achieved rate until the first token of an answer."""
    shape, peak = Shape.of(model), matrix_peak(where)
    ids = torch.tensor([prompt], device=where.device)

    def prefill() -> object:
        with torch.inference_mode():
            return model(input_ids=ids, use_cache=True, logits_to_keep=1)  # type: ignore[operator]

    first = sorted(where.seconds(prefill)[0] for _ in range(5))[2]
    rate = shape.prefill(len(prompt)) / first
    print_table(
        "Prefill against the account",
        ["", "seconds", "G operations per second", "of matrix peak"],
        [[f"{len(prompt)} tokens", f"{first:.3f}", f"{rate / 1e9:.1f}", f"{rate / peak:.0%}"]],
    )


def print_decoding(
    where: Setting, model: Any, tokenizer: Any, cases: Mapping[str, list[list[int]]], *, tries: int = 3
) -> None:
    """Achieved rate of further tokens, by the difference between long and short answers, beside the account.

    No answer ends by itself meanwhile, so that all of them take part in each step.

    Args:
        where: Device, number format and clock.
        model: What answers.
        tokenizer: Its tokenizer.
        cases: Prompts by the name of the row.
        tries: How often the difference is measured; the median counts.
    """
    shape, copies = Shape.of(model), copy_peak(where)
    rows: list[Row] = []
    ends = model.generation_config.eos_token_id, tokenizer.eos_token
    model.generation_config.eos_token_id = tokenizer.eos_token = None
    for name, prompts in cases.items():

        def work(tokens: int, prompts: list[list[int]] = prompts) -> float:
            decoding = Decoding(tokens)
            return where.seconds(lambda: answer(model, tokenizer, prompts, decoding, batch=len(prompts)))[0]

        step = statistics.median(work(NEW_TOKENS + 1) - work(1) for _ in range(tries)) / NEW_TOKENS
        side_by_side, count = len(group_rows(prompts)), len(prompts)
        needed = shape.decoding_bytes(side_by_side, len(prompts[0]), where.torch_dtype.itemsize)
        operations = shape.forward(count, sum(map(len, prompts)), count)
        rows.append(
            {
                "": f"{name} in {side_by_side} rows",
                "ms per step": step * 1e3,
                "MiB to read": needed / 2**20,
                "of copy peak": f"{needed / step / copies:.0%}",
                "G operations per second": operations / step / 1e9,
                "of its own products' peak": f"{operations / step / products_peak(where, model, count):.0%}",
            }
        )
    model.generation_config.eos_token_id, tokenizer.eos_token = ends
    print_rows("Decoding against the account", rows)


if __name__ == "__main__":
    main()
