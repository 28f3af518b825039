"""What every strategy says of itself: a strategy is a module with a child of `Strategy`, named in `registry`.

Recipes read these modules, so they import torch inside functions only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypeAlias

from jinja2 import Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import Field

from lift_eval.errors import RecipeError
from lift_eval.settings import DEMONSTRATION_END, Demonstration, PositiveInt, Settings

if TYPE_CHECKING:
    import torch

    from lift_eval.answering.decoding import Answer
    from lift_eval.document import Document
    from lift_eval.synthesis.settings import AuxiliarySettings

ReplyFormat: TypeAlias = Literal["labels", "json", "text"]

REQUEST_VARIABLES = frozenset(
    {"title", "passage", "context", "sentence", "instruction", "pairs", "questions"}
)
"""What a request's template may use."""

ANSWER_VARIABLES = frozenset({"title", "passage", "question"})
"""What the template of a request for an answer may use."""

REWRITE_VARIABLES = frozenset({"title", "passage"})
"""What the template of a request for a rewrite may use."""

PAIR_KEYS = ("question", "answer", "evidence")
"""Of a pair in a JSON reply."""

CHARACTERS_PER_TOKEN = 4
"""Of English text, where memory is predicted without a tokenizer."""


class PairSettings(Settings):
    """Keys of the recipe's group ``auxiliary`` that all strategies share: what is asked, and how replies are read.

    A strategy with keys of its own declares them in a child of this class.
    """

    strategy: str = "none"
    """Name of the strategy, from `registry`."""
    pairs: PositiveInt = 10
    """Pairs per document; with a strategy that requests several per passage, the maximum per passage."""
    generator: str = "self"
    """``self``, ``local:PATH`` or ``openai:MODEL`` (base address and key from OPENAI_BASE_URL, OPENAI_API_KEY)."""
    request: str | None = None
    """Jinja template of the request to the generator; variables title, passage, context, sentence, instruction, pairs,
    and questions: those already written, if a reply was cut off and the rest is requested. None means the strategy's
    own."""
    demonstrations: tuple[Demonstration, ...] = ()
    """Passages with a pair each, which precede the passage in question, as request and reply followed by a blank line;
    a local generator then stops at the blank line after its own reply."""
    answer_request: str | None = None
    """Jinja template with which the generator is asked, greedily, for the answer to each question that it wrote, with
    the passage in the prompt; variables title, passage, question. The demonstrations precede it. A reply to ``request``
    then contains only the question. None means that it contains the answer too."""
    rewrite_request: str | None = None
    """Jinja template with which the generator is asked, greedily, to rewrite each passage in other words; variables
    title, passage. The rewrite then follows the passage wherever a pair is used with its passage. None means that there
    is no rewrite."""
    grounded: bool = False
    """Whether a pair is kept only if its passage contains its answer, which may be yes or no, and all names in its
    question, and its question does not contain the answer."""
    reply: ReplyFormat | None = None
    """How a reply is read: a labelled pair, JSON, or plain text, which is the question for a known answer. None means
    the strategy's own format."""
    labels: Annotated[tuple[str, ...], Field(min_length=2, max_length=3)] = (
        "Question:",
        "Answer:",
        "Evidence:",
    )
    """Labels before question, answer and evidence in a labelled reply."""
    no_pair: str = "None"
    """Reply that means that there is nothing to ask; the request is not repeated."""
    evidence: bool | None = None
    """Whether a pair needs evidence that occurs verbatim in its passage. None means the strategy's own rule."""


