"""What can be said of each kind of entity of the invented world, and how it is asked for.

Only data, which `lift_eval.tiny.world` combines into articles. In a template, ``{who}`` is the entity (``{Who}`` at
the start of a sentence), ``{value}`` the answer and ``{year}`` the year of a dated fact. The value comes after all that
tells one fact from another: a causal model reads the text once, and where the value came first it would have to look
back twice.
"""

from __future__ import annotations

from dataclasses import dataclass

from lift_eval.tiny.words import (
    COLOURS,
    COUNTS,
    DISHES,
    GOODS,
    INSTRUMENTS,
    SUBJECTS,
    SURNAMES,
    TOWNS,
    TRADES,
    YEARS,
)


@dataclass(frozen=True)
class Aspect:
    """One thing that can be said of an entity: the possible values, ways to state it, ways to ask for it."""

    values: tuple[str, ...]
    statements: tuple[str, ...]
    questions: tuple[str, ...]


@dataclass(frozen=True)
class Kind:
    """A kind of entity.

    Attributes:
        noun: What stands before the name ("the ship "), empty for people.
        origin: An aspect whose value two entities of the kind may share.
        first, last: Two aspects that one question asks for together.
        period: A dated aspect, stated for two different years.
        spring, autumn: Two counts that one question adds up.
        extra: Aspects that stand alone.
        both, pair, before, after, total: Questions that need two sentences.
    """

    noun: str
    origin: Aspect
    first: Aspect
    last: Aspect
    period: Aspect
    spring: Aspect
    autumn: Aspect
    extra: tuple[Aspect, ...]
    both: str
    pair: str
    before: str
    after: str
    total: str


def _counts(verb: str, base: str, things: str, season: str) -> Aspect:
    return Aspect(
        COUNTS,
        (
            f"In {season} {{who}} {verb} {{value}} {things}.",
            f"{{Who}} in {season} {verb} {{value}} {things}.",
            f"It was in {season} that {{who}} {verb} {{value}} {things}.",
        ),
        (
            f"How many {things} did {{who}} {base} in {season}?",
            f"What number of {things} did {{who}} {base} in {season}?",
        ),
    )


def _year(verb: str) -> Aspect:
    return Aspect(
        YEARS,
        (
            f"{{Who}} was {verb} in {{value}}.",
            f"{{Who}} was {verb}, it is said, in {{value}}.",
            f"The year in which {{who}} was {verb} is {{value}}.",
        ),
        (f"When was {{who}} {verb}?", f"In which year was {{who}} {verb}?"),
    )


PERSON = Kind(
    noun="",
    origin=Aspect(
        TOWNS,
        (
            "{Who} was born in {value}.",
            "The birthplace of {who} is {value}.",
            "{Who} came into the world in {value}.",
        ),
        ("Where was {who} born?", "What is the birthplace of {who}?"),
    ),
    first=Aspect(
        TOWNS,
        (
            "The first journey of {who} led to {value}.",
            "{Who} travelled first to {value}.",
            "On the first journey {who} saw {value}.",
        ),
        ("Where did the first journey of {who} lead?", "Which town did {who} travel to first?"),
    ),
    last=Aspect(
        TOWNS,
        (
            "The last journey of {who} led to {value}.",
            "{Who} travelled last to {value}.",
            "On the last journey {who} saw {value}.",
        ),
        ("Where did the last journey of {who} lead?", "Which town did {who} travel to last?"),
    ),
    period=Aspect(
        TRADES,
        (
            "In {year} {who} worked as a {value}.",
            "{Who} was in {year} a {value}.",
            "In {year} people knew {who} as a {value}.",
        ),
        ("What was the work of {who} in {year}?", "In {year}, what was the trade of {who}?"),
    ),
    spring=_counts("bought", "buy", "horses", "spring"),
    autumn=_counts("bought", "buy", "horses", "autumn"),
    extra=(
        Aspect(
            INSTRUMENTS,
            (
                "{Who} played the {value}.",
                "The instrument of {who} was the {value}.",
                "At home {who} kept a {value}.",
            ),
            ("Which instrument did {who} play?", "What was the instrument of {who}?"),
        ),
        Aspect(
            SUBJECTS,
            (
                "{Who} studied {value}.",
                "The favourite subject of {who} was {value}.",
                "At school {who} read {value}.",
            ),
            ("What did {who} study?", "What was the favourite subject of {who}?"),
        ),
    ),
    both="In which town were both {who} and {other} born?",
    pair="Which two towns did {who} travel to?",
    before="What was the work of {who} before being a {late}?",
    after="What was the work of {who} after being a {early}?",
    total="How many horses did {who} buy in all?",
)

