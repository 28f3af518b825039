"""What the bundled model reads in pre-training: the samples of one step, packed into rows.

A sample is a tree: one prefix (a text) and branches (questions with answers) that see the prefix and themselves but
not each other, so that many questions share the cost of one text.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import torch

from lift_eval.tiny import prompts, world

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ANSWER, END, PAIR, TEXT = 1.0, 0.5, 0.4, 0.1
"""Weights of the loss on an answer, on the end token, on a written question, on plain text."""


class Branch(NamedTuple):
    """Token ids and the weight of the loss on each (the first is the last of the prefix, with weight 0)."""

    ids: list[int]
    weights: list[float]


@dataclass
class Tree:
    """A prefix, with the weight of the loss on each of its tokens, and branches that continue it."""

    prefix: list[int]
    weights: list[float]
    branches: list[Branch]

    def __len__(self) -> int:
        return max(len(self.prefix) - 1, 0) + sum(len(branch.ids) - 1 for branch in self.branches)


class Batch(NamedTuple):
    """Rows of packed trees; every tensor has shape (rows, row tokens).

    Attributes:
        ids: Input tokens.
        targets: The token that each input token is to predict.
        weights: Weight of that prediction, 0 for none.
        positions: Position in the tree's own sequence.
        tree: Number of the tree within the row, -1 for padding.
        branch: Number of the branch within the tree, 0 for the prefix.
    """

    ids: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    positions: torch.Tensor
    tree: torch.Tensor
    branch: torch.Tensor

    def mask(self) -> torch.Tensor:
        """Who sees whom: shape (rows, 1, row tokens, row tokens), true where the query sees the key."""
        length = self.ids.size(1)
        same_tree = self.tree[:, :, None] == self.tree[:, None, :]
        visible = (self.branch[:, None, :] == 0) | (self.branch[:, :, None] == self.branch[:, None, :])
        causal = torch.ones(length, length, dtype=torch.bool, device=self.ids.device).tril()
        return (same_tree & visible & causal)[:, None]


def pack(trees: list[Tree], rows: int, length: int) -> Batch:
    """Lay trees into rows, the longest first, each into the fullest row that still has room for it."""
    names = Batch._fields
    fill = {"tree": -1}
    out = {
        name: torch.full(
            (rows, length), fill.get(name, 0), dtype=torch.float if name == "weights" else torch.long
        )
        for name in names
    }
    used = [0] * rows
    count = [0] * rows
    for tree in sorted(trees, key=len, reverse=True):
        fits = [row for row in range(rows) if used[row] + len(tree) <= length]
        if not fits:
            continue
        row = max(fits, key=used.__getitem__)
        columns = _columns(tree, count[row])
        here = slice(used[row], used[row] + len(tree))
        for name, column in zip(names, columns, strict=True):
            out[name][row, here] = torch.tensor(column, dtype=out[name].dtype)
        used[row] += len(tree)
        count[row] += 1
    return Batch(**out)


def _columns(tree: Tree, number: int) -> tuple[list[float], ...]:
    columns: tuple[list[float], ...] = ([], [], [], [], [], [])
    start = max(len(tree.prefix) - 1, 0)
    parts = [(0, 0, Branch(tree.prefix, tree.weights))] if start else []
    parts += [(index, start, branch) for index, branch in enumerate(tree.branches, start=1)]
    for index, offset, (ids, weights) in parts:
        size = len(ids) - 1
        values = (
            ids[:-1],
            ids[1:],
            weights[1:],
            range(offset, offset + size),
            [number] * size,
            [index] * size,
        )
        for column, value in zip(columns, values, strict=True):
            column.extend(value)
    return columns


class Mixture:
    """Draws the samples of any step; the same seed and step give the same samples.

    Args:
        tokenizer: The world's tokenizer.
        seed: Seed of the run.
        steps: Length of the run, which the curriculum is spread over.
        rows, length: Shape of a batch.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, seed: int, steps: int, rows: int, length: int
    ) -> None:
        self.tokenizer = tokenizer
        self.seed, self.steps, self.rows, self.length = seed, steps, rows, length
        self.eos = tokenizer.eos_token_id
        self.newline = self.encode("\n")[-1]

    def encode(self, text: str) -> list[int]:
        """Token ids of a text."""
        return list(self.tokenizer(text).input_ids)

    # --- trees -------------------------------------------------------------------------------------------------

    def question(self, question: str, answer: str, first: int) -> Branch:
        """A branch that asks and answers after a prefix whose last token is `first`."""
        prompt = self.encode(prompts.QUESTION.format(question=question))
        reply = self.encode(f" {answer}")
        ids = [first, *prompt, *reply, self.eos]
        return Branch(ids, [0.0] * (1 + len(prompt)) + [ANSWER] * len(reply) + [END])

    def reading(self, prefix: list[int], asked: list[tuple[str, str]], weight: float = 0.0) -> Tree:
        """A text and questions after it, as many as fit the window."""
        branches = [self.question(question, answer, prefix[-1]) for question, answer in asked]
        room = prompts.WINDOW - len(prefix) + 2
        return Tree(
            prefix, [weight] * len(prefix), [branch for branch in branches if len(branch.ids) <= room]
        )

    def writing(self, passage: str, pairs: list[tuple[str, str]]) -> Tree:
        """A passage and the pairs that may be written about it."""
        prefix = self.encode(prompts.GENERATION.format(passage=passage))
        branches = []
        for question, answer in pairs:
            asked = self.encode(prompts.PAIR.format(question=question, answer=""))
            reply = self.encode(f" {answer}")
            asked = asked[: len(asked) - (asked[-1] == self.encode(" ")[-1])]
            weights = [0.0] + [PAIR] * len(asked) + [ANSWER] * len(reply) + [END]
            branches.append(Branch([prefix[-1], *asked, *reply, self.eos], weights))
        if not pairs:
            none = self.encode(prompts.NO_PAIR)
            branches = [Branch([prefix[-1], *none, self.eos], [0.0, *[PAIR] * len(none), PAIR])]
        return Tree(prefix, [0.0] * len(prefix), branches)

    def plain(self, ids: list[int]) -> Tree:
        """A piece of text to be predicted token by token."""
        return Tree(ids, [TEXT] * len(ids), [])

    # --- kinds of samples --------------------------------------------------------------------------------------

    def copying(self, rng: random.Random, size: int) -> Tree:
        """Random tokens, repeated: the loss is on the repetition."""
        part = [rng.randrange(3, len(self.tokenizer)) for _ in range(rng.randrange(8, max(size // 3, 9)))]
        gap = [rng.randrange(3, len(self.tokenizer)) for _ in range(rng.randrange(size // 3))]
        ids = [*part, *gap, *part]
        weights = [0.0] * (len(part) + len(gap) + 1) + [0.3] * (len(part) - 1)
        return Tree(ids, weights, [])

    def in_context(self, rng: random.Random, supply: world.Supply, size: int) -> Tree:
        """A new article of at most `size` tokens and questions about it."""
        tokens = rng.randrange(48, size + 1)
        facts = rng.randint(2, max(3, tokens // 14))
        pairs = rng.randint(0, facts // 2)
        written = world.article(
            rng, supply, pairs=pairs, singles=facts - 2 * pairs, words=round(tokens * 0.86)
        )
        prefix = self.encode(prompts.DOCUMENT.format(title=written.title, context=written.text))
        short = [(rng.choice(fact.questions), fact.answer) for _, fact in written.facts]
        rng.shuffle(short)
        joint = [(joint.question, joint.answer) for joint in written.joints]
        rng.shuffle(joint)
        if len(prefix) > 236:
            return self.in_context(rng, supply, size)
        return self.reading(prefix, short[:6] + joint[:4])

    def truncated(self, rng: random.Random, written: world.Article, *, hidden: bool, most: int = 8) -> Tree:
        """An article cut in its middle to the window; questions about what is left, or about what is hidden."""
        text = self.encode(prompts.DOCUMENT.format(title=written.title, context=written.text))
        keep = 240 - rng.randrange(14, 26)
        ellipsis = self.encode(prompts.ELLIPSIS)
        head = keep // 2 - len(ellipsis)
        tail = keep - keep // 2
        prefix = [*text[:head], *ellipsis, *text[-tail:]] if len(text) > keep else text
        seen = self.tokenizer.decode(prefix)
        known = {fact.sentence: fact.sentence in seen for _, fact in written.facts}
        asked = [
            (rng.choice(fact.questions), fact.answer)
            for _, fact in written.facts
            if hidden or known[fact.sentence]
        ]
        asked += [
            (joint.question, joint.answer)
            for joint in written.joints
            if hidden or all(known[written.facts[index][1].sentence] for index in joint.facts)
        ]
        return self.reading(prefix, rng.sample(asked, min(most, len(asked))))

    def written_pairs(self, rng: random.Random, supply: world.Supply) -> Tree:
        """A passage of a new article, one to eight sentences, and the pairs about it."""
        pairs = rng.randint(1, 2)
        written = world.article(
            rng, supply, pairs=pairs, singles=rng.randint(0, 3), words=rng.randrange(40, 120)
        )
        size = 1 if rng.random() < 0.6 else rng.randint(2, 8)
        start = rng.randrange(max(1, len(written.sentences) - size + 1))
        if size == 1 and rng.random() < 0.7:
            start = rng.choice(written.facts)[0]
        passage = " ".join(written.sentences[start : start + size])
        inside = [fact for at, fact in written.facts if start <= at < start + size]
        asked = [(question, fact.answer) for fact in inside for question in fact.questions]
        return self.writing(passage, rng.sample(asked, min(6, len(asked))))

    @lru_cache(maxsize=64)  # noqa: B019 (one mixture lives as long as the run)
    def recurring(self, number: int) -> world.Article:
        """The article of that number: it comes back for some hundred steps, so that it can be remembered."""
        rng = random.Random(f"{self.seed} article {number}")  # noqa: S311
        supply = world.Supply("train", rng)
        pairs = rng.randint(4, 10)
        return world.article(
            rng, supply, pairs=pairs, singles=rng.randint(2, 8), words=rng.randrange(300, 900), far_apart=True
        )

    def remembered(self, rng: random.Random, number: int) -> Tree:
        """One meeting with a recurring article: a piece of its text, or questions with little or none of it."""
        written = self.recurring(number)
        kind = rng.random()
        if kind < 0.2:
            text = self.encode(prompts.DOCUMENT.format(title=written.title, context=written.text))
            start = rng.randrange(max(1, len(text) - 192))
            return self.plain(text[start : start + 192])
        if kind < 0.55:
            return self.truncated(rng, written, hidden=True, most=12)
        asked = [(rng.choice(fact.questions), fact.answer) for _, fact in written.facts]
        asked += [(joint.question, joint.answer) for joint in written.joints]
        return self.reading(self.encode(written.title), rng.sample(asked, min(16, len(asked))))

    # --- batches -----------------------------------------------------------------------------------------------

    POOL, LIFE, FIRST = 16, 200, 0.12

    def pool(self, step: int) -> list[int]:
        """Numbers of the recurring articles that are alive at a step; one in POOL leaves every LIFE / POOL steps."""
        since = step - round(self.steps * self.FIRST)
        if since < 0:
            return []
        newest = since * self.POOL // self.LIFE
        return list(range(max(0, newest - self.POOL + 1), newest + 1))

    def size(self, step: int) -> int:
        """Longest article in tokens: 96, then 160, then the window."""
        done = step / self.steps
        return 96 if done < 0.08 else 160 if done < 0.2 else 224

    def _draw(self, rng: random.Random, supply: world.Supply, step: int) -> Tree:
        alive = self.pool(step)
        size = self.size(step)
        late = step > 0.3 * self.steps
        makers: list[tuple[float, Callable[[], Tree]]] = [
            (0.25 if step < 0.04 * self.steps else 0.0, lambda: self.copying(rng, size)),
            (0.25 if late else 0.42, lambda: self.in_context(rng, supply, size)),
            (0.10 if size > 200 else 0.0, lambda: self._fresh_truncated(rng, supply)),
            (0.22 if late else 0.35, lambda: self.written_pairs(rng, supply)),
            (0.45 if alive else 0.0, lambda: self.remembered(rng, rng.choice(alive))),
        ]
        return rng.choices([maker for _, maker in makers], [share for share, _ in makers])[0]()

    def _fresh_truncated(self, rng: random.Random, supply: world.Supply) -> Tree:
        pairs = rng.randint(6, 14)
        words = rng.randrange(300, 700)
        written = world.article(
            rng, supply, pairs=pairs, singles=rng.randint(2, 8), words=words, far_apart=True
        )
        return self.truncated(rng, written, hidden=False)

    def batch(self, step: int) -> Batch:
        """The packed samples of a step."""
        rng = random.Random(f"{self.seed} step {step}")  # noqa: S311
        supply = world.Supply("train", rng)
        trees: list[Tree] = []
        room = self.rows * self.length
        while room > 0:
            trees.append(self._draw(rng, supply, step))
            room -= len(trees[-1])
        trees += [self.written_pairs(rng, supply) for _ in range(self.rows * 2)]  # small ones fill the gaps
        return pack([tree for tree in trees if 0 < len(tree) <= self.length], self.rows, self.length)
