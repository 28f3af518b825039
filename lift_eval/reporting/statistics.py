"""The statistics of the reports: intervals and paired tests that account for many questions per document.

Questions about one document are not independent: a document that is hard, or was fine-tuned badly, is so for all of
them. Everything here therefore resamples documents (clusters), never questions. McNemar's test is the exception, kept
because readers ask for it; its p-value is too small where answers about one document are correlated.

A score is a ratio: the sum of numerators over the sum of denominators (1 per question for a plain mean, the number of
masks for LooGLE's micro-averaged clozes).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

CONFIDENCE = 0.95
RESAMPLES = 10_000
MAX_CELLS = 20_000_000
"""Resamples times documents: with thousands of documents fewer resamples do, and 1,000 are always drawn."""
EXACT_DOCUMENTS = 14
"""Up to this many documents all 2^n sign flips are tried."""


@dataclass(frozen=True)
class Interval:
    """A percentile interval; both ends are NaN with fewer than two documents."""

    low: float
    high: float


def resamples_for(documents: int) -> int:
    """How many times to resample this many documents."""
    return int(min(RESAMPLES, max(1_000, MAX_CELLS // max(documents, 1))))


def resampled_means(
    numerators: Floats, denominators: Floats, seed: int = 0, resamples: int | None = None
) -> Floats:
    """Bootstrap a mean of ratios over documents.

    Args:
        numerators: Sums of scores, shape (parts, documents). A part is a task of a group; a plain score has one.
        denominators: Sums of weights, same shape; 0 where a document has no question of that part.
        seed: Of the draws. Equal shapes and seeds draw equal documents, so two methods are resampled together.
        resamples: Number of draws. None means `resamples_for` the documents.

    Returns:
        The mean over parts of the ratio, one value per resample.
    """
    parts, documents = numerators.shape
    means = []
    for counts in _draws(documents, seed, resamples or resamples_for(documents)):
        weights = counts @ denominators.T
        with np.errstate(invalid="ignore", divide="ignore"):
            ratios = (counts @ numerators.T) / weights
        # A draw may miss every document of a small part; that draw's mean is over the other parts.
        ratios = np.where(weights > 0, ratios, np.nan)
        means.append(ratios[:, 0] if parts == 1 else np.nanmean(ratios, axis=1))
    return np.concatenate(means)


def _draws(documents: int, seed: int, resamples: int) -> Iterator[Floats]:
    """How often each document is drawn in each resample, in pieces of shape (resamples, documents)."""
    pieces = list(_chunks(resamples, max(1, MAX_CELLS // 10 // documents)))
    if len(pieces) == 1:
        yield _one_draw(documents, seed, pieces[0])
        return
    generator = np.random.default_rng(seed)
    for size in pieces:
        yield _draw(generator, documents, size)


def _draw(generator: np.random.Generator, documents: int, size: int) -> Floats:
    return generator.multinomial(documents, np.full(documents, 1 / documents), size=size).astype(np.float64)


@lru_cache(maxsize=4)
def _one_draw(documents: int, seed: int, size: int) -> Floats:
    """All cells of a column resample the same documents, so they share one draw."""
    return _draw(np.random.default_rng(seed), documents, size)


def _chunks(total: int, size: int) -> Iterator[int]:
    for start in range(0, total, size):
        yield min(size, total - start)


def interval(replicates: Floats, confidence: float = CONFIDENCE) -> Interval:
    """The percentile interval of bootstrap replicates."""
    tail = (1 - confidence) / 2
    quantile = np.nanquantile if np.isnan(replicates).any() else np.quantile
    low, high = quantile(replicates, [tail, 1 - tail])
    return Interval(float(low), float(high))


def mean_of_ratios(numerators: Floats, denominators: Floats) -> float:
    """The score itself: the mean over parts of the ratio of sums."""
    return float(np.mean(numerators.sum(axis=1) / denominators.sum(axis=1)))


def bootstrap_interval(
    numerators: Floats, denominators: Floats, seed: int = 0, resamples: int | None = None
) -> Interval:
    """The 95 % interval of a score, by bootstrap over documents; see `resampled_means`."""
    if numerators.shape[1] < 2:
        return Interval(math.nan, math.nan)
    return interval(resampled_means(numerators, denominators, seed, resamples))


@dataclass(frozen=True)
class PairedResult:
    """A method against the baseline on the same questions.

    Attributes:
        difference: Method minus baseline.
        interval: 95 % interval of the difference, by paired bootstrap over documents.
        bootstrap_p: Two-sided p-value of the paired bootstrap.
        permutation_p: Two-sided p-value of the sign-flip permutation test over documents.
    """

    difference: float
    interval: Interval
    bootstrap_p: float
    permutation_p: float


def compare_paired(method: Floats, baseline: Floats, denominators: Floats, seed: int = 0) -> PairedResult:
    """Compare two methods on the same questions.

    Args:
        method: Sums of the method's scores, shape (parts, documents).
        baseline: Sums of the baseline's scores, same shape.
        denominators: Sums of weights, which both share.
        seed: Of all draws.
    """
    differences = method - baseline
    observed = mean_of_ratios(differences, denominators)
    if differences.shape[1] < 2:
        return PairedResult(observed, Interval(math.nan, math.nan), math.nan, math.nan)
    replicates = resampled_means(differences, denominators, seed)
    parts = differences.shape[0]
    contributions = (differences / denominators.sum(axis=1, keepdims=True)).sum(axis=0) / parts
    return PairedResult(
        observed, interval(replicates), bootstrap_p(replicates), sign_flip_p(contributions, seed)
    )


def bootstrap_p(replicates: Floats) -> float:
    """Two-sided p-value of "no difference": twice the smaller share of replicates on either side of zero."""
    count = len(replicates)
    tail = min(int((replicates <= 0).sum()), int((replicates >= 0).sum()))
    return min(1.0, 2 * (tail + 1) / (count + 1))


def sign_flip_p(contributions: Floats, seed: int = 0) -> float:
    """Two-sided sign-flip permutation test.

    Under "no difference" each document's contribution is as likely to have the other sign.

    Args:
        contributions: Each document's share of the difference, shape (documents,).
        seed: Of the flips, where there are too many to try them all.

    Returns:
        The share of sign patterns with a sum at least as far from zero; exact up to EXACT_DOCUMENTS documents, else
        over RESAMPLES random patterns with the observed one counted in.
    """
    values = contributions[contributions != 0]
    observed = abs(values.sum())
    tolerance = 1e-9 * max(1e-300, float(np.abs(values).sum()))
    if len(values) <= EXACT_DOCUMENTS:
        bits = np.arange(2 ** len(values))[:, None] >> np.arange(len(values))[None, :] & 1
        return float((np.abs((1 - 2 * bits) @ values) >= observed - tolerance).mean())
    generator = np.random.default_rng(seed)
    count = resamples_for(len(values))
    extreme = 0
    for size in _chunks(count, max(1, MAX_CELLS // 10 // len(values))):
        signs = generator.integers(0, 2, size=(size, len(values)), dtype=np.int8) * 2.0 - 1.0
        extreme += int((np.abs(signs @ values) >= observed - tolerance).sum())
    return (extreme + 1) / (count + 1)


def mcnemar_p(only_method: int, only_baseline: int) -> float:
    """Exact two-sided McNemar test of right and wrong answers.

    Args:
        only_method: Questions that only the method has right.
        only_baseline: Questions that only the baseline has right.
    """
    total, smaller = only_method + only_baseline, min(only_method, only_baseline)
    # By logarithms: 2^n leaves the range of floating-point numbers.
    logs = [
        math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1) - total * math.log(2)
        for k in range(smaller + 1)
    ]
    return min(1.0, 2 * math.fsum(math.exp(value) for value in logs))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Holm 1979); NaN stays NaN and is not counted."""
    order = sorted((i for i, p in enumerate(p_values) if not math.isnan(p)), key=lambda i: p_values[i])
    adjusted = [math.nan] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted
