"""What the bundled model can do: answer from context by length, remember, write right pairs."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from lift_eval.tiny import prompts, world
from lift_eval.tiny.mixture import Batch, Mixture, Tree, pack

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast


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
    model: LlamaForCausalLM, mixture: Mixture, tokens: int, articles: int, joint: bool
) -> tuple[int, int]:
    """Exact match on articles of the development names whose prompts are about `tokens` tokens long."""
    rng = random.Random(f"in context {tokens}")  # noqa: S311
    supply = world.Supply("dev", rng)
    trees: list[Tree] = []
    while len(trees) < articles:
        facts = max(3, tokens // 20)
        written = world.article(rng, supply, pairs=facts // 3, singles=2, words=round(tokens * 0.82))
        prefix = mixture.encode(prompts.DOCUMENT.format(title=written.title, context=written.text))
        if joint:
            asked = [(item.question, item.answer) for item in written.joints]
        else:
            asked = [(rng.choice(fact.questions), fact.answer) for _, fact in written.facts]
        if abs(len(prefix) + 17 - tokens) < 12:
            trees.append(mixture.reading(prefix, rng.sample(asked, min(4, len(asked)))))
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
) -> dict[str, float]:
    """Let the model write one pair per passage and check it against the world.

    Returns:
        ``right`` and ``wrong`` as shares of the passages that state a fact, ``none`` where it wrote no pair there;
        ``quiet``: share of plain passages for which it rightly wrote none.
    """
    rng = random.Random(f"pairs {sentences}")  # noqa: S311
    supply = world.Supply("dev", rng)
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
