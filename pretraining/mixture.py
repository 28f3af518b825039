"""What the bundled model reads in pre-training: the samples of any step."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from lift_eval.tiny import prompts, world
from pretraining.packing import Batch, Tree, pack
from pretraining.samples import Samples

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class Mixture(Samples):
    """Draws the samples of any step; the same seed and step give the same samples.

    Args:
        tokenizer: The world's tokenizer.
        seed: Seed of the run.
        rows, length: Shape of a batch.

    Attributes:
        COPYING: Step up to which random tokens are copied.
        LENGTHS: Longest article in tokens, with the step up to which it holds.
        DRILL: Step up to which most samples are drills.
        REMEMBERING: Step from which articles recur.
        POOL: Recurring articles alive at a time.
        LIFE: Steps that each of them lives.
    """

    COPYING = 72
    LENGTHS = ((200, 112), (450, 160), (math.inf, 224))
    DRILL, REMEMBERING = 200, 700
    POOL, LIFE = 20, 120

    def __init__(self, tokenizer: PreTrainedTokenizerFast, seed: int, rows: int, length: int) -> None:
        super().__init__(tokenizer)
        self.seed, self.rows, self.length = seed, rows, length

    def copying(self, rng: random.Random, size: int) -> Tree:
        """Random tokens, repeated: the loss is on the repetition."""
        part = [rng.randrange(3, len(self.tokenizer)) for _ in range(rng.randrange(8, max(size // 3, 9)))]
        gap = [rng.randrange(3, len(self.tokenizer)) for _ in range(rng.randrange(size // 3))]
        ids = [*part, *gap, *part]
        weights = [0.0] * (len(part) + len(gap) + 1) + [0.3] * (len(part) - 1)
        return Tree(ids, weights, [])

    def drill(self, rng: random.Random, supply: world.Supply) -> Tree:
        """A short article without plain sentences, where only the names tell facts apart, and all that can be asked.

        Where articles of many kinds come first, the model learns to go by what is asked and not by whom it is asked
        of, and stays there.
        """
        pairs = rng.randint(1, 3) if rng.random() < 0.4 else 0
        singles = rng.randint(3, 9) if pairs == 0 else rng.randint(0, 2)
        written = world.article(rng, supply, pairs=pairs, singles=singles, words=0, alike=True)
        return self._asked(rng, written, short=10, joint=3)

    def in_context(self, rng: random.Random, supply: world.Supply, size: int) -> Tree:
        """A new article of at most `size` tokens and questions about it."""
        tokens = rng.randrange(48, size + 1)
        facts = rng.randint(2, max(3, tokens // 14))
        pairs = rng.randint(0, facts // 2)
        written = world.article(
            rng,
            supply,
            pairs=pairs,
            singles=facts - 2 * pairs,
            words=round(tokens * 0.86),
            alike=rng.random() < 0.6,
        )
        tree = self._asked(rng, written, short=7, joint=4)
        return tree if tree.branches else self.in_context(rng, supply, size)  # it was too long for the window

    def _asked(self, rng: random.Random, written: world.ArticleWithRows, *, short: int, joint: int) -> Tree:
        """An article and some of the questions about it: over one fact, and over two."""
        prefix = self.encode(prompts.DOCUMENT.format(title=written.title, context=written.text))
        singles = [(rng.choice(fact.questions), fact.answer) for _, fact in written.facts]
        joints = [(joint_.question, joint_.answer) for joint_ in written.joints]
        rng.shuffle(singles)
        rng.shuffle(joints)
        return self.reading(prefix, singles[:short] + joints[:joint])

    def truncated(
        self, rng: random.Random, written: world.ArticleWithRows, *, hidden: bool, most: int = 8
    ) -> Tree:
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
    def recurring(self, number: int) -> world.ArticleWithRows:
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

    def pool(self, step: int) -> list[int]:
        """Numbers of the recurring articles that are alive at a step; one in POOL leaves every LIFE / POOL steps."""
        since = step - self.REMEMBERING
        if since < 0:
            return []
        newest = since * self.POOL // self.LIFE
        return list(range(max(0, newest - self.POOL + 1), newest + 1))

    def size(self, step: int) -> int:
        """Longest article in tokens: short at first, then the window."""
        return next(tokens for until, tokens in self.LENGTHS if step < until)

    def _draw(self, rng: random.Random, supply: world.Supply, step: int) -> Tree:
        alive = self.pool(step)
        size = self.size(step)
        makers: list[tuple[float, Callable[[], Tree]]] = [
            (0.25 if step < self.COPYING else 0.0, lambda: self.copying(rng, size)),
            (0.50 if step < self.DRILL else 0.10, lambda: self.drill(rng, supply)),
            (0.10 if step < self.DRILL else 0.45, lambda: self.in_context(rng, supply, size)),
            (0.10 if size > 200 else 0.0, lambda: self._fresh_truncated(rng, supply)),
            (0.25, lambda: self.written_pairs(rng, supply)),
            (0.40 if alive else 0.0, lambda: self.remembered(rng, rng.choice(alive))),
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
