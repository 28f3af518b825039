"""Windows of the document's two ends, and the samples that recite a segment behind them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lift_eval.training.contextualized import contextualized_samples, draw_windows
from lift_eval.training.segments import segments

WINDOW = 4096


def draws(length: int, window: int, count: int) -> list[tuple[slice, slice]]:
    generator = torch.Generator().manual_seed(0)
    return [draw_windows(length, window, generator) for _ in range(count)]


@given(st.integers(1, 300), st.integers(1, 120), st.integers(0, 10))
def test_windows_lie_at_their_ends_and_sum_to_the_length_asked_for(length, window, seed):
    front, back = draw_windows(length, window, torch.Generator().manual_seed(seed))
    span = min(length, window)
    assert (front.stop - front.start) + (back.stop - back.start) == span
    assert 0 <= front.start <= front.stop <= span
    assert length - span <= back.start <= back.stop <= length
    assert back.stop > back.start  # the front is shorter than the span, so there is always a back


def test_lengths_and_places_are_drawn_evenly():
    """Front length uniform in [0, 4096); front within the first 4096 tokens, back within the last (paper, 3.3)."""
    windows = draws(20_000, WINDOW, 4000)
    fronts = torch.tensor([front.stop - front.start for front, _ in windows], dtype=torch.float64)
    assert fronts.min() < 20
    assert WINDOW - 20 < fronts.max() < WINDOW
    assert fronts.mean() == pytest.approx(WINDOW / 2, rel=0.03)
    assert fronts.var() == pytest.approx(WINDOW**2 / 12, rel=0.06)
    for which, first in ((0, 0), (1, 20_000 - WINDOW)):
        places = [window[which] for window in windows]
        room = torch.tensor([WINDOW - (place.stop - place.start) for place in places], dtype=torch.float64)
        start = torch.tensor([place.start - first for place in places], dtype=torch.float64)
        assert ((start >= 0) & (start <= room)).all()
        share = (start / room.clamp(min=1))[room > 200]
        assert share.mean() == pytest.approx(0.5, abs=0.03)
        assert (share == 0).double().mean() < 0.05
        assert (share > 0.95).double().mean() == pytest.approx(0.05, abs=0.02)


@pytest.mark.parametrize("length", [1, 2, 300, WINDOW - 1, WINDOW])
def test_a_short_document_has_no_sample_without_a_window(length):
    """With windows of fixed places, half of the samples of 300 tokens would see nothing."""
    for front, back in draws(length, WINDOW, 200):
        assert (front.stop - front.start) + (back.stop - back.start) == length
        assert 0 <= front.start <= front.stop <= length
        assert 0 <= back.start < back.stop <= length


def test_every_place_is_drawn_and_the_front_may_be_empty():
    """The published code never draws the last place of a window, and fails where the front is empty."""
    windows = draws(20, 3, 500)
    fronts = {(front.start, front.stop) for front, _ in windows if front.stop > front.start}
    assert fronts == {(0, 1), (1, 2), (2, 3), (0, 2), (1, 3)}
    assert any(front.start == front.stop for front, _ in windows)
    assert {back.start for _, back in windows if back.stop - back.start == 1} == {17, 18, 19}


def test_windows_come_from_the_generator_alone():
    assert draws(9000, WINDOW, 5) == draws(9000, WINDOW, 5)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    draws(9000, WINDOW, 5)
    assert torch.equal(before, torch.get_rng_state())


def test_a_sample_reads_front_ellipsis_back_instruction_and_predicts_the_segment_only():
    ids = torch.arange(100)
    ellipsis, instruction = torch.tensor([1000]), torch.tensor([2000, 2001])
    windows = [(slice(3, 7), slice(90, 95)), (slice(0, 0), slice(80, 88)), (slice(1, 9), slice(99, 100))]
    samples = contextualized_samples(ids, 60, 20, windows=windows, ellipsis=ellipsis, instruction=instruction)
    assert [sample.target.tolist() for sample in samples] == [part.tolist() for part in segments(ids, 60, 20)]
    assert samples[0].context.tolist() == [3, 4, 5, 6, 1000, 90, 91, 92, 93, 94, 2000, 2001]
    assert samples[1].context.tolist() == [1000, *range(80, 88), 2000, 2001]
    assert [sample.supervised for sample in samples] == [60, 60, 60]
