"""What LIFT gains over in-context learning on the tiny benchmark: ``python perf/compare_lift.py``.

The same line as lm-eval's tasks, without lm-eval, and with what only the world can give: the share of right pairs,
every question about what truncation has kept, and an upper bound with the world's own pairs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from lift_eval.answering.decoding import Answer, Decoding
from lift_eval.document import Document, document_seed
from lift_eval.lifter.lifter import Lifter
from lift_eval.lifter.session import LiftedDocument
from lift_eval.models.loading import BUNDLED
from lift_eval.recipe import AuxiliarySettings, load_recipe
from lift_eval.reporting.statistics import compare_paired
from lift_eval.synthesis.synthesizer import Synthesizer
from lift_eval.tiny import prompts, world

CONDITIONS = (
    "icl",
    "closed_book",
    "segments",
    "segments_closed_book",
    "lift",
    "lift_closed_book",
    "world_pairs",
)
SEGMENTS_ONLY = {"auxiliary.strategy": "none", "training.joint_epochs": 0}
KINDS = ("short", "long")


@dataclass
class Scores:
    """One condition's answers.

    Attributes:
        right: Answers that match exactly, per document: (short, long).
        by_type: Right answers and questions by type of question.
        kept: Right answers and questions about facts that are still in the truncated prompt: all such facts in every
            paraphrase, since the benchmark itself asks about less than two of them for a document.
        seconds: Seconds of each document's training, pairs included.
        pairs: Pairs made, pairs that are right, facts covered, facts; over all documents.
    """

    right: list[tuple[int, int]] = field(default_factory=list)
    by_type: dict[str, list[int]] = field(default_factory=dict)
    kept: list[int] = field(default_factory=lambda: [0, 0])
    seconds: list[float] = field(default_factory=list)
    pairs: list[int] = field(default_factory=lambda: [0, 0, 0, 0])


class WorldGenerator:
    """Writes the world's own pairs about the sentences of one article: the upper bound of any generator."""

    identity = "world"
    operations = 0.0

    def __init__(self, article: world.ArticleWithRows, settings: AuxiliarySettings) -> None:
        self.known = {prompts.GENERATION.format(passage=fact.sentence): fact for _, fact in article.facts}
        self.asked: dict[str, int] = {}

    def generate(self, requests: Sequence[str], *, temperature: float, seed: int) -> Iterator[Answer]:
        """A different paraphrase at each request about a sentence; see `PairGenerator`."""
        for request in requests:
            fact = self.known.get(request)
            count = self.asked.get(request, 0)
            self.asked[request] = count + 1
            if fact is None or count >= len(fact.questions):
                text = prompts.NO_PAIR
            else:
                text = prompts.PAIR.format(question=fact.questions[count], answer=fact.answer)
            yield Answer(text, complete=True)


def _same(answer: str, target: str) -> bool:
    return answer.strip().casefold() == target.casefold()


class Trial:
    """One condition over documents, with one seed.

    Args:
        condition: One of CONDITIONS.
        checkpoint: The model.
        seed: The recipe's seed.
        overrides: Of the recipe ``tiny``, by dotted key.
    """

    def __init__(self, condition: str, checkpoint: Path, seed: int, overrides: Mapping[str, Any]) -> None:
        self.condition = condition
        trains = condition not in ("icl", "closed_book")
        settings: dict[str, Any] = {"seed": seed, **(overrides if trains else {})}
        if condition.startswith("segments"):
            settings = {
                **SEGMENTS_ONLY,
                **{
                    key: value
                    for key, value in settings.items()
                    if not key.startswith("auxiliary.") and key != "training.joint_epochs"
                },
            }
        self.lifter = Lifter.from_pretrained(
            checkpoint, load_recipe("tiny" if trains else "tiny_icl", settings), device="cpu"
        )
        self.scores = {condition: Scores()}
        if condition in ("lift", "segments"):
            self.scores[f"{condition}_closed_book"] = Scores()

    def document(self, made: world.ArticleWithRows) -> None:
        """Train one document and ask its questions."""
        document = Document(made.article.text, made.article.title)
        recipe = self.lifter.recipe
        if self.condition == "world_pairs":
            generator = WorldGenerator(made.article, recipe.auxiliary)
            self.lifter.synthesizer = Synthesizer(recipe.auxiliary, generator, None)
        began = time.perf_counter()
        with self.lifter.lift(document) as session:
            seconds = time.perf_counter() - began
            for name, scores in self.scores.items():
                closed_book = name.endswith("closed_book")
                scores.seconds.append(seconds)
                self._ask(session, made, scores, closed_book=closed_book)
        if recipe.auxiliary.strategy != "none" and self.condition == "lift":
            self._check_pairs(document, made)

    def _check_pairs(self, document: Document, made: world.ArticleWithRows) -> None:
        """Count the pairs that were trained on, against the world; they are a function of the seed."""
        pairs = self.lifter.synthesizer.begin(
            document, document_seed(self.lifter.recipe.seed, document)
        ).pairs
        known = made.article.answers()
        right = {pair.question for pair in pairs if known.get(pair.question) == pair.answer}
        covered = sum(any(question in right for question in fact.questions) for _, fact in made.article.facts)
        counts = (len(list(pairs)), len(right), covered, len(made.article.facts))
        scores = self.scores["lift"]
        scores.pairs = [before + now for before, now in zip(scores.pairs, counts, strict=True)]

    def _ask(
        self, session: LiftedDocument, made: world.ArticleWithRows, scores: Scores, *, closed_book: bool
    ) -> None:
        hits = []
        for row in (made.shortqa, made.longqa):
            asked = [(pair["Q"], pair["A"]) for pair in row["qa_pairs"]]
            right, cut = self._right(session, asked, closed_book=closed_book)
            hits.append(sum(right))
            for pair, hit in zip(row["qa_pairs"], right, strict=True):
                tally = scores.by_type.setdefault(pair["type"], [0, 0])
                tally[0] += hit
                tally[1] += 1
        scores.right.append((hits[0], hits[1]))
        if not closed_book:
            right, _ = self._right(session, list(_kept(made.article, cut)), closed_book=False)
            scores.kept[0] += sum(right)
            scores.kept[1] += len(right)

    def _right(
        self, session: LiftedDocument, asked: Sequence[tuple[str, str]], *, closed_book: bool
    ) -> tuple[list[bool], tuple[int, int]]:
        """Which questions are answered with their targets; and what is cut out of the document, in characters."""
        decoding = Decoding(self.lifter.recipe.decoding.max_new_tokens, stop=("\n",))
        encoded = [
            session.encode(
                self.lifter.encoder.render(session.document, question, closed_book=closed_book), decoding
            )
            for question, _ in asked
        ]
        answers = session.decode(encoded, decoding)
        right = [_same(answer.text, target) for answer, (_, target) in zip(answers, asked, strict=True)]
        return right, encoded[0].cut if encoded else (0, 0)


