"""Answering: 18 questions about one document in prompts of 7,800 tokens, ours and one `generate` for each, in turn."""

from __future__ import annotations

import sys

import torch
from account import Shape, matrix_peak
from common.setting import Paired, Setting, console, document_of, print_pairs, print_table, setting
from peers import trainer

from lift_eval import load_recipe
from lift_eval.answering import Decoding, answer, shared_length
from lift_eval.prompt import PromptEncoder

QUESTIONS = 18
NEW_TOKENS = 32


def prompts_of(where: Setting, truncate: str) -> list[list[int]]:
    """Prompts of one document, cut as the recipe says."""
    tokenizer = where.tokenizer()
    recipe = load_recipe("loogle_icl", {"prompt.truncate": truncate})
    encoder = PromptEncoder(tokenizer, recipe.prompt, 8192)
    document = document_of(tokenizer, 12_000)
    questions = [f"What is said about place number {number * 7919}?" for number in range(QUESTIONS)]
    return [
        encoder.encode(encoder.render(document, question), reserve=NEW_TOKENS).ids for question in questions
    ]


def compare(
    where: Setting, model: object, tokenizer: object, prompts: list[list[int]], name: str
) -> list[str]:
    """Answer on both sides in turn; returns a row of the table of times."""
    ours, theirs, equal = [], [], 0
    decoding = Decoding(NEW_TOKENS)
    for _ in range(where.pairs + 1):
        spent, found = where.seconds(lambda: answer(model, tokenizer, prompts, decoding, batch=QUESTIONS))
        ours.append(spent)
        spent, expected = where.seconds(lambda: trainer.answer(model, tokenizer, prompts, NEW_TOKENS))
        theirs.append(spent)
        equal = sum(one.text == other for one, other in zip(found, expected, strict=True))
    row = Paired(ours[1:], theirs[1:]).row(name, f"{equal} of {QUESTIONS} answers")
    console.print("  ".join(row))  # a sign of life
    return row


def main() -> None:
    """Print the tables."""
    with setting(str(sys.modules[__name__].__doc__)) as where:
        model, tokenizer = where.model(), where.tokenizer()
        rows, rates = [], []
        for truncate in ("document", "prompt"):
            prompts = prompts_of(where, truncate)
            name = f"{QUESTIONS} questions, truncate: {truncate}"
            rows.append(compare(where, model, tokenizer, prompts, name))
            rates.append([name, str(max(map(len, prompts))), str(shared_length(prompts))])
        print_pairs(f"Answering, {NEW_TOKENS} new tokens each", rows)
        print_table("The prompts", ["", "tokens", "shared tokens"], rates)
        _print_stages(where, model, max(prompts_of(where, "document"), key=len))


def _print_stages(where: Setting, model: object, prompt: list[int]) -> None:
    """Achieved rates of the two stages of an answer."""
    shape, peak = Shape.of(model), matrix_peak(where.device, where.torch_dtype)
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


if __name__ == "__main__":
    main()
