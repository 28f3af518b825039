"""Facts of the invented world, stated in a sentence each, and the questions over two of them."""

from __future__ import annotations

import random
from dataclasses import dataclass

from lift_eval.tiny.kinds import Aspect, Kind
from lift_eval.tiny.words import COUNTS, NUMBERS, YEARS


@dataclass(frozen=True)
class Fact:
    """One stated fact: its sentence, the questions that ask for it (paraphrases), the answer."""

    sentence: str
    questions: tuple[str, ...]
    answer: str


@dataclass(frozen=True)
class Joint:
    """A question whose answer needs two facts.

    Attributes:
        type: The type of question, in LooGLE's words.
        facts: The two facts, as indices into the article's facts.
    """

    type: str
    question: str
    answer: str
    facts: tuple[int, int]


def _state(rng: random.Random, aspect: Aspect, who: str, value: str, year: str = "") -> Fact:
    slots = {"who": who, "Who": who[0].upper() + who[1:], "value": value, "year": year}
    return Fact(
        sentence=rng.choice(aspect.statements).format(**slots),
        questions=tuple(question.format(**slots) for question in aspect.questions),
        answer=value,
    )


class Notebook:
    """Collects the facts and joint questions of one article under construction."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.facts: list[Fact] = []
        self.joints: list[Joint] = []

    def single(self, kind: Kind, who: str, index: int) -> None:
        """State a fact that stands alone."""
        aspect = kind.extra[index % len(kind.extra)]
        self.facts.append(_state(self.rng, aspect, who, self.rng.choice(aspect.values)))

    def _join(self, type_: str, question: str, answer: str, first: Fact, second: Fact) -> None:
        self.joints.append(Joint(type_, question, answer, (len(self.facts), len(self.facts) + 1)))
        self.facts += [first, second]

    def retrieval(self, kind: Kind, who: str) -> None:
        """State two facts of an entity, and ask for both answers."""
        a, b = self.rng.sample(kind.first.values, 2)
        first, last = _state(self.rng, kind.first, who, a), _state(self.rng, kind.last, who, b)
        self._join("multiple_information_retrieval", kind.pair.format(who=who), f"{a} and {b}", first, last)

    def computation(self, kind: Kind, who: str) -> None:
        """State two counts, and ask for their sum."""
        a, b = (self.rng.choice(COUNTS) for _ in range(2))
        total = NUMBERS[NUMBERS.index(a) + NUMBERS.index(b)]
        first, last = _state(self.rng, kind.spring, who, a), _state(self.rng, kind.autumn, who, b)
        self._join("computation", kind.total.format(who=who), total, first, last)

    def timeline(self, kind: Kind, who: str) -> None:
        """State two dated facts, and ask which came before or after."""
        early, late = self.rng.sample(kind.period.values, 2)
        years = sorted(self.rng.sample(YEARS, 2))
        first, last = (
            _state(self.rng, kind.period, who, value, year)
            for value, year in zip((early, late), years, strict=True)
        )
        back = self.rng.random() < 0.5
        question = (kind.before if back else kind.after).format(who=who, early=early, late=late)
        self._join("timeline_reorder", question, early if back else late, first, last)

    def comprehension(self, kind: Kind, who: str, other: str) -> None:
        """State the same of two entities, and ask what they have in common."""
        value = self.rng.choice(kind.origin.values)
        first, last = (_state(self.rng, kind.origin, name, value) for name in (who, other))
        question = kind.both.format(who=who, other=other)
        self._join("comprehension_and_reasoning", question, value, first, last)