def _kept(article: world.ArticleWithRows, cut: tuple[int, int]) -> Iterator[tuple[str, str]]:
    """Questions and answers about the facts outside the cut, in every paraphrase."""
    for _, fact in article.facts:
        start = article.text.index(fact.sentence)
        if start + len(fact.sentence) <= cut[0] or start >= cut[1]:
            yield from ((question, fact.answer) for question in fact.questions)


def summary(scores: Scores, baseline: Scores | None) -> dict[str, Any]:
    """The figures of one condition; against the baseline where there is one."""
    right = np.array(scores.right, dtype=float).T
    asked = np.full_like(right, world.QUESTIONS_PER_DOCUMENT)
    found: dict[str, Any] = {
        "exact_match": round(right.sum() / asked.sum(), 4),
        **{kind: round(right[row].sum() / asked[row].sum(), 4) for row, kind in enumerate(KINDS)},
        **{name: round(hits / count, 4) for name, (hits, count) in sorted(scores.by_type.items())},
        "kept": [scores.kept[0], scores.kept[1]],
        "seconds_per_document": round(float(np.mean(scores.seconds)), 2),
        "seconds_longest": round(max(scores.seconds), 2),
    }
    if scores.pairs[0]:
        found["pairs_right"] = round(scores.pairs[1] / scores.pairs[0], 4)
        found["pairs_per_document"] = round(scores.pairs[0] / len(scores.right), 1)
        found["facts_covered"] = round(scores.pairs[2] / scores.pairs[3], 4)
    if baseline is not None:
        base = np.array(baseline.right, dtype=float).T
        paired = compare_paired(
            right.sum(axis=0, keepdims=True),
            base.sum(axis=0, keepdims=True),
            asked.sum(axis=0, keepdims=True),
        )
        found["gain"] = round(paired.difference, 4)
        found["gain_interval"] = [round(paired.interval.low, 4), round(paired.interval.high, 4)]
        found["gain_p"] = paired.permutation_p
        found["kept_gain"] = round(
            scores.kept[0] / max(scores.kept[1], 1) - baseline.kept[0] / max(baseline.kept[1], 1), 4
        )
    return found


def main(arguments: list[str] | None = None) -> None:
    """Print the figures of every condition and seed, one JSON line each."""
    parser = argparse.ArgumentParser(prog="python perf/compare_lift.py", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=BUNDLED)
    parser.add_argument("--split", choices=["dev", "test"], default="dev")
    parser.add_argument("--documents", type=int, default=12)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--conditions", nargs="+", choices=CONDITIONS, default=["icl", "lift"])
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of the recipe tiny"
    )
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    overrides = {key: yaml.safe_load(value) for key, value in (item.split("=", 1) for item in options.set)}
    documents = list(world.documents(options.split, options.documents))
    baseline = None
    for seed in options.seeds:
        for condition in options.conditions:
            if condition in ("icl", "closed_book") and seed != options.seeds[0]:
                continue  # nothing random in them
            trial = Trial(condition, options.checkpoint, seed, overrides)
            for number, made in enumerate(documents):
                trial.document(made)
                sys.stderr.write(f"\r{condition} seed {seed}: {number + 1}/{len(documents)} ")
            sys.stderr.write("\n")
            for name, scores in trial.scores.items():
                figures = summary(scores, baseline if name != "icl" else None)
                sys.stdout.write(json.dumps({"condition": name, "seed": seed} | figures) + "\n")
                sys.stdout.flush()
            baseline = trial.scores.get("icl", baseline)


if __name__ == "__main__":
    main()
