"""Strategy ``paragraphs``: summaries of numbered paragraphs (first implementation, passage retrieval)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import field_validator

from lift_eval.errors import DocumentError
from lift_eval.settings import check_variables
from lift_eval.synthesis.base import PairSettings, Passage, Strategy, render

if TYPE_CHECKING:
    import torch

    from lift_eval.document import Document
    from lift_eval.synthesis.settings import AuxiliarySettings

PARAGRAPH_TOKENS = 400


class ParagraphsSettings(PairSettings):
    """Keys of strategy ``paragraphs``."""

    paragraph_name: str = "Paragraph {{ number }}"
    """The word with which a paragraph of the document begins, which is also the answer to its summary (strategy
    ``paragraphs``)."""
    paragraph_draw: Literal["permutation", "replacement"] = "permutation"
    """How paragraphs are drawn: each one once before any is repeated, or independently, as published."""

    @field_validator("paragraph_name")
    @classmethod
    def _name_fits(cls, name: str) -> str:
        check_variables("auxiliary.paragraph_name", name, {"number"}, {"number"})
        return name


class Paragraphs(Strategy):
    """Random paragraphs: the reply is a summary, and the pair asks for its paragraph."""

    name = "paragraphs"
    request = """\
{{ passage }}

Summarize the paragraph above in four to six sentences. Reply with the summary only."""
    reply = "text"
    own_segments = "whole paragraphs"

    def choose(
        self, document: Document, settings: AuxiliarySettings, generator: torch.Generator
    ) -> Iterator[Passage]:
        """Draw paragraphs; see `Strategy.choose`."""
        paragraphs = split_paragraphs(document.text, settings.paragraph_name)
        for index in _draw(len(paragraphs), settings, generator):
            name, text = paragraphs[index]
            yield Passage.of(document, settings, text, answer=name, passage=text.strip())

    def segment_texts(self, document: Document, settings: AuxiliarySettings) -> list[str]:
        """All paragraphs in order; see `Strategy.segment_texts`."""
        return [text for _, text in split_paragraphs(document.text, settings.paragraph_name)]

    def passage_tokens(self, settings: AuxiliarySettings) -> int:
        """Those of a paragraph of usual length."""
        return PARAGRAPH_TOKENS


def _draw(count: int, settings: AuxiliarySettings, generator: torch.Generator) -> list[int]:
    """Draw which of so many paragraphs are asked about."""
    import torch

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
        RecipeError: If the template fails.
    """
    names: list[str] = []
    starts: list[int] = []
    while True:
        name = render(name_template, number=len(names) + 1)
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
