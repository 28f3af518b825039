"""The documents written for this project: each question can be answered from its evidence, and from nothing else."""

from __future__ import annotations

import itertools
import json
from typing import get_args

import pytest

from lift_eval.benchmarks import original_documents
from lift_eval.benchmarks.metrics.squad import normalize
from lift_eval.benchmarks.original_documents import Original, Split, read_originals, score

ORIGINALS = {name: original for split in get_args(Split) for name, original in read_originals(split)}
INFERRED = {"yes", "no"}
"""Answers that need not stand in the evidence; a number or a choice that the question names need not, either."""

each_original = pytest.mark.parametrize("original", ORIGINALS.values(), ids=ORIGINALS)


def holds(text: str, words: str) -> bool:
    return f" {normalize(words)} " in f" {normalize(text)} "


def test_half_of_the_documents_are_for_development() -> None:
    splits = [original.split for original in ORIGINALS.values()]
    assert len(splits) == 12
    assert splits.count("development") == splits.count("report") == 6
    assert len({original.kind for original in ORIGINALS.values()}) == 12


@each_original
def test_a_document_has_the_size_and_the_questions_it_should(original: Original) -> None:
    assert 3000 <= len(original.text.split()) <= 5000
    assert original.license
    places = [len(asked.evidence) for asked in original.questions]
    assert (places.count(1), places.count(2)) == (20, 10)
    questions = [normalize(asked.question) for asked in original.questions]
    assert len(set(questions)) == len(questions)


@each_original
def test_evidence_stands_verbatim_and_is_spread_over_the_document(original: Original) -> None:
    thirds = [0, 0, 0]
    for asked in original.questions:
        for sentence in asked.evidence:
            assert original.text.count(sentence) == 1, sentence
        if len(asked.evidence) == 1:
            thirds[3 * original.text.index(asked.evidence[0]) // len(original.text)] += 1
        else:
            first, second = map(original.text.index, asked.evidence)
            assert abs(first - second) > 200, asked.question
    assert min(thirds) >= 6


@each_original
def test_an_answer_stands_in_its_evidence_and_not_in_its_question(original: Original) -> None:
    for asked in original.questions:
        evidence = " ".join(asked.evidence)
        for answer in asked.answers:
            short = len(answer.split()) <= 3 and any(character.isdigit() for character in answer)
            inferred = normalize(answer) in INFERRED or short or holds(asked.question, answer)
            assert holds(evidence, answer) or inferred or answer != asked.answers[0], (asked.question, answer)
        chosen = " or " in asked.question
        assert chosen or not any(holds(asked.question, answer) for answer in asked.answers), asked.question


@each_original
def test_no_question_gives_away_the_answer_to_another(original: Original) -> None:
    for one, other in itertools.permutations(original.questions, 2):
        long = [answer for answer in one.answers if len(normalize(answer)) > 12]
        assert not any(holds(other.question, answer) for answer in long), (one.question, other.question)


def test_a_reply_is_scored_against_the_best_accepted_answer() -> None:
    row = {"doc_id": "a", "title": "T", "context": "X", "answer": json.dumps(["the blue barn", "a barn"])}
    scores = score(row, ["It is a barn by the lake."])
    assert scores["contained"] == 1
    assert scores["exact_match"] == 0
    assert scores["token_f1"] == pytest.approx(2 * 1 / (5 + 1))
    assert row["context"].startswith("sha256:")


def test_a_run_takes_the_split_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = original_documents.load(
        prompts={"originals": "{context} {question}"}, split="development", documents=1, max_questions=5
    )["test"]
    assert len(rows) == 5
    assert ORIGINALS[rows[0]["doc_id"]].split == "development"
