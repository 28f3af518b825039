"""Goldens are worked out by hand beside each case; properties hold for any text."""

from __future__ import annotations

import itertools
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge import Rouge

from lift_eval.benchmarks import metrics

TEXTS = st.text(max_size=60)
SENTENCES = st.lists(
    st.sampled_from(["Ada", "ship", "ship.", "the", "sank", ".", "in", "1901", "\n"]), max_size=14
)
WORDS = SENTENCES.map(" ".join)

BOUNDED = [
    metrics.exact_match,
    metrics.token_f1,
    metrics.bleu_1,
    metrics.bleu_4,
    metrics.bleu_4gram_published,
    metrics.meteor_exact_stem,
    lambda p, r: metrics.rouge_l(p, r)[0],
    lambda p, r: metrics.rouge_l(p, r)[1],
    lambda p, r: metrics.rouge_l(p, r)[2],
    lambda p, r: metrics.rouge_n_recall(p, r, 1),
    lambda p, r: metrics.rouge_n_recall(p, r, 2),
    lambda p, r: metrics.qa_f1(p, [r]),
    lambda p, r: metrics.rouge_l_best(p, [r]),
]
"""Every score of a free answer that lies between 0 and 1."""


# ------------------------------------------------------------------------------------------------------- properties


@given(TEXTS | WORDS, TEXTS | WORDS)
def test_free_answer_scores_lie_between_0_and_1(prediction: str, reference: str) -> None:
    for score in BOUNDED:
        assert 0 <= score(prediction, reference) <= 1


@given(TEXTS | WORDS)
def test_an_answer_equal_to_the_reference_scores_highest(text: str) -> None:
    assert metrics.exact_match(text, text) == 1
    assert metrics.token_f1(text, text) == 1
    if text.split():
        assert metrics.bleu_1(text, text) == 1
    if len(text.split()) >= 4:
        assert metrics.bleu_4(text, text) == pytest.approx(1)
        assert metrics.bleu_4gram_published(text, text) == 1
    if text.replace(".", " ").split():
        assert metrics.rouge_l(text, text) == pytest.approx((1, 1, 1))
        assert metrics.rouge_n_recall(text, text, 1) == 1


@given(TEXTS | WORDS, TEXTS | WORDS)
def test_token_f1_and_exact_match_are_symmetric(one: str, other: str) -> None:
    assert metrics.token_f1(one, other) == metrics.token_f1(other, one)
    assert metrics.exact_match(one, other) == metrics.exact_match(other, one)


@given(TEXTS | WORDS)
def test_normalization_is_idempotent(text: str) -> None:
    assert metrics.normalize(metrics.normalize(text)) == metrics.normalize(text)


@given(WORDS, WORDS)
def test_rouge_equals_the_package_it_stands_for(prediction: str, reference: str) -> None:
    if not prediction.replace(".", " ").split() or not reference.replace(".", " ").split():
        assert metrics.rouge_l(prediction, reference) == (0, 0, 0)
        return
    published = Rouge().get_scores(prediction, reference)[0]
    precision, recall, f1 = metrics.rouge_l(prediction, reference)
    assert precision == pytest.approx(published["rouge-l"]["p"])
    assert recall == pytest.approx(published["rouge-l"]["r"])
    assert f1 == pytest.approx(published["rouge-l"]["f"])
    for n in (1, 2):
        assert metrics.rouge_n_recall(prediction, reference, n) == pytest.approx(published[f"rouge-{n}"]["r"])


@pytest.mark.parametrize("empty", ["", "   ", "\n", "...", " . . "])
def test_an_empty_answer_scores_0_by_rule(empty: str) -> None:
    for score in BOUNDED:
        assert score(empty, "Ada Lovelace") == 0
        assert score("Ada Lovelace", empty) == 0