SHIP = Kind(
    noun="the ship ",
    origin=Aspect(
        TOWNS,
        (
            "{Who} came from {value}.",
            "The home port of {who} is {value}.",
            "{Who} belongs to the port of {value}.",
        ),
        ("Where did {who} come from?", "What is the home port of {who}?"),
    ),
    first=Aspect(
        GOODS,
        (
            "The first cargo of {who} was {value}.",
            "{Who} sailed first with {value}.",
            "On the first voyage {who} carried {value}.",
        ),
        ("What was the first cargo of {who}?", "What did {who} carry first?"),
    ),
    last=Aspect(
        GOODS,
        (
            "The last cargo of {who} was {value}.",
            "{Who} sailed last with {value}.",
            "On the last voyage {who} carried {value}.",
        ),
        ("What was the last cargo of {who}?", "What did {who} carry last?"),
    ),
    period=Aspect(
        COLOURS,
        (
            "In {year} {who} was painted {value}.",
            "In the year {year} {who} turned {value}.",
            "The colour of {who} in {year} was {value}.",
        ),
        ("What was the colour of {who} in {year}?", "In {year}, which colour did {who} have?"),
    ),
    spring=_counts("made", "make", "voyages", "spring"),
    autumn=_counts("made", "make", "voyages", "autumn"),
    extra=(_year("built"),),
    both="From which port did both {who} and {other} come?",
    pair="Which two cargoes did {who} carry?",
    before="What was the colour of {who} before it was {late}?",
    after="What was the colour of {who} after it was {early}?",
    total="How many voyages did {who} make in all?",
)

COMPANY = Kind(
    noun="the company ",
    origin=Aspect(
        TOWNS,
        ("{Who} had its seat in {value}.", "The seat of {who} is {value}.", "{Who} was run from {value}."),
        ("Where did {who} have its seat?", "What is the seat of {who}?"),
    ),
    first=Aspect(
        GOODS,
        (
            "The first product of {who} was {value}.",
            "{Who} traded first in {value}.",
            "In the first years {who} sold {value}.",
        ),
        ("What was the first product of {who}?", "What did {who} sell first?"),
    ),
    last=Aspect(
        GOODS,
        (
            "The last product of {who} was {value}.",
            "{Who} traded last in {value}.",
            "In the last years {who} sold {value}.",
        ),
        ("What was the last product of {who}?", "What did {who} sell last?"),
    ),
    period=Aspect(
        SURNAMES,
        (
            "In {year} {who} was led by {value}.",
            "The head of {who} in {year} was {value}.",
            "{Who} had in {year} a head named {value}.",
        ),
        ("Who led {who} in {year}?", "In {year}, who was the head of {who}?"),
    ),
    spring=_counts("opened", "open", "shops", "spring"),
    autumn=_counts("opened", "open", "shops", "autumn"),
    extra=(_year("founded"),),
    both="In which town did both {who} and {other} have a seat?",
    pair="Which two products did {who} sell?",
    before="Who was the head of {who} before {late}?",
    after="Who was the head of {who} after {early}?",
    total="How many shops did {who} open in all?",
)

FAIR = Kind(
    noun="the fair ",
    origin=Aspect(
        TOWNS,
        ("{Who} was held in {value}.", "The place of {who} is {value}.", "People met for {who} in {value}."),
        ("Where was {who} held?", "What is the place of {who}?"),
    ),
    first=Aspect(
        DISHES,
        (
            "The first dish at {who} was {value}.",
            "{Who} began with {value}.",
            "On the first day of {who} people ate {value}.",
        ),
        ("What was the first dish at {who}?", "What did people eat first at {who}?"),
    ),
    last=Aspect(
        DISHES,
        (
            "The last dish at {who} was {value}.",
            "{Who} ended with {value}.",
            "On the last day of {who} people ate {value}.",
        ),
        ("What was the last dish at {who}?", "What did people eat last at {who}?"),
    ),
    period=Aspect(
        SURNAMES,
        (
            "In {year} the prize of {who} went to {value}.",
            "The winner of {who} in {year} was {value}.",
            "{Who} gave its prize in {year} to {value}.",
        ),
        ("Who won the prize of {who} in {year}?", "In {year}, who was the winner of {who}?"),
    ),
    spring=_counts("drew", "draw", "bands", "spring"),
    autumn=_counts("drew", "draw", "bands", "autumn"),
    extra=(_year("opened"),),
    both="In which town were both {who} and {other} held?",
    pair="Which two dishes did people eat at {who}?",
    before="Who won the prize of {who} before {late}?",
    after="Who won the prize of {who} after {early}?",
    total="How many bands did {who} draw in all?",
)

KINDS = (PERSON, SHIP, COMPANY, FAIR)
