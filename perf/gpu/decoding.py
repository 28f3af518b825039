"""What share of the matrix peak reading a prompt reaches, and decoding of the rate at which memory can be read."""

# ruff: noqa: ANN401 - models of transformers have no types

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from account import Shape
from common.setting import Row

from gpu.bench import Bench, draw
from gpu.works import fast
from lift_eval.answering.cache_rows import group_rows
from lift_eval.answering.decoding import Decoding
from lift_eval.answering.generate import answer
from lift_eval.memory.fake_model import bytes_of
from lift_eval.memory.simulate import NoTokenizer
from lift_eval.models.loading import base_of

RUNS = 2
DOCUMENT_TOKENS = 7770


def questions(bench: Bench, precision: str) -> Iterator[Row]:
    """18 questions behind one document, answered with the adapter in 32 tokens each."""
    beginning = draw(bench.size.scaled(DOCUMENT_TOKENS), 0).tolist()
    prompts = [[*beginning, *draw(30, 1 + number).tolist()] for number in range(18)]
    work = fast(bench.size, precision)
    name = f"18 questions behind {len(beginning):,} tokens, {precision}"
    yield from _decode(bench, bench.adapted(work.recipe), work.shape(bench.size.config), name, prompts, 32)


def requests(bench: Bench, precision: str) -> Iterator[Row]:
    """64 short requests for question-answer pairs, which the base answers in 128 tokens each."""
    beginning = draw(60, 0).tolist()
    prompts = [[*beginning, *draw(120, 1 + number).tolist()] for number in range(bench.size.scaled(64))]
    work = fast(bench.size, precision)
    model, shape = bench.adapted(work.recipe), replace(work.shape(bench.size.config), adapter=0)
    with model.disable_adapter():
        name = f"{len(prompts)} requests of {len(prompts[0])} tokens, {precision}"
        yield from _decode(bench, model, shape, name, prompts, bench.size.scaled(128))


def _decode(
    bench: Bench, model: Any, shape: Shape, name: str, prompts: list[list[int]], new_tokens: int
) -> Iterator[Row]:
    def timed(tokens: int, some: list[list[int]]) -> float:
        batch = len(some)
        return bench.seconds(lambda: answer(model, NoTokenizer(), some, Decoding(tokens), batch=batch))[0]

    timed(2, prompts)  # warms up
    bench.reset_peak()
    first, steps, wholes = timed(1, prompts[:1]), [], []
    side_by_side = len(group_rows(prompts))
    read = _weight_bytes(model, adapted=shape.adapter > 0) + 2 * side_by_side * len(prompts[0]) * shape.cache
    for _ in bench.parts(range(RUNS)):
        short, whole = timed(1, prompts), timed(new_tokens, prompts)
        wholes.append(whole)
        steps.append((whole - short) / max(new_tokens - 1, 1))
        step, spent = statistics.median(steps), statistics.median(wholes)
        yield {
            "": name,
            "first token s": first,
            "of matrix peak": shape.prefill(len(prompts[0])) / first / bench.peak,
            f"all {new_tokens} tokens s": spent,
            "tokens/s": new_tokens * len(prompts) / spent,
            "ms a step": 1e3 * step,
            "of copy peak": read / step / bench.copy_peak,
            "GiB": bench.peak_gib,
            "runs": len(steps),
        }


def _weight_bytes(model: Any, *, adapted: bool) -> int:
    """Bytes of the weights that a step reads: of the embeddings some rows, which do not count."""
    embeddings = base_of(model).get_input_embeddings().weight
    return bytes_of(
        weight
        for weight in model.parameters()
        if weight is not embeddings and (adapted or not weight.requires_grad)
    )