@dataclass(frozen=True)
class Request:
    """What a generator is asked.

    Attributes:
        text: The user's message.
        system: The system message; empty for none.
        formatted: Whether the reply has the recipe's format of replies; else it is plain text, an answer or a rewrite.
        follow: What will be asked of a reply, greedily, or None for nothing. A generator may answer that at once
            (`Answered`). None means that nothing will be asked of any.
    """

    text: str
    system: str = ""
    formatted: bool = True
    follow: Callable[[Answer], Request | None] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Passage:
    """One thing to ask a generator about.

    Attributes:
        settings: The recipe's auxiliary group.
        variables: What its request says about the document.
        text: The part of the document that a pair is about, verbatim; evidence must stand in it.
        answer: The answer where the strategy knows it beforehand, else empty.
    """

    settings: AuxiliarySettings
    variables: Mapping[str, str]
    text: str
    answer: str = ""

    @classmethod
    def of(
        cls, document: Document, settings: AuxiliarySettings, text: str, answer: str = "", **shown: str
    ) -> Passage:
        """A passage of a document.

        Args:
            document: The document.
            settings: The recipe's auxiliary group.
            text: See `Passage`.
            answer: See `Passage`.
            **shown: Variables of the request; by default ``passage`` is the text, and all others are empty.
        """
        return cls(
            settings,
            {
                "title": document.title,
                "passage": text,
                "context": "",
                "sentence": "",
                "instruction": "",
                **shown,
            },
            text,
            answer,
        )

    def request(self, made: Sequence[str] = ()) -> str:
        """What the generator is asked.

        Args:
            made: The questions that it has written already, where the rest is asked for.

        Raises:
            RecipeError: If the recipe's template fails on this document.
        """
        left = self.settings.pairs - len(made)
        shown = "".join(map(self._demonstrated, self.settings.demonstrations))
        return shown + self._ask(self.variables, left, made)

    def answer_request(self, question: str) -> str:
        """What the generator is asked for the answer of a question about the passage.

        Raises:
            RecipeError: If the recipe's template fails on this document.
        """
        template = self.settings.answer_request or ""

        def ask(title: str, passage: str, question: str) -> str:
            return render(template, title=title, passage=passage, question=question)

        shown = [
            f"{ask(one.title, one.passage, one.question)} {one.answer}{DEMONSTRATION_END}"
            for one in self.settings.demonstrations
        ]
        return "".join(shown) + ask(self.variables["title"], self.shown, question)

    @property
    def shown(self) -> str:
        """The part of the document that a reader of the pair is shown: the text, and what stands before it."""
        return self.variables["passage"]

    def _ask(self, variables: Mapping[str, str], pairs: int, made: Sequence[str] = ()) -> str:
        return render(self.settings.request_template, **variables, pairs=pairs, questions=made)

    def _demonstrated(self, one: Demonstration) -> str:
        """The request about another passage, and its reply as the recipe reads it."""
        shown = {"title": one.title, "passage": one.passage, "context": "", "sentence": one.passage}
        values = (one.question, one.answer, one.passage)[: self.settings.values]
        labelled = zip(self.settings.labels, values, strict=False)
        replies = {
            "labels": "\n".join(f"{label} {value}" for label, value in labelled),
            "json": json.dumps({"pairs": [dict(zip(PAIR_KEYS, values, strict=False))]}),
            "text": one.question,
        }
        request = self._ask(shown, self.settings.pairs).rstrip("\n")
        return f"{request}\n{replies[self.settings.reply_format]}{DEMONSTRATION_END}"


class Strategy:
    """One way to make pairs from a document. The attributes are defaults that a recipe can override.

    Attributes:
        name: The recipe's ``auxiliary.strategy``.
        request: Template of a request.
        reply: How a reply is read.
        needs_evidence: Whether a pair needs evidence.
        several: Whether ``auxiliary.pairs`` are asked for about each passage, and not one: a JSON reply holds all of
            them, labelled pairs are sampled one by one.
        own_segments: What is trained in place of segments of the whole text, in a few words; empty where nothing is.
        converses: Whether pairs are conversations about a passage, which is the system message: a reply is a user's
            message, which is sampled, and its answer is asked for as well, greedily.
        message: The user's message about every passage, which then is not asked for, and whose answers are sampled;
            empty where each has its own.
    """

    name: ClassVar[str]
    request: ClassVar[str] = ""
    reply: ClassVar[ReplyFormat] = "labels"
    needs_evidence: ClassVar[bool] = False
    several: ClassVar[bool] = False
    own_segments: ClassVar[str] = ""
    converses: ClassVar[bool] = False
    message: ClassVar[str] = ""

    def choose(
        self, document: Document, settings: AuxiliarySettings, generator: torch.Generator
    ) -> Iterator[Passage]:
        """Choose what to ask about.

        Args:
            document: The document.
            settings: The recipe's auxiliary group.
            generator: Source of random positions; on the CPU.

        Yields:
            The passages in the order in which they are asked about.

        Raises:
            DocumentError: If the strategy does not fit the document.
            RecipeError: If a template fails on it.
        """
        raise NotImplementedError

    def segment_texts(self, document: Document, settings: AuxiliarySettings) -> list[str]:
        """What a strategy with `own_segments` trains in stage 1, each text apart.

        Raises:
            DocumentError: If the strategy does not fit the document.
        """
        raise NotImplementedError

    def passages(self, settings: AuxiliarySettings, document_tokens: int) -> int:
        """About how many passages are chosen from a document of so many tokens, to predict memory."""
        return settings.pairs

    def passage_tokens(self, settings: AuxiliarySettings) -> int:
        """About how many tokens of a document a request shows, to predict memory."""
        raise NotImplementedError


def system_message(title: str, passage: str) -> str:
    """The system message by which a model reads a passage of a document."""
    of = f'"{title}"' if title else "a document"
    return f"This is a part of {of}:\n\n{passage}\n\n"


def render(template: str, **variables: object) -> str:
    """Render a template of the recipe's auxiliary group.

    Raises:
        RecipeError: If the template fails on these values.
    """
    try:
        return _compiled(template).render(**variables)
    except TemplateError as error:
        raise RecipeError("group 'auxiliary'", [f"a template fails on this document: {error}"]) from error


@cache
def _compiled(template: str) -> Template:
    return ImmutableSandboxedEnvironment(keep_trailing_newline=True).from_string(template)
