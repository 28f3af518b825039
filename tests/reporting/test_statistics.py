"""The statistics, against scipy and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lift_eval.reporting import statistics


def one_part(values: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Numerators and denominators of documents with one question each."""
    return np.array([values]), np.ones((1, len(values)))


def test_bootstrap_interval_agrees_with_scipy() -> None:
    values = list(np.random.default_rng(1).normal(50, 10, size=40))
    ours = statistics.bootstrap_interval(*one_part(values))
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert ours.low == pytest.approx(theirs.low, abs=0.3)
    assert ours.high == pytest.approx(theirs.high, abs=0.3)


def test_bootstrap_spreads_as_the_documents_do_not_as_the_questions_do() -> None:
    # 20 documents with 50 questions each; all questions of a document have the same score. The closed form of the
    # cluster bootstrap is the standard deviation of document means over the root of their number.
    means = np.random.default_rng(3).random(20)
    numerators, denominators = 50 * means[None, :], np.full((1, 20), 50.0)
    replicates = statistics.resampled_means(numerators, denominators)
    assert replicates.std() == pytest.approx(means.std() / math.sqrt(20), rel=0.03)
    assert replicates.mean() == pytest.approx(means.mean(), abs=0.005)


def test_documents_with_many_questions_weigh_more() -> None:
    assert statistics.mean_of_ratios(np.array([[9.0, 0.0]]), np.array([[9.0, 1.0]])) == pytest.approx(0.9)


def test_a_group_is_the_mean_of_its_tasks() -> None:
    numerators, denominators = np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([[2.0, 2.0], [4.0, 4.0]])
    assert statistics.mean_of_ratios(numerators, denominators) == pytest.approx((0.5 + 0.125) / 2)


def test_one_document_has_no_interval() -> None:
    span = statistics.bootstrap_interval(*one_part([0.5]))
    assert math.isnan(span.low)
    assert math.isnan(span.high)


def test_equal_documents_leave_nothing_to_doubt() -> None:
    span = statistics.bootstrap_interval(*one_part([0.25] * 12))
    assert (span.low, span.high) == (0.25, 0.25)


def test_thousands_of_documents_are_resampled_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    values = list(np.random.default_rng(4).random(400))
    whole = statistics.resampled_means(*one_part(values))
    monkeypatch.setattr(statistics, "MAX_CELLS", 400_000)
    pieces = statistics.resampled_means(*one_part(values))
    assert len(pieces) == 1_000
    assert pieces.std() == pytest.approx(whole.std(), rel=0.1)


@pytest.mark.parametrize("size", [3, 8, 14])
def test_sign_flips_agree_with_scipy_exactly(size: int) -> None:
    differences = np.random.default_rng(size).normal(0.3, 1, size=size)
    theirs = stats.permutation_test(
        (differences,), np.sum, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    assert statistics.sign_flip_p(differences) == pytest.approx(theirs.pvalue)


def test_random_sign_flips_agree_with_the_normal_approximation() -> None:
    differences = np.random.default_rng(5).normal(0.15, 1, size=200)
    z = abs(differences.sum()) / math.sqrt((differences**2).sum())
    assert statistics.sign_flip_p(differences) == pytest.approx(2 * stats.norm.sf(z), abs=0.01)


def test_no_difference_is_no_evidence() -> None:
    assert statistics.sign_flip_p(np.zeros(30)) == 1
    result = statistics.compare_paired(*(one_part([0.5] * 30)[0],) * 2, np.ones((1, 30)))
    assert (result.difference, result.permutation_p, result.bootstrap_p) == (0, 1, 1)


def test_paired_comparison_forgets_what_both_share() -> None:
    rng = np.random.default_rng(6)
    hardness = rng.normal(0, 10, size=50)
    method, baseline = hardness + 1 + rng.normal(0, 0.5, 50), hardness
    result = statistics.compare_paired(method[None, :], baseline[None, :], np.ones((1, 50)))
    assert result.interval.low > 0.7
    assert result.interval.high < 1.3
    assert result.permutation_p < 0.001
    assert result.bootstrap_p < 0.001


def test_paired_comparison_of_one_document_has_no_p_value() -> None:
    result = statistics.compare_paired(np.ones((1, 1)), np.zeros((1, 1)), np.ones((1, 1)))
    assert result.difference == 1
    assert math.isnan(result.permutation_p)


@given(
    differences=st.lists(st.floats(-5, 5).map(lambda value: round(value, 3)), min_size=2, max_size=10),
    scale=st.sampled_from([0.01, 3.0, 1000.0]),
)
def test_sign_flips_do_not_mind_scale_or_direction(differences: list[float], scale: float) -> None:
    values = np.array(differences)
    p = statistics.sign_flip_p(values)
    assert 0 < p <= 1
    assert statistics.sign_flip_p(-values) == p
    assert statistics.sign_flip_p(scale * values) == p


@pytest.mark.parametrize(("one", "other"), [(0, 0), (5, 1), (1, 5), (12, 12), (30, 10), (700, 610)])
def test_mcnemar_is_the_binomial_test_of_the_discordant_pairs(one: int, other: int) -> None:
    theirs = stats.binomtest(one, one + other).pvalue if one + other else 1.0
    assert statistics.mcnemar_p(one, other) == pytest.approx(theirs)


def test_holm_by_hand() -> None:
    # Sorted: 0.01 * 4, 0.02 * 3, 0.03 * 2, 0.5 * 1, each at least the one before.
    assert statistics.holm([0.5, 0.01, 0.03, 0.02]) == pytest.approx([0.5, 0.04, 0.06, 0.06])


def test_holm_leaves_out_what_was_not_tested() -> None:
    adjusted = statistics.holm([math.nan, 0.02, 0.03])
    assert math.isnan(adjusted[0])
    assert adjusted[1:] == pytest.approx([0.04, 0.04])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_no_correction_and_bonferroni(p_values: list[float]) -> None:
    for p, adjusted in zip(p_values, statistics.holm(p_values), strict=True):
        assert p <= adjusted <= min(1, len(p_values) * p) + 1e-12
