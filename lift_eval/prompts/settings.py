"""The recipe's group ``prompt``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from lift_eval.prompts.contents.registry import CONTENTS, ContentsSettings
from lift_eval.settings import Demonstration, NonNegativeInt, PositiveInt, check_name, check_variables


class PromptSettings(ContentsSettings):
    """The prompt of a question (paper, section 4; published prompt of LooGLE).

    What of the document it holds is in `ContentsSettings`.
    """

    max_tokens: PositiveInt = 7800
    """Maximum number of tokens of a prompt, including special tokens."""
    max_tokens_with_answer: bool = False
    """Whether ``max_tokens`` includes the answer's new tokens."""
    ellipsis: str = "..."
    """Text that replaces the removed middle; may be empty."""
    truncate: Literal["prompt", "document"] = "prompt"
    """Where a prompt that is too long is cut: in the middle of the whole prompt, as published, or of the document
    alone."""
    question_tokens: PositiveInt = 256
    """Tokens reserved for everything except the document with ``truncate: document`` or ``document: end``. Questions
    within this limit share one truncation of the document, so it is read once for all of them."""
    style: str | None = None
    """Name of the task's prompt in lm-eval, if the run's metadata name none and the task has it. None means the task's
    first prompt."""
    template: str = (
        "The article {{ title }}: \n{{ document }}\nPlease answer the question based on {{ title }}.\n"
        "Question: {{ question }}\nAnswer: "
    )
    """Jinja template of a prompt with the document; variables title, document, question."""
    closed_book_template: str = (
        'Please answer the question based on "{{ title }}".\nQuestion: {{ question }}\nAnswer: '
    )
    """Jinja template of a prompt without the document; variables title, question."""
    demonstrations: tuple[Demonstration, ...] = ()
    """Questions with answers that precede each question in the same format, in training and in tests. With the document
    in the prompt, each shows its passage in place of a document; closed-book prompts omit it."""
    chat_template: bool | None = None
    """Whether questions and pairs use the tokenizer's chat template. None means that they do if it has one."""
    system: str | None = None
    """System message. Without the chat template, it directly precedes the prompt, as in lm-eval."""
    chat_template_args: dict[str, Any] = Field(default_factory=dict)
    """Variables of the chat template, e.g. ``{reasoning_effort: low}``."""
    enable_thinking: bool | None = None
    """Whether a reasoning model thinks before it answers, for chat templates with this variable. None means the
    template's default. Pairs are always generated and trained without thinking."""
    think_end: Annotated[str, Field(min_length=1)] | NonNegativeInt | None = None
    """The mark that ends a reasoning model's thinking, or its token id; text before it is not part of an answer. None
    means ``</think>`` if that is a token."""
    bos: bool | None = None
    """Whether a prompt begins with the beginning-of-sequence token. None means the tokenizer's default."""
    answer_prefix: str = ""
    """Text between prompt and answer in training, e.g. a space after a prompt that ends in a colon."""
    eos_after_answer: bool = False
    """Whether a trained answer ends with the end-of-sequence token."""

    @field_validator("document", mode="before")
    @classmethod
    def _content_is_known(cls, name: Any) -> Any:  # noqa: ANN401 - whatever the recipe says
        return check_name(name, CONTENTS)

    @field_validator("template")
    @classmethod
    def _template_fits(cls, template: str) -> str:
        check_variables(
            "prompt.template", template, {"title", "document", "question"}, {"document", "question"}
        )
        return template

    @field_validator("closed_book_template")
    @classmethod
    def _closed_book_template_fits(cls, template: str) -> str:
        check_variables("prompt.closed_book_template", template, {"title", "question"}, {"question"})
        return template

    @property
    def contents(self) -> dict[str, Any]:
        """The settings that say what of the document the prompt of a question holds, and nothing about training."""
        return self.model_dump(include=set(ContentsSettings.model_fields))

    def settled(self, *, has_template: bool) -> PromptSettings:
        """These settings with an answer to whether prompts go through the chat template.

        Args:
            has_template: Whether the tokenizer has one.
        """
        open_ = self.chat_template is None
        return self.model_copy(update={"chat_template": has_template}) if open_ else self

    @property
    def template_variables(self) -> dict[str, Any]:
        """Variables of the chat template besides the messages."""
        thinking = {} if self.enable_thinking is None else {"enable_thinking": self.enable_thinking}
        return {**self.chat_template_args, **thinking}
