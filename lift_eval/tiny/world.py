"""A world of text: seeded English articles about invented people, ships, companies and fairs.

An article states facts among plain sentences. Every fact has a question with a short answer in its sentence (short
dependency); two facts together give a question that one sentence cannot answer (long dependency), of the four types
that LooGLE has. Facts are drawn at random, so that nobody can know them beforehand, and the names of each split are
their own: the hash of a name says whether it belongs to pre-training, development or test.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from lift_eval.tiny import words as w
from lift_eval.tiny.facts import Fact, Joint, Notebook
from lift_eval.tiny.kinds import KINDS, Kind

Split = Literal["train", "dev", "test"]
SEEDS: dict[str, int] = {"train": 1, "dev": 2, "test": 3}
FACTS_PER_DOCUMENT = 48
QUESTIONS_PER_DOCUMENT = 20
WORDS_PER_DOCUMENT = (950, 2600)
WORDS_PER_FACT = 40


@dataclass
class Article:
    """A title, sentences, the facts with the index of their sentence, and the questions over two facts."""

    title: str
    sentences: list[str] = field(default_factory=list)
    facts: list[tuple[int, Fact]] = field(default_factory=list)
    joints: list[Joint] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The sentences, joined by one space."""
        return " ".join(self.sentences)

    def answers(self) -> dict[str, str]:
        """Every question that the world knows about this article, in every paraphrase, with its answer."""
        known = {question: fact.answer for _, fact in self.facts for question in fact.questions}
        return known | {joint.question: joint.answer for joint in self.joints}


def split_of(name: str) -> Split:
    """The split that a name belongs to: 8 of 10 train, 1 dev, 1 test, by the hash of the name."""
    bucket = hashlib.sha256(name.encode()).digest()[0] % 10
    return "test" if bucket == 0 else "dev" if bucket == 1 else "train"


@cache
def names(split: Split) -> dict[str, tuple[str, ...]]:
    """All names of a split: ``person`` (first name and surname), ``thing`` (adjective and noun)."""
    combined = {
        "person": [f"{first} {last}" for first in w.FIRST_NAMES for last in w.SURNAMES],
        "thing": [f"{adjective} {noun}" for adjective in w.ADJECTIVES for noun in w.NOUNS],
    }
    return {kind: tuple(name for name in all_ if split_of(name) == split) for kind, all_ in combined.items()}


