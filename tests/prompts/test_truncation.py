"""Truncation of token ids: what stays, and where is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lift_eval.prompts.truncation import truncate_middle, truncate_parts


def test_truncation_keeps_the_published_numbers_of_tokens():
    """Over L tokens: the first L // 2 - len(ellipsis), the ellipsis, the last L - L // 2 (METHOD, v1)."""
    ids = list(range(20_000))
    kept, cut = truncate_middle(ids, 7800, [-1])
    assert kept == [*range(3899), -1, *range(16_100, 20_000)]
    assert cut == (3899, 16_100)
    kept, _ = truncate_middle(ids, 7, [-1, -2])
    assert kept == [0, -1, -2, 19_996, 19_997, 19_998, 19_999]


@pytest.mark.parametrize("length", [0, 1, 9, 10])
def test_what_fits_is_left_alone(length):
    ids = list(range(length))
    assert truncate_middle(ids, 10, [-1]) == (ids, (length, length))


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60), st.integers(0, 4), st.integers(0, 120))
def test_truncation_against_the_formula(before, middle, after, dots, limit):
    ids, ellipsis = list(range(before + middle + after)), [-1] * dots
    room = limit - before - after
    if middle > room and room // 2 < dots:
        with pytest.raises(ValueError, match=f"limit {room} leaves no room"):
            truncate_parts(ids, limit, ellipsis, [(before, before + middle)])
        return
    kept, ((start, stop),) = truncate_parts(ids, limit, ellipsis, [(before, before + middle)])
    assert kept == [*ids[:start], *(ellipsis if stop > start else []), *ids[stop:]]
    assert len(kept) == min(len(ids), limit)
    assert kept[:before] == ids[:before]
    assert kept[len(kept) - after :] == ids[len(ids) - after :]
    if len(ids) > limit:
        assert start - before == room // 2 - dots
        assert before + middle - stop == room - room // 2


def test_parts_share_the_room_and_what_a_shorter_one_leaves():
    ids = list(range(100))
    kept, cuts = truncate_parts(ids, 50, [-1], [(0, 10), (20, 60), (60, 100)])
    assert kept[10:20] == ids[10:20]
    assert len(kept) == 50
    assert [last - first for first, last in cuts] == [0, 26, 26]
