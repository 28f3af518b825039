"""Requests for pairs, conversations, and questions behind a document: ours and `generate` in equal batches, in turn.

Texts are compared as far as they are used: up to the end of the reply's form. Conversations are sampled, so each side
has its own.
"""

# ruff: noqa: ANN401 - models and tokenizers of transformers have no types

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from common.setting import (
    Paired,
    Row,
    Setting,
    bundled,
    console,
    document_of,
    print_pairs,
    print_rows,
    setting,
)

from lift_eval import Document, Recipe, benchmarks, load_recipe
from lift_eval.answering.decoding import Answer, Decoding
from lift_eval.answering.generate import answer
from lift_eval.prompts.prompt import PromptEncoder
from lift_eval.synthesis.base import Request
from lift_eval.synthesis.generators import Answered, ModelGenerator
from lift_eval.synthesis.pairs import _request
from lift_eval.tiny import world

WINDOW = 8192
NEW_TOKENS = 32
"""Of an answer to a question."""


@dataclass(frozen=True)
class Case:
    """Prompts, and how they are decoded.

    Attributes:
        name: What a table says.
        prompts: Token ids of each.
        decoding: Ours; the peer knows its most new tokens alone, and is cut where ours ends.
        batch: Most rows side by side.
    """

    name: str
    prompts: Sequence[Sequence[int]]
    decoding: Decoding
    batch: int


def requests_for_pairs(model: Any, tokenizer: Any, recipe: Recipe, document: Document, most: int) -> Case:
    """The first requests that a recipe's strategy makes of a document."""
    settings = recipe.auxiliary
    generator = ModelGenerator(model, tokenizer, settings, WINDOW)
    passages = list(settings.method.choose(document, settings, torch.Generator().manual_seed(0)))[:most]
    prompts = [generator._encode(Request(passage.request())) for passage in passages]
    decoding = Decoding(settings.reply_tokens, generator._reply_ends, form=generator._form)
    return Case(f"{len(prompts)} requests, {recipe.name}", prompts, decoding, settings.batch)


def questions(
    tokenizer: Any,
    document: Document,
    count: int,
    *,
    tokens: int,
    truncate: str = "document",
    batch: int = 16,
) -> Case:
    """Questions about a document in prompts that hold at most so many tokens, its middle cut out."""
    changes = {"prompt.max_tokens": tokens, "prompt.truncate": truncate}
    encoder = PromptEncoder(tokenizer, load_recipe("loogle_icl", changes).prompt, WINDOW)
    words = document.text.split()
    asked = [f"What of {' '.join(words[n : n + 4 + n % 5])}?" for n in range(count)]
    rendered = [encoder.render(document, question) for question in asked]
    prompts = [encoder.encode(one, reserve=NEW_TOKENS).ids for one in rendered]
    name = f"{count} questions, prompts of {max(map(len, prompts))} tokens"
    return Case(name, prompts, Decoding(NEW_TOKENS), batch)


def by_generate(model: Any, tokenizer: Any, case: Case) -> list[str]:
    """What ``generate`` writes, in batches of like length, padded on the left."""
    order = sorted(range(len(case.prompts)), key=lambda number: -len(case.prompts[number]))
    texts: dict[int, str] = {}
    for start in range(0, len(order), case.batch):
        rows = order[start : start + case.batch]
        width = max(len(case.prompts[number]) for number in rows)
        gaps = [width - len(case.prompts[number]) for number in rows]
        pad = tokenizer.pad_token_id or 0
        ids = [[pad] * gap + list(case.prompts[number]) for gap, number in zip(gaps, rows, strict=True)]
        output = model.generate(
            input_ids=torch.tensor(ids, device=model.device),
            attention_mask=torch.tensor([[0] * gap + [1] * (width - gap) for gap in gaps]).to(model.device),
            max_new_tokens=case.decoding.max_new_tokens,
            pad_token_id=pad,
            **case.decoding.arguments,
        )
        written = tokenizer.batch_decode(output[:, width:], skip_special_tokens=True)
        texts.update(zip(rows, written, strict=True))
    return [texts[number] for number in range(len(order))]


def compare(where: Setting, model: Any, tokenizer: Any, case: Case) -> tuple[list[list[str]], Row]:
    """Decode on both sides in turn; rows of the table of times, and a row of that of rates."""
    ours, theirs, own = [], [], []
    plain = replace(case.decoding, stop=(), form=None)

    def decoded(decoding: Decoding) -> tuple[float, list[Answer]]:
        return where.seconds(lambda: answer(model, tokenizer, case.prompts, decoding, batch=case.batch))

    with torch.inference_mode():
        for _ in range(where.pairs):
            spent, found = decoded(case.decoding)
            ours.append(spent)
            spent, texts = where.seconds(lambda: by_generate(model, tokenizer, case))
            theirs.append(spent)
            if case.decoding.stops:
                own.append(decoded(plain)[0])
    cut = [text[: case.decoding.end(text)] for text in texts]
    equal = sum(one.text == other for one, other in zip(found, cut, strict=True))
    rows = [Paired(ours, theirs).row(case.name, f"{equal} of {len(cut)} texts")]
    if own:
        rows.append(Paired(own, theirs).row("  without an end of the form", ""))
    used, written = (sum(len(tokenizer(text)["input_ids"]) for text in side) for side in (cut, texts))
    rates: Row = {
        "": case.name,
        "tokens used": used,
        "ours a second": used / min(ours),
        "peer a second": used / min(theirs),
        "tokens that the peer wrote": written,
    }
    console.print("  ".join(rows[0]))  # a sign of life
    return rows, rates


