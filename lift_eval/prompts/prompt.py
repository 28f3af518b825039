"""From a question to token ids: templates, the chat template, and truncation in the middle.

ICL and LIFT share this path, so that a comparison differs in the adapter alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from lift_eval.document import Document
from lift_eval.errors import CheckpointError, DocumentError, RecipeError
from lift_eval.prompts.encoding import TextEncoder
from lift_eval.recipe import PromptSettings

# Stands for the document while templates are rendered, so that its place in the prompt is known exactly.
_SLOT = "\x02document\x03"


@dataclass(frozen=True)
class Prompt:
    """The text of a prompt and the place of the document in it.

    Attributes:
        text: The whole prompt.
        start: Index of the document's first character.
        stop: Index after its last character; equal to start where the prompt holds no document.
    """

    text: str
    start: int = 0
    stop: int = 0

    @classmethod
    def around(cls, text: str, document: Document | None) -> Prompt:
        """Find a document in a finished prompt; a prompt without it is closed-book."""
        start = text.find(document.text) if document is not None else -1
        return cls(text) if start < 0 or document is None else cls(text, start, start + len(document.text))

    def without_document(self) -> Prompt:
        """The same prompt closed-book: the document taken out."""
        return Prompt(self.text[: self.start] + self.text[self.stop :], self.start, self.start)


@dataclass(frozen=True)
class EncodedPrompt:
    """Token ids of a prompt, and what truncation left of the document.

    Attributes:
        ids: Token ids, special tokens included.
        kept: Share of the document's characters that the ids hold, 0 to 1; 0 for a closed-book prompt.
        cut: Range of characters of the document that were cut out, (0, 0) where nothing was.
        before_question: How many ids come before what differs between the questions about a document: those up to
            the document's end, or up to the cut where the whole prompt is cut; 0 for a closed-book prompt.
        shortened: How many ids fewer there are than before truncation.
    """

    ids: list[int]
    kept: float
    cut: tuple[int, int] = (0, 0)
    before_question: int = 0
    shortened: int = 0

    @property
    def untruncated(self) -> int:
        """How many ids there were before truncation."""
        return len(self.ids) + self.shortened


def truncate_middle(
    ids: list[int], limit: int, ellipsis: list[int], within: tuple[int, int] | None = None
) -> tuple[list[int], tuple[int, int]]:
    """Cut the middle out of token ids that exceed a limit.

    Over L tokens, the first L // 2 - len(ellipsis) stay, then the ellipsis, then the last L - L // 2, as published.

    Args:
        ids: Token ids.
        limit: Most tokens of the result.
        ellipsis: Token ids put where something was cut.
        within: Range of ids that may be cut; all of them by default.

    Returns:
        The ids, at most ``limit`` of them, and the range of the input that was cut (empty where nothing was).

    Raises:
        ValueError: If the limit leaves no room for the ellipsis beside what must not be cut.
    """
    start, stop = within or (0, len(ids))
    if len(ids) <= limit:
        return ids, (stop, stop)
    room = limit - (len(ids) - (stop - start))
    head, tail = room // 2 - len(ellipsis), room - room // 2
    if head < 0:
        raise ValueError(f"limit {limit} leaves no room for the ellipsis")
    cut = (start + head, stop - tail)
    return [*ids[: cut[0]], *ellipsis, *ids[cut[1] :]], cut


class PromptEncoder:
    """Renders and encodes prompts for one tokenizer, recipe and window.

    Args:
        tokenizer: A fast tokenizer of transformers.
        settings: The recipe's prompt group.
        window: Most tokens that the model can attend to.

    Raises:
        CheckpointError: If the tokenizer is not a fast one, or lacks the chat template that the recipe asks for.
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
        self.settings = settings
        self.window = window
        self._encoder = TextEncoder(tokenizer)

    @cached_property
    def _environment(self) -> ImmutableSandboxedEnvironment:
        return ImmutableSandboxedEnvironment(keep_trailing_newline=True)

    @cached_property
    def _ellipsis(self) -> list[int]:
        return self.plain_ids(self.settings.ellipsis)

    @cached_property
    def halving(self) -> PromptEncoder:
        """The encoder that keeps the two halves of what fits in the window, whatever the recipe says (LongBench)."""
        whole = {"truncate": "prompt", "ellipsis": "", "max_tokens": self.window}
        return PromptEncoder(self.tokenizer, self.settings.model_copy(update=whole), self.window)

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
    ) -> Prompt:
        """Put a question about a document in the recipe's own words.

        Args:
            document: The document.
            question: The question.
            template: Jinja template of the prompt; None means the recipe's.
            closed_book: Whether the recipe's is the one that leaves the document out.
            system: As in `in_chat`.
            answer: The answer that ends the text; None to ask for one.

        Returns:
            The prompt, through the chat template where the recipe asks for it.

        Raises:
            RecipeError: If the template fails, or reaches for what its sandbox does not give.
        """
        if template is None:
            template = self.settings.closed_book_template if closed_book else self.settings.template
        try:
            text = self._environment.from_string(template).render(
                title=document.title, document=_SLOT, question=question
            )
        except (TemplateError, TypeError, ArithmeticError) as error:
            raise RecipeError("group 'prompt'", [f"a template fails on this document: {error}"]) from error
        if self.settings.chat_template:
            text = self.in_chat(text, system=system, answer=answer)
        else:
            text += answer or ""
        before, slot, after = text.partition(_SLOT)
        if not slot:
            return Prompt(text)
        after = after.replace(_SLOT, document.text)
        return Prompt(before + document.text + after, len(before), len(before) + len(document.text))

    def in_chat(self, text: str, *, system: str | None = None, answer: str | None = None) -> str:
        """Put a text through the tokenizer's chat template, as the user's message.

        Args:
            text: The text.
            system: System message, empty for none; None means the recipe's.
            answer: The assistant's message; None to ask for one.
        """
        system = self.settings.system if system is None else system
        messages = [
            {"role": role, "content": content}
            for role, content in (("system", system or None), ("user", text), ("assistant", answer))
            if content is not None
        ]
        return str(
            self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=answer is None)
        )

    def encode(self, prompt: Prompt, reserve: int) -> EncodedPrompt:
        """Encode a prompt and cut its middle where it is too long.

        Args:
            prompt: The prompt.
            reserve: Tokens to leave free in the window for the answer.

        Returns:
            At most `limit` token ids.

        Raises:
            DocumentError: If that does not even hold the prompt without its document.
        """
        encoding = self._encoder(
            prompt.text, shared=prompt.stop, special=self._adds_special_tokens(prompt.text)
        )
        ids, offsets = encoding.ids, encoding.spans
        limit = self.limit(reserve)
        first = next((i for i, (_, end) in enumerate(offsets) if end > prompt.start), len(ids))
        last = next((i for i in range(len(ids), 0, -1) if _begins_before(offsets[i - 1], prompt.stop)), first)
        rest = len(ids) - (last - first)
        whole = float(prompt.stop > prompt.start)
        if self.settings.truncate == "document" and limit > self.settings.question_tokens:
            # One cut for all questions of the document, unless this one needs more room than is kept for them.
            limit -= max(self.settings.question_tokens - rest, 0)
        if len(ids) <= limit:
            return EncodedPrompt(ids, whole, before_question=last if whole else 0)
        self._refuse_without_room(rest, limit, reserve)
        within = (first, last) if self.settings.truncate == "document" else None
        behind, untruncated = len(ids) - last, len(ids)
        ids, cut = truncate_middle(ids, limit, self._ellipsis, within)
        before = (len(ids) - behind if within else min(cut[0], last)) if whole else 0
        kept = _kept(prompt, offsets[cut[0]][0], offsets[cut[1] - 1][1])
        return EncodedPrompt(ids, *kept, before, untruncated - len(ids))

    def check_room(self, prompt: Prompt, reserve: int) -> None:
        """Refuse early, without encoding the document, what `encode` would refuse.

        Args:
            prompt: The prompt.
            reserve: Tokens to leave free in the window for the answer.

        Raises:
            DocumentError: If the prompt without its document does not fit.
        """
        limit = self.limit(reserve)
        text = prompt.without_document().text
        special = self._adds_special_tokens(text)
        rest = len(self.tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])
        if rest > limit or limit < 1:
            self._refuse_without_room(rest, limit, reserve)

    def _refuse_without_room(self, rest: int, limit: int, reserve: int) -> None:
        if limit - rest < 2 * len(self._ellipsis):
            raise DocumentError(
                f"the prompt without its document has {rest} tokens, but only {max(limit, 0)} fit (window "
                f"{self.window}, {reserve} reserved for the answer, prompt.max_tokens {self.settings.max_tokens}); "
                "use a model with a longer window or fewer new tokens"
            )

    def _adds_special_tokens(self, text: str) -> bool:
        bos = self.tokenizer.bos_token
        if bos and text.startswith(bos):  # a chat template has written it
            return False
        return True if self.settings.bos is None else self.settings.bos


def _begins_before(span: tuple[int, int], stop: int) -> bool:
    # Special tokens have the empty span (0, 0): they belong to no text.
    return span[1] > span[0] and span[0] < stop


def _kept(prompt: Prompt, cut_start: int, cut_stop: int) -> tuple[float, tuple[int, int]]:
    """Share of the document outside the cut characters, and the cut as a range of the document."""
    length = prompt.stop - prompt.start
    start = min(max(cut_start, prompt.start), prompt.stop) - prompt.start
    stop = min(max(cut_stop, prompt.start), prompt.stop) - prompt.start
    return (0.0, (0, 0)) if not length else (1 - (stop - start) / length, (start, stop))
