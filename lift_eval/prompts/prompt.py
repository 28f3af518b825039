"""From a question to token ids: templates, the chat template, and what is cut where.

ICL and LIFT share this path, so that a comparison differs in the adapter alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from lift_eval.answering.thinking import Thinking
from lift_eval.document import Document, Span, holds_part_of, occurrences
from lift_eval.errors import CheckpointError, DocumentError, RecipeError
from lift_eval.prompts.encoding import TextEncoder
from lift_eval.prompts.truncation import (
    Truncate,
    characters_of,
    kept_share,
    token_ranges,
    truncate_middle,
    truncate_parts,
)
from lift_eval.settings import DEMONSTRATION_END

if TYPE_CHECKING:
    from lift_eval.prompts.settings import PromptSettings

DOCUMENT_SLOT = "\x02document\x03"
"""Stands for the document while templates are rendered, so that its place in the prompt is known exactly."""


@cache
def _environment() -> ImmutableSandboxedEnvironment:
    return ImmutableSandboxedEnvironment(keep_trailing_newline=True)


def fill_template(template: str, title: str, document: str, question: str) -> str:
    """Fill a recipe's template of a prompt.

    Raises:
        RecipeError: If the template fails, or reaches for what its sandbox does not give.
    """
    try:
        return _environment().from_string(template).render(title=title, document=document, question=question)
    except (TemplateError, TypeError, ArithmeticError) as error:
        raise RecipeError("group 'prompt'", [f"a template fails on this document: {error}"]) from error


@dataclass(frozen=True)
class Prompt:
    """The text of a prompt and the places of the document in it.

    Attributes:
        text: The whole prompt.
        places: Ranges of characters where the document stands, ascending and apart; empty for a closed-book prompt.
        located: Whether the places are known. They are not where the prompt holds the document in a changed form, or a
            part of it, or nobody knows a document.
        query: The question by itself, for retrieval; empty where it is not known.
    """

    text: str
    places: tuple[Span, ...] = ()
    located: bool = True
    query: str = ""

    @classmethod
    def around(cls, text: str, document: Document | None, query: str = "") -> Prompt:
        """Find a document in a finished prompt, where it may stand more than once: in few-shot examples, too."""
        if document is None:
            return cls(text, located=False, query=query)
        places = tuple(occurrences(document.text, text))
        located = bool(places) or not holds_part_of(document.text, text)
        return cls(text, places, located, query)

    @classmethod
    def joined(cls, parts: Sequence[str], text: str) -> Prompt:
        """Put the document's text between each two parts of a prompt."""
        lengths = list(accumulate(len(part) + len(text) for part in parts[:-1]))
        return cls(text.join(parts), tuple((stop - len(text), stop) for stop in lengths))

    def with_document(self, text: str) -> Prompt:
        """The same prompt with another text in each place of the document."""
        ends = [0, *(stop for _, stop in self.places)]
        starts = [*(start for start, _ in self.places), len(self.text)]
        parts = [self.text[end:start] for end, start in zip(ends, starts, strict=True)]
        return replace(self, text=text.join(parts), places=Prompt.joined(parts, text).places)

    def without_document(self) -> Prompt:
        """The same prompt closed-book: the document taken out of it."""
        return replace(self.with_document(""), places=())

    def with_text_at(self, place: int, text: str) -> Prompt:
        """The same prompt with another text put in, before the document."""
        places = tuple((start + len(text), stop + len(text)) for start, stop in self.places)
        return replace(self, text=self.text[:place] + text + self.text[place:], places=places)

    @property
    def share(self) -> float | None:
        """Share of the document that the whole prompt holds: 1 or 0. None means that it is not known."""
        return float(bool(self.places)) if self.located else None


@dataclass(frozen=True)
class EncodedPrompt:
    """Token ids of a prompt, and what truncation left of the document.

    Attributes:
        ids: Token ids, special tokens included.
        kept: Share of the document's characters that the ids hold, 0 to 1; 0 for a closed-book prompt, None where that
            is not known.
        cut: Range of characters of the document that were cut out, (0, 0) where nothing was.
        before_question: How many ids come before what differs between the questions about a document: those up to
            the document's first end, or up to the cut where the whole prompt is cut; 0 for a closed-book prompt.
        shortened: How many ids fewer there are than before truncation.
        over_length: What was done since the whole document does not fit, ``skip`` or ``truncate``; empty where it
            fits, or need not.
    """

    ids: list[int]
    kept: float | None
    cut: Span = (0, 0)
    before_question: int = 0
    shortened: int = 0
    over_length: str = ""

    @property
    def skipped(self) -> bool:
        """Whether the question is not asked."""
        return self.over_length == "skip"

    @property
    def untruncated(self) -> int:
        """How many ids there were before truncation."""
        return len(self.ids) + self.shortened


