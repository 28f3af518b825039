"""Sentences of a text, as places in it (docs/decisions/0011-sentence-splitter.md)."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import regex

from lift_eval.document import Document

logger = logging.getLogger(__name__)

SENTENCE_TOKENS = 24
"""Of an English sentence, where memory is predicted without a text."""

FEW_SENTENCES = 1000
"""Characters per sentence from which on a document has next to no sentences; English ones have some 120."""

# What ends in a period within a sentence. Punkt can learn such words from a text, but then a sentence's end would
# depend on the rest of the document.
ABBREVIATIONS = """
    dr mr mrs ms messrs prof st rev fr hon gen col maj capt cpt lt sgt cmdr adm gov sen rep pres jr sr esq
    inc ltd co corp bros dept univ mt ft ave blvd rd al vs etc viz cf e.g i.e
    a.m p.m b.c a.d u.s u.k u.n u.s.a e.u ph.d m.d b.a m.a d.c
    """.split()  # noqa: SIM905 - a list of a hundred literals is harder to read

# What is an abbreviation before a number alone: figs grow on trees, and no is an answer.
_NUMBERED = re.compile(
    r"\b(no|nos|vol|vols|pp?|ch|secs?|figs?|eqs?|refs?|ca|approx|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)\.\Z",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"[(\[]?\d")
_END_MARK = re.compile(r"[.?!]")
_BLANK_LINE = re.compile(r"\n[ \t\r]*\n\s*")

# The marks of all other scripts, after the rules of Unicode (UAX 29, section 5): a mark, with what closes behind it,
# ends a sentence unless a comma or a small letter follows, or a Japanese particle follows a quotation. ASCII's own two
# end one here only where no space follows; Punkt has seen to the others.
_MARK = regex.compile(
    r"""(?: (?: [\p{SB=STerm}--[!?]] | ．(?!\p{N}) | [!?](?=[!?]*["']*\p{Lo}) )++ [\p{Pe}\p{Pf}"']*+ )++
    (?! \s*[\p{SB=SContinue}\p{Ll}] | (?<=[\p{Pe}\p{Pf}"'])\p{Hiragana} )""",
    regex.VERBOSE | regex.VERSION1,
)
_LATIN_WORD = regex.compile(r"\p{Latin}+")
_OTHER_LETTER = regex.compile(r"[\p{L}--\p{Latin}]", regex.VERSION1)


def sentences_of_document(document: Document) -> list[tuple[int, int]]:
    """Find a document's sentences as `split_sentences` does, with a warning where it has next to none."""
    spans = split_sentences(document.text)
    if len(document.text) > FEW_SENTENCES * len(spans):
        logger.warning(
            "document '%s': only %d sentence%s found in %d characters, and pairs are made from sentences; a text "
            "without full stops, such as a table, code or Thai, needs blank lines between its parts",
            document.name,
            len(spans),
            "" if len(spans) == 1 else "s",
            len(document.text),
        )
    return spans


def split_sentences(text: str) -> list[tuple[int, int]]:
    """Find the sentences of a text.

    A blank line always ends a sentence; inside a block of text NLTK's Punkt decides, with a fixed list of English
    abbreviations and nothing learned or downloaded. Where a text is not in Latin letters, the marks of its own script
    end sentences too, as Unicode has them.

    Args:
        text: Any text.

    Returns:
        Start and end of each sentence, ascending, without white space around it. Only white space lies between
        them.
    """
    return [part for span in _punkt_sentences(text) for part in _parts(text, *span)]


def _punkt_sentences(text: str) -> list[tuple[int, int]]:
    """The sentences of English, and of whatever ends sentences as English does."""
    spans: list[tuple[int, int]] = []
    block = 0
    for end, next_block in [*(gap.span() for gap in _BLANK_LINE.finditer(text)), (len(text), len(text))]:
        mergeable = len(spans)
        for first, last in _block_sentences(text[block:end]):
            start, stop = _stripped(text, block + first, block + last)
            if len(spans) > mergeable and _goes_on(text, spans[-1], start):
                spans[-1] = (spans[-1][0], stop)
            elif start < stop:
                spans.append((start, stop))
        block = next_block
    return spans


def _block_sentences(block: str) -> Iterable[tuple[int, int]]:
    """Punkt's sentences, without Punkt, which takes a second to import, where only the last character may end one."""
    length = len(block.rstrip())
    if _END_MARK.search(block, 0, length - 1):
        found: Iterable[tuple[int, int]] = _punkt().span_tokenize(block)
        return found
    return [(0, length)]


def _parts(text: str, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """The sentences in what Punkt takes for one: several where it knows no mark of the script."""
    if not _is_latin(text[start:stop]):
        for mark in _MARK.finditer(text, start, stop):
            yield _stripped(text, start, mark.end())
            start = mark.end()
    start, stop = _stripped(text, start, stop)
    if start < stop:
        yield start, stop


def _is_latin(text: str) -> bool:
    """Whether a text has at least as many words in Latin letters as other letters, so that quotations do not count."""
    return text.isascii() or len(_LATIN_WORD.findall(text)) >= len(_OTHER_LETTER.findall(text))


def _stripped(text: str, start: int, stop: int) -> tuple[int, int]:
    part = text[start:stop]
    return stop - len(part.lstrip()), start + len(part.rstrip())


def _goes_on(text: str, span: tuple[int, int], start: int) -> bool:
    """Whether a sentence goes on at a place, since it seemed to end in an abbreviation before a number."""
    tail = text[max(span[0], span[1] - 10) : span[1]]
    return bool(_NUMBER.match(text, start) and _NUMBERED.search(tail))


@cache
def _punkt() -> Any:  # noqa: ANN401 - nltk has no types
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer  # slow to import

    parameters = PunktParameters()
    parameters.abbrev_types.update(ABBREVIATIONS)
    return PunktSentenceTokenizer(parameters)
