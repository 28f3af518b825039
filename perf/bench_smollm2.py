"""A real small model on a processor: SmolLM2-135M-Instruct in bfloat16, on documents written for this project.

Training, in turn with the peer: segments of 1,024 tokens of documents of several lengths, one epoch of the recipe
`smollm2` with a LoRA on all linear layers; and question-answer pairs, eight to a step, as the recipe `smollm2_pairs`
trains them. Documents side by side, each with a thread of its own. Decoding: 16 questions behind one document, in turn
with `generate`. Then the operators that take most of the time of each. `lift-eval model fetch smollm2` gets the model.
"""

# ruff: noqa: ANN401 - tokenizers of transformers have no types

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from bench_answering import print_decoding
from bench_decoding import compare as compare_decoding
from bench_decoding import questions
from bench_training import compare, rates, short_steps, train
from common.operators import print_operators
from common.processes import seconds_together
from common.setting import Setting, console, print_pairs, print_rows, setting

from lift_eval import Document, Recipe, load_recipe
from lift_eval.adapters.attach import attach
from lift_eval.answering.generate import answer
from lift_eval.benchmarks.original_documents import read_originals
from lift_eval.models.fetch import fetchable_models
from lift_eval.prompts.prompt import PromptEncoder
from lift_eval.training.samples import Sample
from lift_eval.training.segments import segment_samples
from lift_eval.training.stages import document_ids

MODEL = "smollm2"
ON_ALL_LAYERS = {"adapter.targets": "all-linear"}
PAIRS = 48

Steps = list[list[Sample]]


def original_text(tokenizer: Any, tokens: int) -> Document:
    """The project's own documents, one after the other, cut after so many tokens."""
    texts = [original.text for split in ("development", "report") for _, original in read_originals(split)]
    ids = tokenizer("\n\n".join(texts), add_special_tokens=False, verbose=False)["input_ids"]
    return Document(tokenizer.decode(ids[:tokens]), title="Collected Papers")


def segments(where: Setting, tokens: int) -> tuple[Recipe, Steps]:
    """One epoch of a document's segments, each a step."""
    recipe, tokenizer = load_recipe("smollm2", ON_ALL_LAYERS), where.tokenizer()
    ids = document_ids(
        original_text(tokenizer, tokens), recipe, PromptEncoder(tokenizer, recipe.prompt, 2048)
    )
    samples = segment_samples(ids, recipe.training.segment_tokens, recipe.training.stride_tokens)
    return recipe, [[sample] for sample in samples]


def pairs(where: Setting) -> tuple[Recipe, Steps]:
    """Steps of closed-book pairs."""
    recipe = load_recipe("smollm2_pairs", ON_ALL_LAYERS)
    size = int(recipe.training.samples_per_step)
    return recipe, short_steps(where.tokenizer(), recipe, size, PAIRS // size)


def print_training(where: Setting, lengths: list[int]) -> None:
    """Print the tables of training."""
    cases = {f"segments, {tokens} tokens": segments(where, tokens) for tokens in lengths}
    cases |= {f"{PAIRS} pairs": pairs(where)}
    results = [compare(where, name, *case) for name, case in cases.items()]
    print_pairs("Training alone, the same steps", [times for times, _ in results])
    print_rows("Ours against the account and the floor", [rates for _, rates in results])
    for name, (recipe, steps) in list(cases.items())[-2:]:
        model = attach(where.model(), recipe.adapter, seed=recipe.seed)
        print_operators(f"A step of {name}", partial(train, model, steps[:1], recipe))


def print_side_by_side(where: Setting, tokens: int) -> None:
    """Print the rates of a document on all cores, and of as many documents as cores, each in a process of its own."""
    cores = torch.get_num_threads()
    recipe, steps = segments(where, tokens)
    model = attach(where.model(), recipe.adapter, seed=recipe.seed)
    room = max(sample.tokens for step in steps for sample in step)
    rows = []
    for name, processes in (
        (f"one document, {cores} threads", 1),
        (f"{cores} documents, a thread each", cores),
    ):
        spent = seconds_together(processes, _segments_of_a_document, where, tokens, cores // processes)
        row = rates(where, name, model, processes * steps, room, spent)
        rows.append({"": name, "seconds": round(spent, 1), **row})
    print_rows(f"Documents of {tokens} tokens side by side, segments, by wall clock", rows)


def _segments_of_a_document(_: int, where: Setting, tokens: int, threads: int) -> Callable[[], object]:
    torch.set_num_threads(threads)
    recipe, steps = segments(where, tokens)
    model = attach(where.model(), recipe.adapter, seed=recipe.seed)
    train(model, steps[:1], recipe)
    return partial(train, model, steps, recipe)


def print_answers(where: Setting, tokens: int, count: int) -> None:
    """Print the tables of decoding."""
    model, tokenizer = where.model(), where.tokenizer()
    case = questions(tokenizer, original_text(tokenizer, 2 * tokens), count, tokens=tokens, batch=count)
    times, rates = compare_decoding(where, model, tokenizer, case)
    print_pairs("Decoding", times)
    print_rows("Rates", [rates])
    prompts = [list(prompt) for prompt in case.prompts]
    print_decoding(where, model, tokenizer, {f"{count} questions": prompts}, tries=where.pairs)
    work = partial(answer, model, tokenizer, prompts, case.decoding, batch=count)
    print_operators(case.name, work)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=int, nargs="+", default=[5000, 15000], help="of the documents")
    parser.add_argument("--prompt-tokens", type=int, default=1800, help="of a prompt with a question")
    parser.add_argument("--questions", type=int, default=16)
    parser.set_defaults(model=MODEL, dtype="bfloat16")
    if not fetchable_models()[MODEL].path.is_file():
        console.print(f"left out: 'lift-eval model fetch {MODEL}' gets the model")
        return
    with setting(str(sys.modules[__name__].__doc__), pairs=1, parser=parser) as where:
        options = parser.parse_args()
        print_training(where, options.tokens)
        print_side_by_side(where, min(options.tokens))
        print_answers(where, options.prompt_tokens, options.questions)


if __name__ == "__main__":
    main()
