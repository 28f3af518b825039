"""Sentences of a text, as places in it (docs/decisions/0011-sentence-splitter.md)."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

# What ends in a period within a sentence. Punkt can learn such words from a text, but then a sentence's end would
# depend on the rest of the document.
ABBREVIATIONS = """
    dr mr mrs ms messrs prof st rev fr hon gen col maj capt cpt lt sgt cmdr adm gov sen rep pres jr sr esq
    inc ltd co corp bros dept univ est mt ft ave blvd rd
    no nos vol vols pp ch sec fig figs eq eqs ref refs ed eds ca cf al approx vs etc viz e.g i.e
    a.m p.m b.c a.d u.s u.k u.n u.s.a e.u ph.d m.d b.a m.a d.c
    jan feb mar apr jun jul aug sep sept oct nov dec mon tue wed thu fri
    """.split()  # noqa: SIM905 - a list of a hundred literals is harder to read
_BLANK_LINE = re.compile(r"\n[ \t\r]*\n\s*")


def split_sentences(text: str) -> list[tuple[int, int]]:
    """Find the sentences of a text.

    A blank line always ends a sentence; inside a block of text NLTK's Punkt decides, with a fixed list of English
    abbreviations and nothing learned or downloaded.

    Args:
        text: Any text.

    Returns:
        Start and end of each sentence, ascending, without white space around it. Only white space lies between
        them.
    """
    spans = []
    start = 0
    for end, next_start in [*(gap.span() for gap in _BLANK_LINE.finditer(text)), (len(text), len(text))]:
        for first, last in _punkt().span_tokenize(text[start:end]):
            sentence = text[start + first : start + last]
            if sentence.strip():
                before = len(sentence) - len(sentence.lstrip())
                spans.append((start + first + before, start + first + len(sentence.rstrip())))
        start = next_start
    return spans


@cache
def _punkt() -> Any:  # noqa: ANN401 - nltk has no types
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer  # slow to import

    parameters = PunktParameters()
    parameters.abbrev_types.update(ABBREVIATIONS)
    return PunktSentenceTokenizer(parameters)
