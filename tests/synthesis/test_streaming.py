"""Pairs that arrive while others are read."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from lift_eval.errors import GeneratorError
from lift_eval.record.progress import OnProgress
from lift_eval.synthesis.pairs import PairYield
from lift_eval.synthesis.replies import Pair
from lift_eval.synthesis.streaming import PairStream

PAIRS = [Pair(f"Question {number}?", "x") for number in range(5)]


def test_all_pairs_in_order_as_often_as_one_reads() -> None:
    kept: list[PairYield] = []

    def make(counts: dict[str, int], told: OnProgress) -> Iterator[Pair]:
        yield from PAIRS
        counts["kept"] = len(PAIRS)

    stream = PairStream(make, kept.append)
    assert list(stream) == list(stream) == PAIRS
    assert stream.result().counts == {"kept": 5}
    assert [list(made.pairs) for made in kept] == [PAIRS]


def test_a_pair_is_read_before_the_next_is_made() -> None:
    read = threading.Event()

    def make(counts: dict[str, int], told: OnProgress) -> Iterator[Pair]:
        yield PAIRS[0]
        assert read.wait(10)
        yield PAIRS[1]

    pairs = iter(PairStream(make, lambda _: None))
    assert next(pairs) == PAIRS[0]
    read.set()
    assert list(pairs) == PAIRS[1:2]


def test_an_error_comes_after_the_pairs_before_it_and_nothing_is_kept() -> None:
    kept: list[PairYield] = []

    def make(counts: dict[str, int], told: OnProgress) -> Iterator[Pair]:
        yield PAIRS[0]
        raise GeneratorError("the server is down")

    stream = PairStream(make, kept.append)
    pairs = iter(stream)
    assert next(pairs) == PAIRS[0]
    with pytest.raises(GeneratorError, match="the server is down"):
        next(pairs)
    with pytest.raises(GeneratorError, match="the server is down"):
        stream.result()
    assert kept == []


def test_a_cancelled_stream_makes_no_further_pairs_and_keeps_nothing() -> None:
    kept: list[PairYield] = []
    go_on = threading.Event()
    made = []

    def make(counts: dict[str, int], told: OnProgress) -> Iterator[Pair]:
        for pair in PAIRS:
            made.append(pair)
            yield pair
            assert go_on.wait(10)

    stream = PairStream(make, kept.append)
    pairs = iter(stream)
    next(pairs)
    stream.cancel()
    go_on.set()
    assert len(list(pairs)) <= 1
    assert len(made) <= 2
    assert kept == []


def test_a_stream_begins_after_the_one_before_it() -> None:
    go_on = threading.Event()
    order: list[str] = []

    def first(counts: dict[str, int], told: OnProgress) -> Iterator[Pair]:
        assert go_on.wait(10)
        order.append("first")
        yield PAIRS[0]

    def second(counts: dict[str, int], told: OnProgress) -> Iterator[Pair]:
        order.append("second")
        yield PAIRS[1]

    before = PairStream(first, lambda _: None)
    after = PairStream(second, lambda _: None, before)
    go_on.set()
    assert list(after) == PAIRS[1:2]
    assert order == ["first", "second"]


def test_a_reader_that_waits_is_told_the_progress_and_one_that_does_not_wait_is_not() -> None:
    seen = threading.Event()
    shown: list[tuple[int, int, str]] = []

    def make(counts: dict[str, int], told: OnProgress) -> Iterator[Pair]:
        told(1, 2, "")
        assert seen.wait(10)
        yield PAIRS[0]

    def show(done: int, total: int, note: str) -> None:
        shown.append((done, total, note))
        seen.set()

    stream = PairStream(make, lambda _: None)
    assert list(stream.read(show)) == PAIRS[:1]
    assert set(shown) == {(1, 2, "")}
    shown.clear()
    assert list(stream.read(show)) == PAIRS[:1]
    assert shown == []
