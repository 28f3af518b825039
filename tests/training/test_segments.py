"""Segments: where they start, and that they hold every token."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lift_eval.training.segments import segment_samples, segments


def test_segments_start_at_multiples_of_the_stride():
    """Paper, section 3.1: 2048 tokens, stride 768."""
    parts = segments(torch.arange(6000), 2048, 768)
    assert [int(part[0]) for part in parts] == [0, 768, 1536, 2304, 3072, 3840, 4608]
    assert [len(part) for part in parts] == [2048] * 6 + [6000 - 4608]


@pytest.mark.parametrize(
    ("length", "starts"),
    [
        (1, [0]),
        (2, [0]),
        (2047, [0]),
        (2048, [0]),
        (2049, [0, 768]),
        (2816, [0, 768]),
        (2817, [0, 768, 1536]),
    ],
)
def test_no_segment_holds_only_what_the_one_before_it_holds(length, starts):
    parts = segments(torch.arange(length), 2048, 768)
    assert [int(part[0]) for part in parts] == starts


@given(st.integers(1, 400), st.integers(2, 60), st.integers(1, 60))
def test_every_token_is_in_a_segment_and_every_segment_adds_one(tokens, length, stride):
    stride = min(stride, length)
    parts = segments(torch.arange(tokens), length, stride)
    held: set[int] = set()
    for place, part in enumerate(parts):
        assert int(part[0]) == place * stride
        assert part.tolist() == list(range(place * stride, min(place * stride + length, tokens)))
        assert not set(part.tolist()) <= held
        held |= set(part.tolist())
    assert held == set(range(tokens))


def test_plain_samples_supervise_every_token_but_the_first():
    samples = segment_samples(torch.arange(5000), 2048, 768)
    assert [sample.tokens for sample in samples] == [2048, 2048, 2048, 2048, 1928]
    assert all(sample.supervised == sample.tokens - 1 for sample in samples)
    assert all(len(sample.context) == 0 for sample in samples)


def test_a_document_of_one_token_has_nothing_to_predict():
    assert segment_samples(torch.arange(1), 2048, 768) == []
    assert [sample.tokens for sample in segment_samples(torch.arange(2), 2048, 768)] == [2]