class Supply:
    """Hands out the names of one split in a random order; none comes twice before all have come once."""

    def __init__(self, split: Split, rng: random.Random) -> None:
        self._names = names(split)
        self._rng = rng
        self._left: dict[str, list[str]] = {kind: [] for kind in self._names}

    def draw(self, kind: str, taken: set[str]) -> str:
        """A name that shares no word with `taken` where a few attempts find one; its words join `taken`."""
        for attempt in range(8):
            left = self._left[kind]
            if not left:
                left.extend(self._names[kind])
                self._rng.shuffle(left)
            name = left.pop()
            if attempt == 7 or taken.isdisjoint(name.split()):
                break
            left.insert(self._rng.randrange(len(left) // 2 + 1), name)
        taken.update(name.split())
        return name


def _facts(rng: random.Random, supply: Supply, pairs: int, singles: int, *, alike: bool) -> Notebook:
    """`pairs` joint questions (the four types in turn) over few entities, and `singles` facts that stand alone.

    `alike` takes many entities of one kind and states the same few things of each, so that only names tell the facts
    apart.
    """
    notebook = Notebook(rng)
    taken: set[str] = set()
    couples: list[tuple[Kind, str, str]] = []
    each, count = 4, (pairs + 3) // 4 or 1
    if alike:
        each = rng.choice((1, 2))
        count = max(-(-pairs // each), -(-singles // 2), 1)
    for number in range(count):
        kind = couples[0][0] if alike and number else rng.choice(KINDS)
        pool = "thing" if kind.noun else "person"
        couples.append((kind, kind.noun + supply.draw(pool, taken), kind.noun + supply.draw(pool, taken)))
    todo = list(range(4))
    rng.shuffle(todo)
    for index in range(pairs):
        kind, who, other = couples[index // each]
        chosen = who if rng.random() < 0.5 else other
        type_ = todo[index % each]
        if type_ == 0:
            notebook.comprehension(kind, who, other)
        else:
            (notebook.retrieval, notebook.timeline, notebook.computation)[type_ - 1](kind, chosen)
    slots = [
        (kind, name, index) for kind, *both in couples for name in both for index in range(len(kind.extra))
    ]
    for kind, name, index in rng.sample(slots, min(singles, len(slots))):
        notebook.single(kind, name, index)
    return notebook


def filler(rng: random.Random) -> str:
    """A plain sentence that states no fact."""
    return rng.choice(w.FILLERS).format(
        **{slot: rng.choice(values) for slot, values in w.FILLER_WORDS.items()}
    )


def _spread(rng: random.Random, notebook: Notebook) -> list[int]:
    """An order of the facts in which the two of each joint question lie about a third of the facts or more apart."""
    total = len(notebook.facts)
    joined = [joint.facts for joint in notebook.joints]
    order: list[int] = []
    for _ in range(100):
        place = {index: rng.random() for index in range(total)}
        for number, pair in enumerate(rng.sample(joined, len(joined))):
            one, two = rng.sample(pair, 2)
            gap = rng.uniform(0.4, 0.9)
            place[one] = (number + rng.random()) / len(joined) * (1 - gap)
            place[two] = place[one] + gap
        order = sorted(range(total), key=place.__getitem__)
        rank = {index: at for at, index in enumerate(order)}
        if all(abs(rank[one] - rank[two]) > 0.3 * total for one, two in joined):
            break
    return order


def article(
    rng: random.Random,
    supply: Supply,
    *,
    pairs: int,
    singles: int,
    words: int,
    far_apart: bool = False,
    alike: bool = False,
) -> Article:
    """Write one article.

    Args:
        rng: The source of all choices.
        supply: The names to use.
        pairs: Number of questions over two facts.
        singles: Number of facts that stand alone, at most.
        words: Length that plain sentences fill up to, in words.
        far_apart: Spread the facts evenly and keep the two facts of a joint question far apart.
        alike: State the same few things of many entities of one kind, so that only names tell the facts apart.

    Returns:
        The article; its first sentence states no fact.
    """
    notebook = _facts(rng, supply, pairs, singles, alike=alike)
    order = list(range(len(notebook.facts)))
    if far_apart:
        order = _spread(rng, notebook)
    else:
        rng.shuffle(order)
    county = rng.choice(w.TOWNS)
    written = Article(rng.choice(w.TITLES).format(county=county), joints=notebook.joints)
    opening = rng.choice(w.OPENINGS).format(county=county)
    plain: list[str] = []
    missing = words - len(opening.split()) - sum(len(fact.sentence.split()) for fact in notebook.facts)
    while missing > 0:
        plain.append(filler(rng))
        missing -= len(plain[-1].split())
    slots = _interleave(rng, len(order), len(plain), even=far_apart)
    written.sentences.append(opening)
    where: dict[int, int] = {}
    facts, fillers = iter(order), iter(plain)
    for is_fact in slots:
        if is_fact:
            index = next(facts)
            where[index] = len(written.sentences)
            written.sentences.append(notebook.facts[index].sentence)
        else:
            written.sentences.append(next(fillers))
    written.facts = [(where[index], fact) for index, fact in enumerate(notebook.facts)]
    return written


def _interleave(rng: random.Random, facts: int, plain: int, *, even: bool) -> list[bool]:
    """True for a fact, False for a plain sentence; `even` gives every stretch its share of facts."""
    if not even:
        slots = [True] * facts + [False] * plain
        rng.shuffle(slots)
        return slots
    keys = [((number + rng.random()) / facts, True) for number in range(facts)]
    keys += [((number + rng.random()) / plain, False) for number in range(plain)]
    return [is_fact for _, is_fact in sorted(keys)]


def _depth(article_: Article, facts: tuple[int, ...]) -> float:
    """Where the evidence lies, 0 to 1; of two sentences, the one that lies nearer the middle."""
    ends: list[int] = []
    for sentence in article_.sentences:
        ends.append((ends[-1] + 1 if ends else 0) + len(sentence))
    depths: list[float] = []
    for index in facts:
        at = article_.facts[index][0]
        depths.append((ends[at] - len(article_.sentences[at]) / 2) / ends[-1])
    nearest = min(abs(depth - 0.5) for depth in depths)
    return round(next(depth for depth in depths if abs(depth - 0.5) == nearest), 4)


def _pair(
    article_: Article, type_: str, question: str, answer: str, facts: tuple[int, ...]
) -> dict[str, Any]:
    evidence = [article_.facts[index][1].sentence for index in facts]
    return {"Q": question, "A": answer, "S": evidence, "type": type_, "depth": _depth(article_, facts)}


def short_pairs(article_: Article, rng: random.Random, count: int) -> list[dict[str, Any]]:
    """`count` questions about one fact each, their evidence spread evenly over the article."""
    order = sorted(range(len(article_.facts)), key=lambda index: article_.facts[index][0])
    count = min(count, len(order))
    chosen = [order[int((number + rng.random()) * len(order) / count)] for number in range(count)]
    facts = [(index, article_.facts[index][1]) for index in chosen]
    return [
        _pair(article_, "short_dependency", rng.choice(fact.questions), fact.answer, (index,))
        for index, fact in facts
    ]


def long_pairs(article_: Article, count: int) -> list[dict[str, Any]]:
    """The first `count` questions about two facts each."""
    return [
        _pair(article_, joint.type, joint.question, joint.answer, joint.facts)
        for joint in article_.joints[:count]
    ]


def _row(article_: Article, pairs: list[dict[str, Any]]) -> dict[str, Any]:
    return {"input": article_.text, "title": article_.title, "qa_pairs": pairs, "output": "none"}


@dataclass(frozen=True)
class ArticleWithRows:
    """An article with its two rows in LooGLE's one-row-per-document form."""

    article: Article
    shortqa: dict[str, Any]
    longqa: dict[str, Any]


def documents(
    split: Split = "test", count: int = 12, seed: int | None = None, words: int | None = None
) -> Iterator[ArticleWithRows]:
    """Make the documents of a split.

    Args:
        split: Whose names are used; ``dev`` is for choosing settings, ``test`` for reporting.
        count: How many documents.
        seed: Seed of all choices; by default each split has its own.
        words: Length of each document in words; by default the lengths run from 950 to 2,600, 4 to 12 times
            the window of the bundled model.

    Yields:
        One document at a time; the same arguments give the same documents.
    """
    rng = random.Random(f"{split} {SEEDS[split] if seed is None else seed}")  # noqa: S311 (not for security)
    supply = Supply(split, rng)
    low, high = WORDS_PER_DOCUMENT
    for number in range(count):
        length = words or round(low + (high - low) * number / max(count - 1, 1))
        facts = max(FACTS_PER_DOCUMENT, length // WORDS_PER_FACT if words else 0)
        pairs = facts * 5 // 12
        written = article(rng, supply, pairs=pairs, singles=facts - 2 * pairs, words=length, far_apart=True)
        yield ArticleWithRows(
            written,
            _row(written, short_pairs(written, rng, QUESTIONS_PER_DOCUMENT)),
            _row(written, long_pairs(written, QUESTIONS_PER_DOCUMENT)),
        )


def write(
    folder: str | Path,
    documents_: int,
    words: int | None = None,
    seed: int | None = None,
    split: Split = "test",
) -> list[Path]:
    """Write documents as ``shortdep_qa.jsonl`` and ``longdep_qa.jsonl`` in LooGLE's form.

    Args:
        folder: Where to write; made if missing.
        documents_: How many documents.
        words: Length of each in words, 100,000 and more too; by default 950 to 2,600.
        seed: Seed of all choices.
        split: Whose names are used.

    Returns:
        The two files.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    paths = [target / "shortdep_qa.jsonl", target / "longdep_qa.jsonl"]
    with paths[0].open("w", encoding="utf-8") as short, paths[1].open("w", encoding="utf-8") as long:
        for document in documents(split, documents_, seed, words):
            short.write(json.dumps(document.shortqa) + "\n")
            long.write(json.dumps(document.longqa) + "\n")
    return paths