def conversations_by_generate(
    generator: ModelGenerator, requests: Sequence[Request], temperature: float
) -> list[str]:
    """The messages and answers that ``generate`` writes, all messages first."""
    model, tokenizer, settings = generator.model, generator.tokenizer, generator.settings
    most, ends = settings.reply_tokens, generator._reply_ends

    def written(asked: Sequence[Request], options: dict[str, Any]) -> list[Answer]:
        prompts, decoding = [generator._encode(one) for one in asked], Decoding(most, ends, options)
        texts = by_generate(model, tokenizer, Case("", prompts, decoding, settings.batch))
        whole = [len(tokenizer(text)["input_ids"]) < most for text in texts]
        return [Answer(text[: decoding.end(text)], end) for text, end in zip(texts, whole, strict=True)]

    messages = written(requests, {"do_sample": True, "temperature": temperature})
    second = [one.follow and one.follow(said) for one, said in zip(requests, messages, strict=True)]
    return [said.text for said in (*messages, *written([one for one in second if one], {}))]


def compare_conversations(
    where: Setting, model: Any, tokenizer: Any, recipe: Recipe, document: Document
) -> tuple[list[list[str]], Row]:
    """Converse on both sides in turn, without a second try; see `compare`."""
    spent: list[list[float]] = [[], []]
    used, passed, said = [0, 0], [0, 0], [0, 0]
    settings = recipe.auxiliary
    generator = ModelGenerator(model, tokenizer, settings, WINDOW)
    passages = settings.method.choose(document, settings, torch.Generator().manual_seed(0))
    requests = [_request(document, passage, (), settings, bool) for passage in passages]

    def ours() -> list[str]:
        replies = generator.generate(requests, temperature=settings.temperature, seed=0)
        turns = [reply for reply in replies if isinstance(reply, Answered)]
        return [one.text for reply in turns for one in (reply, reply.answer) if one]

    def theirs() -> list[str]:
        return conversations_by_generate(generator, requests, settings.temperature)

    with torch.inference_mode():
        for _ in range(where.pairs):
            for side, work in enumerate((ours, theirs)):
                read: list[int] = []
                hook = model.get_input_embeddings().register_forward_pre_hook(
                    lambda _, ids, read=read: read.append(ids[0].numel())
                )
                seconds, texts = where.seconds(work)
                hook.remove()
                spent[side].append(seconds)
                used[side] = sum(len(tokenizer(text)["input_ids"]) for text in texts)
                passed[side], said[side] = sum(read), len(texts)
    name = f"{settings.pairs} conversations, {recipe.name}"
    remark = f"{said[0]} and {said[1]} texts, {passed[0]} and {passed[1]} tokens read"
    rates: Row = {
        "": name,
        "tokens used": used[0],
        "ours a second": used[0] / min(spent[0]),
        "peer a second": used[1] / min(spent[1]),
        "tokens that the peer wrote": used[1],
    }
    row = Paired(*spent).row(name, remark)
    console.print("  ".join(row))  # a sign of life
    return [row], rates


def any_document(model: Path) -> Document:
    """A document of the bundled model's world, or one in plain English for other models."""
    if model == bundled():
        article = next(world.documents("dev", 1)).article
        return Document(article.text, article.title)
    found = json.loads(
        (Path(benchmarks.__file__).parent / "originals/council_minutes.json").read_text("utf-8")
    )
    return Document(found["text"], found["title"])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--recipe", default="tiny", help="whose requests for pairs are made")
    parser.add_argument("--requests", type=int, default=48)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--conversations", type=int, default=16, help="of recipe cartridge")
    parser.add_argument("--questions", type=int, default=16)
    parser.add_argument(
        "--document", type=int, help="tokens of an invented document, which the questions are about"
    )
    parser.add_argument(
        "--tokens", type=int, default=500, help="most tokens of a prompt, 200 for its question"
    )
    parser.add_argument("--truncate", choices=("document", "prompt"), default="document")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="changes of the recipes")
    parser.set_defaults(model=bundled())
    with setting(str(sys.modules[__name__].__doc__), pairs=3, parser=parser) as where:
        options = parser.parse_args()
        model, tokenizer = where.model(), where.tokenizer()
        document = any_document(where.checkpoint)
        given = (change.split("=", 1) for change in options.set)
        changes: dict[str, Any] = {key: yaml.safe_load(value) for key, value in given}
        changes |= {"auxiliary.batch": options.batch}
        cases = []
        if options.requests:
            recipe = load_recipe(options.recipe, changes)
            cases.append(requests_for_pairs(model, tokenizer, recipe, document, options.requests))
        if options.questions:
            about = document_of(tokenizer, options.document) if options.document else document
            asked = {"tokens": options.tokens, "truncate": options.truncate, "batch": options.batch}
            cases.append(questions(tokenizer, about, options.questions, **asked))
        done = [compare(where, model, tokenizer, case) for case in cases]
        if options.conversations:
            talk = load_recipe("cartridge", {**changes, "auxiliary.pairs": options.conversations})
            done.append(compare_conversations(where, model, tokenizer, talk, document))
        times = [row for rows, _ in done for row in rows]
        rates = [row for _, row in done]
        print_pairs("Decoding", times)
        print_rows("Rates", rates)


if __name__ == "__main__":
    main()