# ---------------------------------------------------------------------------------------------------------- goldens


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        ("The Parador, of Carmona!", "parador of carmona", 1),
        ("Parador of Carmona.", "Parador of Guadalupe", 0),
        ("", "the", 1),  # both have no words left
        ("ÉCIJA", "écija", 1),
    ],
)
def test_exact_match(prediction: str, reference: str, expected: float) -> None:
    assert metrics.exact_match(prediction, reference) == expected


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        # {he, was, born, in, madrid} against {born, in, jerez}: 2 shared, 2 * 2 / (5 + 3)
        ("He was born in Madrid", "born in Jerez", 0.5),
        # "no no" against "no": the bags share one word, 2 * 1 / (2 + 1)
        ("no no", "no", 2 / 3),
        ("Madrid", "Jerez", 0),
        ("the", "a", 1),
        ("the", "Jerez", 0),
    ],
)
def test_token_f1(prediction: str, reference: str, expected: float) -> None:
    assert metrics.token_f1(prediction, reference) == pytest.approx(expected)


def test_bleu_1_is_precision_times_brevity() -> None:
    # 3 of 3 words are right; 3 words against 4: exp(1 - 4/3)
    assert metrics.bleu_1("the cat sat", "the cat sat down") == pytest.approx(0.7165313)
    # "the" may count once only: 1 of 3
    assert metrics.bleu_1("the the the", "the cat sat") == pytest.approx(1 / 3)


def test_published_bleu_4_is_the_4gram_precision_alone() -> None:
    prediction, reference = "a b c d x", "a b c d e"
    # 4-grams: "a b c d" right, "b c d x" wrong
    assert metrics.bleu_4gram_published(prediction, reference) == pytest.approx(1 / 2)
    # precisions 4/5, 3/4, 2/3, 1/2: product 1/5
    assert metrics.bleu_4(prediction, reference) == pytest.approx(0.2**0.25)


def test_bleu_without_a_shared_4gram_is_0() -> None:
    assert metrics.bleu_4("a b c x", "a b c d") == 0
    assert metrics.bleu_4("Madrid", "Madrid") == 0


def test_rouge_recalls_count_distinct_ngrams() -> None:
    # Reference words {the, ship, sank, in, 1901}: the, ship, sank found. Bigrams: "the ship", "ship sank" of 4.
    assert metrics.rouge_n_recall("the ship the ship sank", "the ship sank in 1901", 1) == pytest.approx(
        3 / 5
    )
    assert metrics.rouge_n_recall("the ship the ship sank", "the ship sank in 1901", 2) == pytest.approx(
        2 / 4
    )


def test_rouge_l_is_the_union_over_sentences() -> None:
    # The example of the ROUGE paper: reference w1 w2 w3 w4 w5; LCS with c1 = {w1, w2}, with c2 = {w1, w3, w5}.
    precision, recall, f1 = metrics.rouge_l("w1 w2 w6 w7 w8. w1 w3 w8 w9 w5", "w1 w2 w3 w4 w5")
    assert recall == pytest.approx(4 / 5)
    assert precision == pytest.approx(4 / 8)  # w1 w2 w6 w7 w8 w3 w9 w5
    assert f1 == pytest.approx(2 * 0.5 * 0.8 / 1.3)


def test_rouge_l_reads_a_thousand_words_without_recursion() -> None:
    words = [f"w{i}" for i in range(sys.getrecursionlimit() + 10)]
    assert metrics.rouge_l(" ".join(words), " ".join(words))[1] == 1


def test_meteor_has_an_exact_and_a_stem_stage_and_penalises_chunks() -> None:
    # 3 words in 1 chunk: F = 1, penalty 0.5 * (1/3)^3
    assert metrics.meteor_exact_stem("the cats sat", "the cat sat") == pytest.approx(1 - 0.5 / 27)
    # same words in 3 chunks: penalty 0.5
    assert metrics.meteor_exact_stem("sat cat the", "the cat sat") == pytest.approx(0.5)
    # no synonym stage
    assert metrics.meteor_exact_stem("big", "large") == 0


def test_bert_score_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bert_score", None)
    with pytest.raises(ModuleNotFoundError, match="pip install bert-score"):
        metrics.bert_scores(["Madrid"], ["Madrid"])


# ----------------------------------------------------------------------------------------------------------- clozes


REFERENCE = {"<mask-0>": "Justin Timberlake", "<mask-1>": "Kentwood"}


