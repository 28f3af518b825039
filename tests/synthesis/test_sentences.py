"""Sentences as places in a text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lift_eval.synthesis.sentences import split_sentences

# A bar stands where a sentence ends.
CASES = [
    "Prices rose by 2.4%.|Wages did not!|Did rents?",
    "J. R. R. Tolkien taught at Oxford.|He died in 1973.",
    "See Fig. 3 and eq. (2) for details.|Results follow.",
    "The firm (Acme Inc.) was sold.|Its staff stayed.",
    "He arrived at No. 10 Downing St. at noon.|The door was open.",
    "e.g. this one is fine.|That one, i.e. the second, is not.",
    "The company was founded by Lena K. Moor in 1912.|It makes ink.",
    "Version 2.0.1 was released in Feb. 2003.|It fixed the bug.",
    "Chapter One\n\n|The storm came at night.|It was dark.",
    'He wrote "The Long Road."|It sold well.',
    "The cargo was figs.|The answer was no.|Sails were set.",
    "Read vol. 2 and pp. 3 to 5.|Then rest.",
    "",
    "no end",
]


@pytest.mark.parametrize("case", CASES)
def test_sentences_end_where_a_reader_ends_them(case: str) -> None:
    text = case.replace("|", " ")
    expected = [part.strip() for part in case.split("|") if part.strip()]
    assert [text[start:end] for start, end in split_sentences(text)] == expected


@settings(deadline=None)  # the first sentence waits for an import
@given(st.text(alphabet="aB.!?\"'() \n\t1é。", max_size=80))
def test_only_white_space_lies_between_sentences(text: str) -> None:
    end = 0
    for start, stop in split_sentences(text):
        assert not text[end:start].strip()
        assert text[start:stop] == text[start:stop].strip() != ""
        end = stop
    assert not text[end:].strip()


def test_a_sentence_does_not_depend_on_the_text_around_it() -> None:
    text = "The mill stood by the river. Dr. Roth bought it in 1840."
    alone = split_sentences(text)
    after_much = split_sentences("Many people went there. " * 500 + text)
    assert [end - start for start, end in after_much[-2:]] == [end - start for start, end in alone]
