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
    """Most tokens of a prompt, special tokens included."""
    max_tokens_with_answer: bool = False
    """Whether ``max_tokens`` holds the new tokens of the answer too."""
    ellipsis: str = "..."
    """Text in the place of the middle that was cut out; may be empty."""
    truncate: Literal["prompt", "document"] = "prompt"
    """Where a prompt that is too long is cut: in the middle of all of it, as published, or of the document alone."""
    question_tokens: PositiveInt = 256
    """Room kept for all but the document with ``truncate: document`` or ``document: end``. Questions that fit it share
    one cut of the document, so that it is read once for all of them."""
    style: str | None = None
    """Name of the task's prompt in lm-eval, where the run's metadata name none and the task has it. None means the
    task's first."""
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
    """Questions with their answers that stand before each question in the same form, in training as in tests; with
    the document each has its passage in its place, closed-book none."""
    chat_template: bool | None = None
    """Whether questions and pairs go through the tokenizer's chat template. None means that they do if it has one."""
    system: str | None = None
    """System message. Without the chat template it stands right before the prompt, as in lm-eval."""
    chat_template_args: dict[str, Any] = Field(default_factory=dict)
    """Variables of the chat template, e.g. ``{reasoning_effort: low}``."""
    enable_thinking: bool | None = None
    """Whether a model that can think before it answers does so, for chat templates that ask; None leaves it to them.
    Pairs are made and trained without thinking in any case."""
    think_end: Annotated[str, Field(min_length=1)] | NonNegativeInt | None = None
    """Mark behind the thinking of a reasoning model, or its token's id; what comes before it is no part of an answer.
    None means ``</think>`` where that is a token."""
    bos: bool | None = None
    """Whether a prompt starts with the beginning-of-sequence token. None means the tokenizer's own way."""
    answer_prefix: str = ""
    """What stands between prompt and answer in training, e.g. a space after a prompt that ends in a colon."""
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