@pytest.mark.parametrize(
    ("prediction", "exact", "partial"),
    [
        ("{'<mask-0>': 'Justin Timberlake', '<mask-1>': 'Kentwood'}", 2, 2),
        ('{"<mask-0>": "Justin", "<mask-1>": "Kentwood"}', 1, 2),
        ("The answer: {'<mask-0>': 'justin timberlake'} as asked.", 0, 0),
        ("{'<mask-0>': 7, '<mask-1>': ['Kentwood']}", 0, 0),
        ("{'<mask-0>': 'Justin Timberlake'", 0, 0),  # cut off
        ("Justin Timberlake, Kentwood", 0, 0),
        ("{__import__('os').getcwd()}", 0, 0),  # never run
        ("", 0, 0),
    ],
)
def test_cloze_matches(prediction: str, exact: int, partial: int) -> None:
    assert metrics.cloze_matches(prediction, REFERENCE) == (exact, partial)


@given(TEXTS, st.dictionaries(TEXTS, TEXTS, min_size=1, max_size=4))
def test_cloze_matches_are_counts_of_the_masks(prediction: str, reference: dict[str, str]) -> None:
    exact, partial = metrics.cloze_matches(prediction, reference)
    assert 0 <= exact <= len(reference)
    assert 0 <= partial <= len(reference)


def test_micro_average_weighs_every_mask_alike() -> None:
    assert metrics.micro_average([(1, 1), (0, 3)]) == 0.25


# ------------------------------------------------------------------------------------------------------ timelines


@pytest.mark.parametrize(
    ("answer", "order"),
    [
        ("3,5,1,4,2", [3, 5, 1, 4, 2]),
        ("The order of the 5 events is: 3 -> 5 -> 1 -> 4 -> 2.", [3, 5, 1, 4, 2]),
        ("3, 5, 1, 4, 2 because event 3 was in 1260.", [3, 5, 1, 4, 2]),
        ("First event 3, then event 5, then 1 and 4, and 2 last.", [3, 5, 1, 4, 2]),
        ("3,5,1,4", None),
        ("3,3,5,1,4", None),
        ("three, five, one, four, two", None),
        ("III, V, I, IV, II", None),
        ("", None),
    ],
)
def test_read_order(answer: str, order: list[int] | None) -> None:
    assert metrics.read_order(answer, [1, 2, 3, 4, 5]) == order


@given(TEXTS)
def test_read_order_gives_an_order_or_nothing(answer: str) -> None:
    order = metrics.read_order(answer, [1, 2])
    assert order is None or sorted(order) == [1, 2]


@pytest.mark.parametrize(
    ("answer", "order"), [("2,1,3", [2, 1, 3]), ("2,1,4", None), ("1", None), ("dentist", None)]
)
def test_reference_order(answer: str, order: list[int] | None) -> None:
    assert metrics.reference_order(answer) == order


def test_timeline_deviations_by_hand() -> None:
    # Right order 3,1,2; predicted 1,2,3: event 1 is 1 place early, 2 is 1 early, 3 is 2 late.
    # squares 1 + 1 + 4 over 3; absolute 1 + 1 + 2 over 3; one cycle of three: 3 - 1; half of 4.
    assert metrics.timeline_deviations([1, 2, 3], [3, 1, 2]) == {
        "lsd_standard": 2,
        "lmd_standard": pytest.approx(4 / 3),
        "sd_standard": 2,
        "sdd_standard": 2,
    }


def greedy_swap_distance(target: list[int]) -> int:
    """SDD as LooGLE defines it: swap the pair with the largest gain per distance until all is in its place."""
    places, weight = list(target), 0

    def gain(i: int, j: int) -> float:
        before = abs(places[i] - i) + abs(places[j] - j)
        return (before - abs(places[j] - i) - abs(places[i] - j)) / (j - i)

    while places != sorted(places):
        i, j = max(itertools.combinations(range(len(places)), 2), key=lambda pair: gain(*pair))
        places[i], places[j] = places[j], places[i]
        weight += j - i
    return weight


