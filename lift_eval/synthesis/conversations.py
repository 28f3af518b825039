"""Strategy ``conversations``: self-study as in Cartridges (arXiv 2506.06266).

A chunk of the document is the system message. The generator writes a user's message of some kind about it, and answers
that message.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import Field, field_validator

from lift_eval.document import Span
from lift_eval.settings import PositiveInt
from lift_eval.synthesis.base import CHARACTERS_PER_TOKEN, PairSettings, Passage, Strategy
from lift_eval.synthesis.sentence_splitter import sentences_of_document

if TYPE_CHECKING:
    import torch

    from lift_eval.document import Document
    from lift_eval.synthesis.settings import AuxiliarySettings

SeedKind: TypeAlias = Literal["structuring", "summarization", "question", "use_case", "creative"]

INSTRUCTIONS: dict[SeedKind, str] = {
    "structuring": "asks for facts of the text to be put in order, in a form that the message names, such as a list, a "
    "table or JSON",
    "summarization": "asks for a summary of one part of the text, and says which part",
    "question": "asks about one particular of the text, such as a name, a number, a date, a reason or an event",
    "use_case": "asks for help with a task of work or daily life that takes what the text says",
    "creative": "asks for something imaginative that is made of what the text says",
}
"""What a user's message of each kind does."""


class ConversationsSettings(PairSettings):
    """Keys of strategies ``conversations`` and ``summaries``."""

    seeds: Annotated[tuple[SeedKind, ...], Field(min_length=1)] = tuple(INSTRUCTIONS)
    """Kinds of messages, one of which is drawn for each conversation (strategy ``conversations``)."""
    chunk_characters: tuple[PositiveInt, PositiveInt] = (2048, 16384)
    """Minimum and maximum characters of a chunk, which consists of whole sentences (strategies ``conversations``,
    ``summaries``)."""
    chunk_draw: Literal["random", "each"] = "random"
    """Whether each conversation is about a chunk at a random position with a random length, or each of the consecutive
    chunks of maximum length has ``pairs`` conversations (strategy ``conversations``)."""

    @field_validator("chunk_characters")
    @classmethod
    def _least_comes_first(cls, characters: tuple[int, int]) -> tuple[int, int]:
        if characters[0] > characters[1]:
            raise ValueError(
                f"'auxiliary.chunk_characters' must be the least and then the most, got {list(characters)}"
            )
        return characters


class Conversations(Strategy):
    """Conversations about chunks of the document."""

    name = "conversations"
    request = """\
Write one message to an assistant that knows this text by heart. The message {{ instruction }}. It must be \
understandable without the text, so it says what it is about. Reply with the message only."""
    reply = "text"
    converses = True

    def choose(
        self, document: Document, settings: AuxiliarySettings, generator: torch.Generator
    ) -> Iterator[Passage]:
        """Draw a chunk and a kind for each conversation; see `Strategy.choose`."""
        import torch

        for text in _chunks(document, settings, generator):
            kind = settings.seeds[int(torch.randint(len(settings.seeds), (), generator=generator))]
            yield Passage.of(document, settings, text, instruction=INSTRUCTIONS[kind])

    def passages(self, settings: AuxiliarySettings, document_tokens: int) -> int:
        """One for each conversation."""
        if settings.chunk_draw == "random":
            return settings.pairs
        return settings.pairs * (document_tokens // self.passage_tokens(settings) + 1)

    def passage_tokens(self, settings: AuxiliarySettings) -> int:
        """Those of the longest chunk."""
        return max(settings.chunk_characters[1] // CHARACTERS_PER_TOKEN, 1)


def _chunks(document: Document, settings: AuxiliarySettings, generator: torch.Generator) -> Iterator[str]:
    """The chunk of each conversation."""
    if settings.chunk_draw == "each":
        for chunk in consecutive_chunks(document, settings.chunk_characters[1]):
            yield from [chunk] * settings.pairs
        return
    import torch

    least, most = settings.chunk_characters
    spans = sentences_of_document(document)
    ends = [end for _, end in spans]
    for _ in range(settings.pairs):
        characters = int(torch.randint(least, most + 1, (), generator=generator))
        places = max(sum(start + characters <= ends[-1] for start, _ in spans), 1)
        first = int(torch.randint(places, (), generator=generator))
        yield document.text[spans[first][0] : ends[_last(spans, ends, first, characters)]]


def consecutive_chunks(document: Document, characters: int) -> Iterator[str]:
    """Whole sentences of a document in its order, in chunks of so many characters; a longer sentence is one."""
    spans = sentences_of_document(document)
    ends = [end for _, end in spans]
    first = 0
    while first < len(spans):
        last = _last(spans, ends, first, characters)
        yield document.text[spans[first][0] : ends[last]]
        first = last + 1


def _last(spans: list[Span], ends: list[int], first: int, characters: int) -> int:
    """Number of the last sentence of a chunk that begins with a sentence."""
    return max(bisect_right(ends, spans[first][0] + characters) - 1, first)