class PromptEncoder:
    """Renders and encodes prompts for one tokenizer, recipe and window.

    Args:
        tokenizer: A fast tokenizer of transformers.
        settings: The recipe's prompt group.
        window: Most tokens that the model can attend to.

    Raises:
        CheckpointError: If the tokenizer is not a fast one, or lacks the chat template that the recipe asks for.
        RecipeError: If the recipe's mark of thinking is no token.

    Attributes:
        thinking: Marks of the model's thinking; None means that it does not think.
        reader: What reads documents to choose what of them prompts hold (`Content.reader`). None means that nothing
            does.
    """

    def __init__(self, tokenizer: Any, settings: PromptSettings, window: int) -> None:  # noqa: ANN401
        if not getattr(tokenizer, "is_fast", False):
            raise CheckpointError(
                f"the tokenizer must be a fast one (a tokenizer.json), got {type(tokenizer).__name__}; truncation "
                "needs the place of each token in the text"
            )
        if settings.chat_template and not tokenizer.chat_template:
            raise CheckpointError(
                "the recipe asks for the chat template ('prompt.chat_template: true'), but the tokenizer has none; "
                "set prompt.chat_template=false"
            )
        self.tokenizer = tokenizer
        self.settings = settings.settled(has_template=bool(tokenizer.chat_template))
        self.window = window
        self.thinking = Thinking.of(tokenizer, settings.think_end)
        self.reader: Any = None
        self._encoder = TextEncoder(tokenizer)

    @cached_property
    def _ellipsis(self) -> list[int]:
        return self.plain_ids(self.settings.ellipsis)

    @cached_property
    def halving(self) -> PromptEncoder:
        """The encoder that keeps the two halves of what fits in the window, whatever the recipe says (LongBench)."""
        return self._with(truncate="prompt", ellipsis="", max_tokens=self.window)

    @cached_property
    def filling(self) -> PromptEncoder:
        """The encoder that truncates nothing but what does not fit in the window."""
        return self._with(max_tokens=self.window, max_tokens_with_answer=False, question_tokens=1)

    def _with(self, **settings: object) -> PromptEncoder:
        return PromptEncoder(self.tokenizer, self.settings.model_copy(update=settings), self.window)

    def plain_ids(self, text: str) -> list[int]:
        """Token ids of a text without special tokens."""
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def limit(self, reserve: int) -> int:
        """Most tokens of a prompt.

        Args:
            reserve: Tokens of the answer.
        """
        answer = reserve if self.settings.max_tokens_with_answer else 0
        return min(self.settings.max_tokens - answer, self.window - reserve)

    def render(
        self,
        document: Document,
        question: str,
        template: str | None = None,
        *,
        closed_book: bool = False,
        system: str | None = None,
        answer: str | None = None,
        thinking: bool = True,
    ) -> Prompt:
        """Put a question about a document in the recipe's own words.

        Args:
            document: The document.
            question: The question.
            template: Jinja template of the prompt; None means the recipe's.
            closed_book: Whether the recipe's is the one that leaves the document out.
            system: System message, empty for none; None means the recipe's.
            answer: The answer that ends the text; None to ask for one.
            thinking: Whether a reasoning model may think before it answers.

        Returns:
            The prompt, through the chat template where the recipe asks for it.

        Raises:
            RecipeError: If the template fails, or reaches for what its sandbox does not give.
        """
        if template is None:
            template = self.settings.closed_book_template if closed_book else self.settings.template
        put = partial(fill_template, template)
        shown = self.demonstrate(put, self.settings.answer_prefix)
        text = shown + put(document.title, DOCUMENT_SLOT, question)
        system = self.settings.system if system is None else system
        if self.settings.chat_template:
            text = self.in_chat(text, system=system, answer=answer, thinking=thinking)
        else:
            text = f"{system or ''}{text}{answer or ''}"
        return replace(Prompt.joined(text.split(DOCUMENT_SLOT), document.text), query=question)

    def demonstrate(self, put: Callable[[str, str, str], str], answer_prefix: str) -> str:
        """The recipe's demonstrations, each a prompt with its answer; empty where it has none.

        Args:
            put: Puts a question; takes the title, the document and the question.
            answer_prefix: What stands between a prompt and its answer.
        """
        shown = self.settings.demonstrations
        return "".join(
            f"{put(one.title, one.passage, one.question)}{answer_prefix}{one.answer}{DEMONSTRATION_END}"
            for one in shown
        )

    def users_words(self, text: str) -> Span:
        """Where the user's words stand in a finished prompt: behind the system message, within the chat template."""
        heads = [(self.settings.system or "", "")]
        if self.tokenizer.chat_template:
            head, _, tail = self.in_chat(DOCUMENT_SLOT, system=self.settings.system).partition(DOCUMENT_SLOT)
            heads.insert(0, (head, tail))
        for head, tail in heads:
            if text.startswith(head) and text.endswith(tail):
                return len(head), len(text) - len(tail)
        return 0, len(text)

    def in_chat(
        self, text: str, *, system: str | None = None, answer: str | None = None, thinking: bool = True
    ) -> str:
        """Put a text through the tokenizer's chat template, as the user's message.

        Args:
            text: The text.
            system: System message; None or empty for none.
            answer: The assistant's message; None to ask for one.
            thinking: Whether a reasoning model may think before it answers.

        Raises:
            RecipeError: If the template fails.
        """
        messages = [
            {"role": role, "content": content}
            for role, content in (("system", system or None), ("user", text), ("assistant", answer))
            if content is not None
        ]
        marks = None if thinking else self.thinking
        variables = {} if marks is None else {"enable_thinking": False}
        rendered = self.apply_chat_template(messages, add_generation_prompt=answer is None, **variables)
        return rendered if marks is None else marks.unopened(rendered)

    def apply_chat_template(self, messages: list[dict[str, str]], **how: bool) -> str:
        """Put a conversation through the tokenizer's chat template, with the recipe's variables.

        Args:
            messages: The messages; a template that refuses that of the system is not given it, as in lm-eval.
            how: Further arguments of the tokenizer's own method, and variables in place of the recipe's.

        Raises:
            RecipeError: If the template fails.
        """
        arguments = self.settings.template_variables | how
        try:
            return str(self.tokenizer.apply_chat_template(messages, tokenize=False, **arguments))
        except TemplateError as error:
            others = [message for message in messages if message["role"] != "system"]
            if len(others) < len(messages):
                return self.apply_chat_template(others, **how)
            raise RecipeError("group 'prompt'", [f"the chat template fails: {error}"]) from error

    def encode(self, prompt: Prompt, reserve: int, truncate: Truncate | None = None) -> EncodedPrompt:
        """Encode a prompt and cut it where it is too long.

        Args:
            prompt: The prompt.
            reserve: Tokens to leave free in the window for the answer.
            truncate: How the document is cut. None means in the middle, or the prompt's middle, as the recipe says.

        Returns:
            At most `limit` token ids.

        Raises:
            DocumentError: If that does not even hold the prompt without its document.
        """
        shared = prompt.places[0][1] if prompt.places else 0
        encoding = self._encoder(prompt.text, shared=shared, special=self._adds_special_tokens(prompt.text))
        ids, spans = encoding.ids, encoding.spans
        parts = token_ranges(spans, prompt.places)
        rest = len(ids) - sum(last - first for first, last in parts)
        limit = self.limit(reserve)
        apart = prompt.located and (truncate is not None or self.settings.truncate == "document")
        if apart and limit > self.settings.question_tokens:
            # One cut for all questions of the document, unless this one needs more room than is kept for them.
            limit -= max(self.settings.question_tokens - rest, 0)
        before = parts[0][1] if parts else 0
        if len(ids) <= limit:
            return EncodedPrompt(ids, prompt.share, before_question=before)
        self._refuse_without_room(prompt, rest, limit, reserve)
        if apart:
            shorter, cuts = truncate_parts(ids, limit, self._ellipsis, parts, truncate or truncate_middle)
            start, stop = cuts[0]
            before -= stop - start - len(self._ellipsis) if stop > start else 0
        else:
            shorter, cut = truncate_middle(ids, limit, self._ellipsis)
            cuts, before = [cut] * len(parts), min(cut[0], before)
        kept, lost = kept_share(prompt.places, [characters_of(spans, cut) for cut in cuts])
        return EncodedPrompt(shorter, kept, lost, before, len(ids) - len(shorter))

    def check_room(self, prompt: Prompt, reserve: int) -> None:
        """Refuse early, without encoding the document, what `encode` would refuse.

        Args:
            prompt: The prompt.
            reserve: Tokens to leave free in the window for the answer.

        Raises:
            DocumentError: If the prompt without its document does not fit.
        """
        limit = self.limit(reserve)
        text = prompt.without_document().text if prompt.located else ""
        special = self._adds_special_tokens(text)
        rest = len(self.tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])
        if rest > limit or limit < 1:
            self._refuse_without_room(prompt, rest, limit, reserve)

    def _refuse_without_room(self, prompt: Prompt, rest: int, limit: int, reserve: int) -> None:
        """Refuse a prompt that can't be cut to the limit; one in which the document is not located is cut anywhere."""
        least = 2 * len(self._ellipsis) * max(len(prompt.places), 1)
        if limit - (rest if prompt.located else 1) < least:
            what = (
                f"the prompt without its document has {rest} tokens, but"
                if prompt.located
                else "of the prompt"
            )
            raise DocumentError(
                f"{what} only {max(limit, 0)} fit (window {self.window}, {reserve} reserved for the answer, "
                f"prompt.max_tokens {self.settings.max_tokens}); use a model with a longer window, fewer new tokens or "
                "fewer few-shot examples"
            )

    def _adds_special_tokens(self, text: str) -> bool:
        bos = self.tokenizer.bos_token
        if bos and text.startswith(bos):  # a chat template has written it
            return False
        return True if self.settings.bos is None else self.settings.bos
