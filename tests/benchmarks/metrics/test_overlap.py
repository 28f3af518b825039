"""BLEU, ROUGE, METEOR, BERTScore, and the properties of every score of a free answer.

Expected values are worked out by hand beside each case.
"""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge import Rouge

from lift_eval.benchmarks.metrics.longbench import rouge_l_f1
from lift_eval.benchmarks.metrics.overlap import (
    bert_scores,
    bleu_1,
    bleu_4,
    bleu_4gram_published,
    meteor_exact_stem,
    rouge_l,
    rouge_n_recall,
)
from lift_eval.benchmarks.metrics.squad import exact_match, qa_f1, token_f1
from tests.benchmarks.metrics.texts import TEXTS, WORDS

BOUNDED = [
    exact_match,
    token_f1,
    bleu_1,
    bleu_4,
    bleu_4gram_published,
    meteor_exact_stem,
    lambda p, r: rouge_l(p, r)[0],
    lambda p, r: rouge_l(p, r)[1],
    lambda p, r: rouge_l(p, r)[2],
    lambda p, r: rouge_n_recall(p, r, 1),
    lambda p, r: rouge_n_recall(p, r, 2),
    qa_f1,
    rouge_l_f1,
]
"""Every score of a free answer that lies between 0 and 1."""


@given(TEXTS | WORDS, TEXTS | WORDS)
def test_free_answer_scores_lie_between_0_and_1(prediction: str, reference: str) -> None:
    for score in BOUNDED:
        assert 0 <= score(prediction, reference) <= 1


@given(TEXTS | WORDS)
def test_an_answer_equal_to_the_reference_scores_highest(text: str) -> None:
    assert exact_match(text, text) == 1
    assert token_f1(text, text) == 1
    if text.split():
        assert bleu_1(text, text) == 1
    if len(text.split()) >= 4:
        assert bleu_4(text, text) == pytest.approx(1)
        assert bleu_4gram_published(text, text) == 1
    if text.replace(".", " ").split():
        assert rouge_l(text, text) == pytest.approx((1, 1, 1))
        assert rouge_n_recall(text, text, 1) == 1


def published_rouge(prediction: str, reference: str) -> dict[str, dict[str, float]]:
    """What LongBench's code takes: the package's scores, and 0 where it raises."""
    try:
        return Rouge().get_scores(prediction, reference)[0]
    except ValueError:
        return dict.fromkeys(("rouge-1", "rouge-2", "rouge-l"), dict.fromkeys("prf", 0.0))


@given(WORDS | st.text(" .\n", max_size=4), WORDS | st.text(" .\n", max_size=4))
def test_rouge_equals_the_package_it_stands_for(prediction: str, reference: str) -> None:
    published = published_rouge(prediction, reference)
    assert rouge_l(prediction, reference) == pytest.approx([published["rouge-l"][name] for name in "prf"])
    for n in (1, 2):
        assert rouge_n_recall(prediction, reference, n) == pytest.approx(published[f"rouge-{n}"]["r"])


@pytest.mark.parametrize(
    ("prediction", "reference", "score"),
    [("", "", 0), (".", "..", 0), ("", " ", 0), (" ", "\n", 1), (" . ", " ", 1), (" ", ".", 0)],
)
def test_rouge_of_two_texts_without_a_word(prediction: str, reference: str, score: float) -> None:
    assert rouge_l(prediction, reference) == pytest.approx((score, score, score))
    assert rouge_n_recall(prediction, reference, 1) == score


@pytest.mark.parametrize("empty", ["", "   ", "\n", "...", " . . "])
def test_an_empty_answer_scores_0_by_rule(empty: str) -> None:
    for score in BOUNDED:
        assert score(empty, "Ada Lovelace") == 0
        assert score("Ada Lovelace", empty) == 0


def test_bleu_1_is_precision_times_brevity() -> None:
    # 3 of 3 words are right; 3 words against 4: exp(1 - 4/3)
    assert bleu_1("the cat sat", "the cat sat down") == pytest.approx(0.7165313)
    # "the" may count once only: 1 of 3
    assert bleu_1("the the the", "the cat sat") == pytest.approx(1 / 3)


def test_published_bleu_4_is_the_4gram_precision_alone() -> None:
    prediction, reference = "a b c d x", "a b c d e"
    # 4-grams: "a b c d" right, "b c d x" wrong
    assert bleu_4gram_published(prediction, reference) == pytest.approx(1 / 2)
    # precisions 4/5, 3/4, 2/3, 1/2: product 1/5
    assert bleu_4(prediction, reference) == pytest.approx(0.2**0.25)


def test_bleu_without_a_shared_4gram_is_0() -> None:
    assert bleu_4("a b c x", "a b c d") == 0
    assert bleu_4("Madrid", "Madrid") == 0


def test_rouge_recalls_count_distinct_ngrams() -> None:
    # Reference words {the, ship, sank, in, 1901}: the, ship, sank found. Bigrams: "the ship", "ship sank" of 4.
    assert rouge_n_recall("the ship the ship sank", "the ship sank in 1901", 1) == pytest.approx(3 / 5)
    assert rouge_n_recall("the ship the ship sank", "the ship sank in 1901", 2) == pytest.approx(2 / 4)


def test_rouge_l_is_the_union_over_sentences() -> None:
    # The example of the ROUGE paper: reference w1 w2 w3 w4 w5; LCS with c1 = {w1, w2}, with c2 = {w1, w3, w5}.
    precision, recall, f1 = rouge_l("w1 w2 w6 w7 w8. w1 w3 w8 w9 w5", "w1 w2 w3 w4 w5")
    assert recall == pytest.approx(4 / 5)
    assert precision == pytest.approx(4 / 8)  # w1 w2 w6 w7 w8 w3 w9 w5
    assert f1 == pytest.approx(2 * 0.5 * 0.8 / 1.3)


def test_rouge_l_reads_a_thousand_words_without_recursion() -> None:
    words = [f"w{i}" for i in range(sys.getrecursionlimit() + 10)]
    assert rouge_l(" ".join(words), " ".join(words))[1] == 1


def test_meteor_has_an_exact_and_a_stem_stage_and_penalises_chunks() -> None:
    # 3 words in 1 chunk: F = 1, penalty 0.5 * (1/3)^3
    assert meteor_exact_stem("the cats sat", "the cat sat") == pytest.approx(1 - 0.5 / 27)
    # same words in 3 chunks: penalty 0.5
    assert meteor_exact_stem("sat cat the", "the cat sat") == pytest.approx(0.5)
    # no synonym stage
    assert meteor_exact_stem("big", "large") == 0


def test_bert_score_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bert_score", None)
    with pytest.raises(ModuleNotFoundError, match="pip install bert-score"):
        bert_scores(["Madrid"], ["Madrid"])