def fewest_swaps(target: list[int]) -> int:
    places, swaps = list(target), 0
    for i in range(len(places)):
        while places[i] != i:
            goal = places[i]
            places[i], places[goal] = places[goal], places[i]
            swaps += 1
    return swaps


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6])
def test_timeline_deviations_against_their_definitions(n: int) -> None:
    reference = list(range(1, n + 1))
    found = []
    for order in itertools.permutations(reference):
        values = metrics.timeline_deviations(order, reference)
        target = [label - 1 for label in order]
        assert values["sdd_standard"] == greedy_swap_distance(target)
        assert values["sd_standard"] == fewest_swaps(target)
        assert (values["lsd_standard"] == 0) == (list(order) == reference)
        found.append(values)
    worst = {name: max(values[name] for values in found) for name in found[0]}
    assert metrics.timeline_deviations(None, reference) == pytest.approx(worst)


@given(st.permutations(range(1, 8)), st.permutations(range(1, 8)))
def test_timeline_distances_are_symmetric(one: list[int], other: list[int]) -> None:
    assert metrics.timeline_deviations(one, other) == metrics.timeline_deviations(other, one)


# ---------------------------------------------------------------------------------------------------------- choices


QUESTION = "How many people were in the family?\n1. seven\n2. six\n3. five\n4. four"
LETTERS = "Which one?\nA) the ship\nB) the tower\nC) the man of the ship"


def test_read_options() -> None:
    assert metrics.read_options(QUESTION) == {"1": "seven", "2": "six", "3": "five", "4": "four"}
    assert metrics.read_options("In 1990.\n2. six\n3. five") == {}
    assert metrics.read_options("What is it?") == {}


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("3", "3"),
        ("3. five", "3"),
        ("(3)", "3"),
        ("The answer is 3.", "3"),
        ("There were five people.", "3"),
        ("It is option 2", "2"),
        ("five or six", None),
        ("3.5 million", None),
        ("35", None),
        ("", None),
    ],
)
def test_read_choice(answer: str, label: str | None) -> None:
    assert metrics.read_choice(answer, metrics.read_options(QUESTION)) == label


def test_an_article_is_no_label() -> None:
    options = metrics.read_options(LETTERS)
    assert metrics.read_choice("A tower, that is the tower", options) == "B"
    assert metrics.read_choice("C", options) == "C"


def test_choice_accuracy_needs_a_multiple_choice_question() -> None:
    options = metrics.read_options(QUESTION)
    assert metrics.choice_accuracy("five", "3", options) == 1
    assert metrics.choice_accuracy("six", "3", options) == 0
    assert metrics.choice_accuracy("six", "nobody knows", options) is None
    assert metrics.choice_accuracy("3", "3", {}) is None


# -------------------------------------------------------------------------------------------------------- LongBench


def test_qa_f1_takes_the_best_answer() -> None:
    assert metrics.qa_f1("the red ship", ["a blue tower", "red ship"]) == 1
    assert metrics.qa_f1("", ["the"]) == 0  # as published, though both have no words left


def test_retrieval_is_the_share_of_right_numbers() -> None:
    assert metrics.retrieval_score("Paragraph 7", ["Paragraph 7"]) == 1
    assert metrics.retrieval_score("7 or 17 or 7 or 2", ["Paragraph 7"]) == 0.5
    assert metrics.retrieval_score("the seventh", ["Paragraph 7"]) == 0


def test_classification_shares_the_point_among_the_named_classes() -> None:
    classes = ["Location", "Other location", "City", "Date"]
    assert metrics.classification_score("City", ["City"], classes) == 1
    assert metrics.classification_score("City or Date", ["City"], classes) == 0.5
    # "location" alone is part of the right name and does not count
    assert metrics.classification_score("Other location", ["Other location"], ["location", *classes]) == 1
    assert metrics.classification_score("Date", ["City"], classes) == 0


def test_keyword_share_ignores_case() -> None:
    assert (
        metrics.keyword_share("Eat a Sandwich in DOLORES PARK", ["sandwich", "dolores park", "sunny"])
        == 2 / 3
    )


def test_counts() -> None:
    assert metrics.count_distinct(["a", "b", "a"]) == 2
    assert metrics.total([1, 0, 1]) == 2
