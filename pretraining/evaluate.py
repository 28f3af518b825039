"""What the bundled model can do: ``python -m pretraining.evaluate``.

It answers questions from context, by the length of the prompt, and writes pairs about passages, which are checked
against the world.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

import lift_eval.tiny
from lift_eval.tiny import prompts, world
from pretraining.packing import Batch, Tree, pack
from pretraining.samples import Samples

CHECKPOINT = Path(lift_eval.tiny.__file__).parent / "checkpoint"


def logits(
    model: LlamaForCausalLM, batch: Batch, where: torch.Tensor, body: Callable[..., Any] | None = None
) -> torch.Tensor:
    """Logits at the chosen positions only.

    Args:
        model: The model.
        batch: Packed trees.
        where: Boolean, shape (rows, row tokens).
        body: A compiled form of ``model.model``.

    Returns:
        Shape (chosen positions, vocabulary), float32.
    """
    hidden = (model.model if body is None else body)(
        input_ids=batch.ids, position_ids=batch.positions, attention_mask=batch.mask(), use_cache=False
    ).last_hidden_state
    scores: torch.Tensor = model.lm_head(hidden[where]).float()
    return scores


@torch.no_grad()
def exact_match(
    model: LlamaForCausalLM, trees: list[Tree], rows: int = 16, length: int = 384
) -> tuple[int, int]:
    """How many answers greedy decoding gets exactly right, end token included, and how many there are.

    Greedy decoding gives the answer exactly when the answer's every token is the most likely one after the tokens
    before it, so one forward pass per batch decides.
    """
    right = total = 0
    waiting = [tree for tree in trees if tree.branches]
    while waiting:
        taken: list[Tree] = []
        room = rows * length
        while waiting and room - len(waiting[-1]) > 0.1 * rows * length:
            room -= len(waiting[-1])
            taken.append(waiting.pop())
        batch = pack(taken, rows, length)
        device = next(model.parameters()).device
        batch = Batch(*(tensor.to(device) for tensor in batch))
        where = batch.weights > 0
        hit = logits(model, batch, where).argmax(-1) == batch.targets[where]
        row = torch.arange(rows, device=device)[:, None].expand_as(where)[where]
        key = (row * 1000 + batch.tree[where]) * 1000 + batch.branch[where]
        _, groups = torch.unique(key, return_inverse=True)
        wrong = torch.zeros(int(groups.max()) + 1, device=device).index_add_(0, groups, (~hit).float())
        right += int((wrong == 0).sum())
        total += len(wrong)
    return right, total


def in_context(
    model: LlamaForCausalLM, samples: Samples, tokens: int, articles: int, *, joint: bool, split: world.Split
) -> tuple[int, int]:
    """Exact match on articles that no training saw.

    Args:
        model: The model.
        samples: Makes the prompts.
        tokens: Length of a prompt, to within 12 tokens.
        articles: How many articles, with at most four questions each.
        joint: Whether to ask questions over two facts.
        split: Whose names are used.

    Returns:
        Answers that are right, and all.
    """
    rng = random.Random(f"in context {tokens}")  # noqa: S311
    supply = world.Supply(split, rng)
    trees: list[Tree] = []
    while len(trees) < articles:
        facts = max(3, tokens // 20)
        written = world.article(rng, supply, pairs=facts // 3, singles=2, words=round(tokens * 0.82))
        prefix = samples.encode(prompts.DOCUMENT.format(title=written.title, context=written.text))
        if joint:
            asked = [(item.question, item.answer) for item in written.joints]
        else:
            asked = [(rng.choice(fact.questions), fact.answer) for _, fact in written.facts]
        if abs(len(prefix) + 17 - tokens) < 12:
            trees.append(samples.reading(prefix, rng.sample(asked, min(4, len(asked)))))
    return exact_match(model, trees)


def among_alike(
    model: LlamaForCausalLM, samples: Samples, articles: int, *, split: world.Split
) -> tuple[int, int]:
    """Exact match where about six names have the same thing said of them, so that the name alone decides."""
    rng = random.Random("alike")  # noqa: S311
    supply = world.Supply(split, rng)
    trees: list[Tree] = []
    for _ in range(articles):
        written = world.article(rng, supply, pairs=0, singles=6, words=90, alike=True)
        prefix = samples.encode(prompts.DOCUMENT.format(title=written.title, context=written.text))
        trees.append(
            samples.reading(prefix, [(rng.choice(fact.questions), fact.answer) for _, fact in written.facts])
        )
    return exact_match(model, trees)


@torch.no_grad()
def complete(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    prompt_texts: list[str],
    *,
    tokens: int = 40,
    temperature: float = 0.0,
    seed: int = 0,
) -> list[str]:
    """Continue each prompt, greedily or by sampling."""
    generator = torch.Generator().manual_seed(seed)
    encoded = [tokenizer(text).input_ids for text in prompt_texts]
    width = max(len(ids) for ids in encoded)
    device = next(model.parameters()).device
    pad = tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (width - len(one)) + one for one in encoded], device=device)
    mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in encoded], device=device)
    past = None
    done = torch.zeros(len(encoded), dtype=torch.bool)
    out: list[list[int]] = [[] for _ in encoded]
    step = ids
    for _ in range(tokens):
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -step.size(1) :]
        result = model(
            input_ids=step,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=past,
            use_cache=True,
            logits_to_keep=1,
        )
        past = result.past_key_values
        scores = result.logits[:, -1].float().cpu()
        if temperature:
            chosen = torch.multinomial((scores / temperature).softmax(-1), 1, generator=generator)[:, 0]
        else:
            chosen = scores.argmax(-1)
        for index, token in enumerate(chosen.tolist()):
            done[index] |= token == tokenizer.eos_token_id
            if not done[index]:
                out[index].append(token)
        if done.all():
            break
        step = chosen[:, None].to(device)
        mask = torch.cat([mask, torch.ones_like(step)], dim=1)
    return [tokenizer.decode(tokens_) for tokens_ in out]


def pair_yield(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    passages: int,
    sentences: int,
    temperature: float,
    split: world.Split,
) -> dict[str, float]:
    """Let the model write one pair per passage and check it against the world.

    Returns:
        ``right`` and ``wrong`` as shares of the passages that state a fact, ``none`` where it wrote no pair there;
        ``quiet``: share of plain passages for which it rightly wrote none.
    """
    rng = random.Random(f"pairs {sentences}")  # noqa: S311
    supply = world.Supply(split, rng)
    texts: list[str] = []
    known: list[dict[str, str]] = []
    while len(texts) < passages:
        written = world.article(rng, supply, pairs=3, singles=4, words=160)
        start = rng.randrange(len(written.sentences) - sentences + 1)
        texts.append(" ".join(written.sentences[start : start + sentences]))
        inside = [fact for at, fact in written.facts if start <= at < start + sentences]
        known.append({question: fact.answer for fact in inside for question in fact.questions})
    replies = complete(
        model, tokenizer, [prompts.GENERATION.format(passage=text) for text in texts], temperature=temperature
    )
    counts = {"right": 0, "wrong": 0, "none": 0, "quiet": 0, "plain": 0, "facts": 0}
    for answers, reply in zip(known, replies, strict=True):
        question, _, answer = reply.removeprefix("Question: ").partition("\nAnswer: ")
        if not answers:
            counts["plain"] += 1
            counts["quiet"] += reply == prompts.NO_PAIR
            continue
        counts["facts"] += 1
        verdict = (
            "none" if reply == prompts.NO_PAIR else "right" if answers.get(question) == answer else "wrong"
        )
        counts[verdict] += 1
    shares = {name: counts[name] / max(counts["facts"], 1) for name in ("right", "wrong", "none")}
    return shares | {"quiet": counts["quiet"] / max(counts["plain"], 1)}


def figures(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, *, split: world.Split = "dev", size: int = 48
) -> dict[str, float]:
    """All figures of the model.

    Args:
        model: The model, in evaluation mode.
        tokenizer: Its tokenizer.
        split: Whose names are used.
        size: Articles for each length, half the passages for each kind of passage.

    Returns:
        ``context_LENGTH_short`` and ``_long``: exact match; ``context_alike``: see `among_alike`;
        ``pairs_SENTENCES_tTEMPERATURE_*``: see `pair_yield`.
    """
    found: dict[str, float] = {}
    samples = Samples(tokenizer)
    for tokens in (96, 160, 240):
        for joint in (False, True):
            right, total = in_context(model, samples, tokens, size, joint=joint, split=split)
            found[f"context_{tokens}_{'long' if joint else 'short'}"] = right / total
    right, total = among_alike(model, samples, size, split=split)
    found["context_alike"] = right / total
    for sentences in (1, 4):
        for temperature in (0.0, 1.0):
            shares = pair_yield(model, tokenizer, 2 * size, sentences, temperature, split)
            found |= {f"pairs_{sentences}_t{temperature:.0f}_{name}": share for name, share in shares.items()}
    return {name: round(share, 3) for name, share in found.items()}


def main(arguments: list[str] | None = None) -> None:
    """Print the figures of a checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m pretraining.evaluate", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT, help="the bundled one by default")
    parser.add_argument("--split", choices=["dev", "test"], default="test")
    parser.add_argument("--articles", type=int, default=200, help="articles for each length of prompt")
    options = parser.parse_args(arguments)
    tokenizer = AutoTokenizer.from_pretrained(options.checkpoint)
    model = LlamaForCausalLM.from_pretrained(options.checkpoint, dtype=torch.float32).eval()
    found = figures(model, tokenizer, split=options.split, size=options.articles)
    sys.stdout.write(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
