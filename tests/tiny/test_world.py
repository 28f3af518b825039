"""The tiny world: what its documents promise to whoever scores a model on them."""

from __future__ import annotations

import json
import random
import re
from itertools import pairwise

import pytest

from lift_eval.tiny import words as w
from lift_eval.tiny import world
from lift_eval.tiny.kinds import KINDS
from lift_eval.tiny.tokenizer import build


@pytest.fixture(scope="module")
def test_documents():
    return list(world.documents("test"))


def name_in(text: str, names: set[str]) -> set[str]:
    tokens = re.findall(r"\w+", text)
    return {f"{one} {two}" for one, two in pairwise(tokens)} & names


def everything_written(row) -> str:
    asked = " ".join(f"{pair['Q']} {pair['A']}" for pair in row["qa_pairs"])
    return f"{row['title']} {row['input']} {asked}"


def test_no_name_belongs_to_two_splits():
    for kind in ("person", "thing"):
        train, dev, test = (set(world.names(split)[kind]) for split in ("train", "dev", "test"))
        assert not train & dev
        assert not train & test
        assert not dev & test
        assert min(len(dev), len(test)) > 100


def test_a_names_split_never_changes():
    assert world.split_of("Alma Ashwood") == "train"
    assert world.split_of("Alma Cornstone") == "dev"
    assert world.split_of("Alma Ashham") == "test"


@pytest.mark.parametrize("split", ["dev", "test"])
def test_documents_use_the_names_of_their_split_only(split):
    others = [other for other in ("train", "dev", "test") if other != split]
    foreign = {name for other in others for names in world.names(other).values() for name in names}
    own = {name for names in world.names(split).values() for name in names}
    for document in world.documents(split):
        for row in (document.shortqa, document.longqa):
            assert len(name_in(everything_written(row), own)) >= 10
            # A capital word before a name can look like a pair ("Brave Heron Kettle"): only real names count.
            assert not name_in(" ".join(pair["Q"] for pair in row["qa_pairs"]), foreign)


def test_no_name_comes_twice_among_the_test_documents(test_documents):
    own = {name for names in world.names("test").values() for name in names}
    seen: set[str] = set()
    for document in test_documents:
        here = {name for _, fact in document.article.facts for name in name_in(fact.questions[0], own)}
        assert not here & seen
        seen |= here


def test_same_arguments_give_the_same_documents_and_another_seed_gives_others(test_documents):
    assert [document.shortqa for document in world.documents("test")] == [d.shortqa for d in test_documents]
    assert next(iter(world.documents("test", seed=7))).article.text != test_documents[0].article.text
    assert next(iter(world.documents("dev"))).article.text != test_documents[0].article.text


def test_there_are_twelve_documents_of_four_to_twelve_windows_with_twenty_questions_per_task(test_documents):
    tokenizer = build()
    lengths = [
        len(tokenizer(f"{document.article.title}\n{document.article.text}", verbose=False).input_ids)
        for document in test_documents
    ]
    assert len(lengths) == 12
    assert min(lengths) >= 4 * 256
    assert max(lengths) <= 12 * 256
    for document in test_documents:
        assert 40 <= len(document.article.facts) <= 60
        assert len(document.shortqa["qa_pairs"]) == len(document.longqa["qa_pairs"]) == 20


def test_evidence_stands_verbatim_at_the_depth_that_the_row_names(test_documents):
    for document in test_documents:
        for row in (document.shortqa, document.longqa):
            for pair in row["qa_pairs"]:
                text = row["input"]
                centres = [(text.index(one) + len(one) / 2) / len(text) for one in pair["S"]]
                assert min(abs(centre - pair["depth"]) for centre in centres) < 0.002


def test_evidence_of_short_questions_is_spread_evenly_over_each_document(test_documents):
    for document in test_documents:
        depths = [pair["depth"] for pair in document.shortqa["qa_pairs"]]
        quarters = [sum(low / 4 <= depth < (low + 1) / 4 for depth in depths) for low in range(4)]
        assert min(quarters) >= 3, quarters


def test_the_answer_of_a_short_question_is_a_word_of_its_one_evidence_sentence(test_documents):
    for document in test_documents:
        for pair in document.shortqa["qa_pairs"]:
            assert len(pair["S"]) == 1
            assert pair["A"] in re.findall(r"\w+", pair["S"][0])


def test_the_answer_of_a_long_question_follows_from_its_two_sentences(test_documents):
    types = set()
    for document in test_documents:
        for pair in document.longqa["qa_pairs"]:
            types.add(pair["type"])
            one, two = (re.findall(r"\w+", sentence) for sentence in pair["S"])
            if pair["type"] == "computation":
                addends = [next(word for word in words if word in w.COUNTS) for words in (one, two)]
                assert pair["A"] == w.NUMBERS[sum(w.NUMBERS.index(word) for word in addends)]
            elif pair["type"] == "multiple_information_retrieval":
                first, last = pair["A"].split(" and ")
                assert first in one
                assert last in two
            elif pair["type"] == "comprehension_and_reasoning":
                assert pair["A"] in one
                assert pair["A"] in two
            else:
                years = [next(int(word) for word in words if word in w.YEARS) for words in (one, two)]
                assert years[0] < years[1]
                assert pair["A"] in (two if " after " in pair["Q"] else one)
    assert types == {
        "computation",
        "multiple_information_retrieval",
        "comprehension_and_reasoning",
        "timeline_reorder",
    }


def test_the_two_sentences_of_a_long_question_lie_far_apart(test_documents):
    for document in test_documents:
        for pair in document.longqa["qa_pairs"]:
            one, two = (document.longqa["input"].index(sentence) for sentence in pair["S"])
            assert abs(one - two) > len(document.longqa["input"]) / 4


def test_every_question_of_a_document_has_one_answer(test_documents):
    for document in test_documents:
        count = sum(len(fact.questions) for _, fact in document.article.facts) + len(document.article.joints)
        assert len(document.article.answers()) == count


def test_every_fact_can_be_stated_and_asked_in_several_ways():
    for kind in KINDS:
        for aspect in (
            kind.origin,
            kind.first,
            kind.last,
            kind.period,
            kind.spring,
            kind.autumn,
            *kind.extra,
        ):
            assert len(set(aspect.statements)) == 3
            assert len(set(aspect.questions)) == 2


def test_written_files_hold_the_same_rows_and_any_length(tmp_path):
    short, long = world.write(tmp_path / "made", 2, words=5000, seed=3)
    rows = [json.loads(line) for line in short.read_text(encoding="utf-8").splitlines()]
    assert [len(row["input"].split()) >= 5000 for row in rows] == [True, True]
    assert rows[0]["input"] == json.loads(long.read_text(encoding="utf-8").splitlines()[0])["input"]
    assert rows == [document.shortqa for document in world.documents("test", 2, seed=3, words=5000)]


def test_a_document_of_a_hundred_thousand_words_can_be_made(tmp_path):
    short, _ = world.write(tmp_path, 1, words=100_000)
    assert len(json.loads(short.read_text(encoding="utf-8"))["input"].split()) >= 100_000


def test_plain_sentences_state_no_fact():
    rng = random.Random(0)
    own = {
        name for split in ("train", "dev", "test") for names in world.names(split).values() for name in names
    }
    assert not any(name_in(world.filler(rng), own) for _ in range(500))
