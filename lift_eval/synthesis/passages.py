"""What a generator is asked about: random passages, single sentences, or numbered paragraphs of a document."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from jinja2 import Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from lift_eval.document import Document
from lift_eval.errors import DocumentError, RecipeError
from lift_eval.synthesis.sentences import split_sentences
from lift_eval.synthesis.settings import AuxiliarySettings

logger = logging.getLogger(__name__)

FEW_SENTENCES = 1000
"""Characters per sentence from which on a document has next to no sentences; English ones have some 120."""


@dataclass(frozen=True)
class Passage:
    """One thing to ask a generator about.

    Attributes:
        settings: The recipe's auxiliary group.
        variables: What its request says about the document.
        text: The part of the document that a pair is about, verbatim; evidence must stand in it.
        answer: The answer where the strategy knows it beforehand (the paragraph's name), else empty.
    """

    settings: AuxiliarySettings
    variables: Mapping[str, str]
    text: str
    answer: str = ""

    def request(self, made: Sequence[str] = ()) -> str:
        """What the generator is asked.

        Args:
            made: The questions that it has written already, where the rest is asked for.

        Raises:
            RecipeError: If the recipe's template fails on this document.
        """
        left = self.settings.pairs - len(made)
        return _render(self.settings.request_template, **self.variables, pairs=left, questions=made)


def choose_passages(
    document: Document, settings: AuxiliarySettings, generator: torch.Generator
) -> list[Passage]:
    """Choose what to ask about, as the recipe's strategy says.

    Args:
        document: The document.
        settings: The recipe's auxiliary group.
        generator: Source of random places; on the CPU.

    Returns:
        The passages in the order in which they are asked about; none with strategy ``none``.

    Raises:
        DocumentError: If strategy ``paragraphs`` finds no numbered paragraphs.
        RecipeError: If the template of a paragraph's name fails.
    """
    choose = {"passages": _random_passages, "sentences": _each_sentence, "paragraphs": _random_paragraphs}
    if settings.strategy == "none":
        return []
    return list(choose[settings.strategy](document, settings, generator))


def _random_passages(
    document: Document, settings: AuxiliarySettings, generator: torch.Generator
) -> Iterator[Passage]:
    spans = _sentences(document)
    places = max(len(spans) - settings.passage_sentences, 0) + 1
    for first in torch.randint(places, (settings.pairs,), generator=generator).tolist():
        chosen = spans[first : first + settings.passage_sentences]
        text = document.text[chosen[0][0] : chosen[-1][1]]
        yield _passage(document, settings, text)


def _each_sentence(
    document: Document, settings: AuxiliarySettings, generator: torch.Generator
) -> Iterator[Passage]:
    spans = _sentences(document)
    starts = [start for start, _ in spans]
    first = 0
    for start, end in spans:
        while starts[first] < start - settings.context_characters:
            first += 1  # whole sentences only
        sentence = document.text[start:end]
        context = document.text[starts[first] : start].rstrip()
        shown = {"passage": document.text[starts[first] : end], "context": context, "sentence": sentence}
        yield _passage(document, settings, sentence, **shown)


def _sentences(document: Document) -> list[tuple[int, int]]:
    """The document's sentences, with a warning where it has next to none."""
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


def _random_paragraphs(
    document: Document, settings: AuxiliarySettings, generator: torch.Generator
) -> Iterator[Passage]:
    paragraphs = split_paragraphs(document.text, settings.paragraph_name)
    for index in _draw(len(paragraphs), settings, generator):
        name, text = paragraphs[index]
        yield _passage(document, settings, text, answer=name, passage=text.strip())


def _draw(count: int, settings: AuxiliarySettings, generator: torch.Generator) -> list[int]:
    """Draw which of so many paragraphs are asked about."""
    if settings.paragraph_draw == "replacement":
        return torch.randint(count, (settings.pairs,), generator=generator).tolist()
    order: list[int] = []
    while len(order) < settings.pairs:  # each paragraph once before any comes again
        order += torch.randperm(count, generator=generator).tolist()
    return order[: settings.pairs]


def split_paragraphs(text: str, name_template: str) -> list[tuple[str, str]]:
    """Split a document of numbered paragraphs, "Paragraph 1: ...", "Paragraph 2: ...", and so on.

    Args:
        text: The document's text.
        name_template: Jinja template of a paragraph's name; variable number, counted from 1.

    Returns:
        Name and text of each paragraph, in order. The name begins the text, which holds the white space up to the next
        paragraph too, as published.

    Raises:
        DocumentError: If no line begins with the first paragraph's name.
    """
    names: list[str] = []
    starts: list[int] = []
    while True:
        name = _render(name_template, number=len(names) + 1)
        found = re.compile(rf"^{re.escape(name)}(?!\d)", re.MULTILINE).search(
            text, starts[-1] if starts else 0
        )
        if found is None:
            break
        names.append(name)
        starts.append(found.start())
    if not names:
        raise DocumentError(
            f"strategy 'paragraphs' needs a document of numbered paragraphs, but no line begins with '{name}'; "
            "set auxiliary.paragraph_name, or use another auxiliary.strategy"
        )
    ends = [*starts[1:], len(text)]
    return [(name, text[start:end]) for name, start, end in zip(names, starts, ends, strict=True)]


def _passage(
    document: Document, settings: AuxiliarySettings, text: str, answer: str = "", **shown: str
) -> Passage:
    variables = {"title": document.title, "passage": text, "context": "", "sentence": "", **shown}
    return Passage(settings, variables, text, answer)


def _render(template: str, **variables: object) -> str:
    try:
        return _compiled(template).render(**variables)
    except TemplateError as error:
        raise RecipeError("group 'auxiliary'", [f"a template fails on this document: {error}"]) from error


@cache
def _compiled(template: str) -> Template:
    return ImmutableSandboxedEnvironment(keep_trailing_newline=True).from_string(template)
