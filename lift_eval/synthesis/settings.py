"""The recipe's group ``auxiliary``."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, field_validator, model_validator

from lift_eval.settings import (
    DEMONSTRATION_END,
    NonNegativeInt,
    PositiveInt,
    check_name,
    check_variables,
    variables_of,
)
from lift_eval.synthesis.base import (
    ANSWER_VARIABLES,
    REQUEST_VARIABLES,
    REWRITE_VARIABLES,
    ReplyFormat,
    Strategy,
)
from lift_eval.synthesis.registry import STRATEGIES, StrategySettings

TRANSPORT = {"retries", "timeout_seconds"}
"""Keys of ``auxiliary`` that say how long a server is waited for."""

PairPrompt: TypeAlias = Literal["task", "task_closed_book", "test", "passage", "closed_book"]

OF_TASK, CLOSED_BOOK = {"task", "task_closed_book"}, {"closed_book", "task_closed_book"}

LEAST_REPLY_TOKENS, TOKENS_PER_PAIR = 512, 128
"""Room for a reply: for any, and for each pair asked for. Of real replies with ten pairs one in five exceeds 512."""


class AuxiliarySettings(StrategySettings):
    """Question-answer pairs made from the document, trained in stage 2 (paper, section 3.2).

    What is asked and how replies are read is in `PairSettings`, the strategies' own keys are beside them.
    """

    attempts: PositiveInt = 5
    """Maximum number of requests for one passage if the replies cannot be used."""
    max_tokens: PositiveInt | None = None
    """Maximum number of tokens of a reply. None means enough for the requested pairs."""
    temperature: Annotated[float, Field(gt=0)] = 0.7
    """Temperature of requests after the first, which is greedy; of all requests for users' messages and summaries."""
    chat_template: bool = True
    """Whether requests to a local generator use its chat template, if it has one."""
    batch: PositiveInt = 16
    """Number of requests in one batch of a local generator, or sent to a server at the same time."""
    retries: NonNegativeInt = 4
    """Number of times that a failed request to a server is repeated, with increasing pauses."""
    timeout_seconds: Annotated[float, Field(gt=0)] = 120.0
    """Maximum wait for a server per attempt; a request takes at most this times ``retries`` plus one."""
    prompts: Annotated[tuple[PairPrompt, ...], Field(min_length=1)] | None = None
    """Prompts in which pairs are trained; several alternate by epoch. ``task`` is the prompt of the run's task, with
    the truncated document, and ``task_closed_book`` the same without it; without a task, or if its prompt does not show
    the question, these are the recipe's own: ``test`` with the document and ``closed_book`` without. ``passage`` is
    ``test`` with the pair's passage instead of the document. None means ``task``, or ``test`` if ``template``,
    ``system`` or a joint ``encoding`` set the form of a pair."""
    template: str | None = None
    """Jinja template of a pair's prompt in training; variables title, document, question. None means the test prompt,
    ``prompt.template``."""
    system: str | None = None
    """System message of a pair's prompt in training; empty means no message. None means ``prompt.system``."""
    encoding: Literal["separate", "joint"] = "separate"
    """How prompt and answer of a pair become one sample. ``separate``: they are encoded separately, and the prompt is
    truncated so that the answer fits. ``joint``, as published: they are encoded and truncated as one text, or with the
    chat template as the turns of one conversation, whose end of turn is learned too."""

    loss_on: Literal["answer", "text"] = "answer"
    """The part of a pair that has a loss: the answer, or prompt and answer."""

    @field_validator("strategy", mode="before")
    @classmethod
    def _strategy_is_known(cls, name: Any) -> Any:  # noqa: ANN401 - whatever the recipe says
        return check_name(name, STRATEGIES)

    @model_validator(mode="after")
    def _templates_fit(self) -> AuxiliarySettings:
        check_variables("auxiliary.request", self.request_template, REQUEST_VARIABLES)
        if self.answer_request is not None:
            check_variables(
                "auxiliary.answer_request", self.answer_request, ANSWER_VARIABLES, {"passage", "question"}
            )
        if self.rewrite_request is not None:
            check_variables("auxiliary.rewrite_request", self.rewrite_request, REWRITE_VARIABLES, {"passage"})
        if self.template is not None:
            variables = {"title", "document", "question"}
            check_variables("auxiliary.template", self.template, variables, {"question"})
        return self

    @model_validator(mode="after")
    def _form_is_one(self) -> AuxiliarySettings:
        if self.asks_as_task and self._own_ways:
            raise ValueError(
                f"'auxiliary.{self._own_ways[0]}' is for pairs in the recipe's own prompt, got prompts "
                f"{list(self.prompts_in_turn)}; set 'auxiliary.prompts: [test]' or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _reply_fits(self) -> AuxiliarySettings:
        if self.strategy != "none" and (self.reply_format == "text") != (self.method.reply == "text"):
            answered = " or ".join(name for name, strategy in STRATEGIES.items() if strategy.reply == "text")
            raise ValueError(
                f"'reply: text' belongs to 'strategy: {answered}' and to no other, got '{self.reply_format}' with "
                f"'{self.strategy}'"
            )
        if self.method.converses and self.demonstrations:
            raise ValueError(
                f"'strategy: {self.strategy}' does not use 'auxiliary.demonstrations', got "
                f"{len(self.demonstrations)}; leave them out"
            )
        if self.answer_request is not None and (self.reply_format != "labels" or self.needs_evidence):
            raise ValueError(
                f"'auxiliary.answer_request' needs 'reply: labels' and 'evidence: false', got '{self.reply_format}' "
                f"and {str(self.needs_evidence).lower()}"
            )
        if self.rewrite_request is not None and "passage" not in self.prompts_in_turn:
            raise ValueError(
                "'auxiliary.rewrite_request' needs a prompt that shows it, 'auxiliary.prompts: [passage, ...]', got "
                f"{list(self.prompts_in_turn)}"
            )
        if len(set(self.labels)) < len(self.labels) or not all(label.strip() for label in self.labels):
            raise ValueError(f"'labels' must be different and contain a word each, got {list(self.labels)}")
        if self.needs_evidence and self.reply_format == "labels" and len(self.labels) < 3:
            raise ValueError(f"'evidence: true' needs a third label in 'labels', got {list(self.labels)}")
        known = self.generator.startswith(("local:", "openai:")) and self.generator.partition(":")[2]
        if self.generator != "self" and not known:
            raise ValueError(f"'generator' must be self, local:PATH or openai:MODEL, got '{self.generator}'")
        return self

    @property
    def method(self) -> Strategy:
        """The strategy that the recipe names."""
        return STRATEGIES[self.strategy]

    @property
    def resolved(self) -> AuxiliarySettings:
        """The same settings said in full, with the strategy's own ways in the place of None."""
        if self.strategy == "none":
            return AuxiliarySettings()
        return self.model_copy(
            update={
                "request": self.request_template,
                "reply": self.reply_format,
                "evidence": self.needs_evidence,
                "max_tokens": self.reply_tokens,
                "prompts": self.prompts_in_turn,
            }
        )

    @property
    def request_template(self) -> str:
        """The recipe's request, or the strategy's own."""
        return self.method.request if self.request is None else self.request

    @property
    def reply_format(self) -> ReplyFormat:
        """The recipe's way to read a reply, or the strategy's own."""
        return self.method.reply if self.reply is None else self.reply

    def leaves_document_out(self, prompt: PairPrompt) -> bool:
        """Whether a pair is trained without the document in one of the prompts."""
        return prompt in CLOSED_BOOK or "document" not in variables_of(self.template or "{{ document }}")

    @property
    def _own_ways(self) -> list[str]:
        """Keys that say how a pair is put in the recipe's own prompt."""
        set_keys = [key for key in ("template", "system") if getattr(self, key) is not None]
        return set_keys + (["encoding"] if self.encoding == "joint" else [])

    @property
    def prompts_in_turn(self) -> tuple[PairPrompt, ...]:
        """The recipe's prompts of pairs, or the one that goes with its other keys."""
        return self.prompts or (("test",) if self._own_ways else ("task",))

    @property
    def asks_as_task(self) -> bool:
        """Whether there are pairs, and they are trained in the task's prompt."""
        return self.strategy != "none" and not OF_TASK.isdisjoint(self.prompts_in_turn)

    @property
    def trains_closed_book(self) -> bool:
        """Whether there are pairs, and a prompt of theirs without the document."""
        return self.strategy != "none" and any(map(self.leaves_document_out, self.prompts_in_turn))

    @property
    def pairs_in_reply(self) -> int:
        """Pairs that one request asks for."""
        return self.pairs if self.method.several and self.reply_format == "json" else 1

    @property
    def samples_pairs(self) -> bool:
        """Whether the pairs of a passage are sampled one by one, by as many requests."""
        return self.method.several and self.reply_format == "labels"

    @property
    def reply_tokens(self) -> int:
        """The recipe's limit on a reply, or one with room for the pairs asked for."""
        return self.max_tokens or max(LEAST_REPLY_TOKENS, TOKENS_PER_PAIR * self.pairs_in_reply)

    @property
    def asks_for_answers(self) -> bool:
        """Whether the answer of a question is asked for apart."""
        return self.method.converses or self.answer_request is not None

    @property
    def in_background(self) -> bool:
        """Whether pairs are made while the model trains: by a server, which needs no share of its machine."""
        return self.strategy != "none" and self.generator.startswith("openai:")

    @property
    def values(self) -> int:
        """Values of a pair in a reply: question, answer unless that is asked for apart, evidence where it is needed."""
        if self.answer_request is not None:
            return 1
        return 3 if self.needs_evidence else 2

    @property
    def reply_ends(self) -> tuple[str, ...]:
        """Strings that end a local generator's reply: behind demonstrations, the blank line."""
        return (DEMONSTRATION_END,) if self.demonstrations else ()

    @property
    def needs_evidence(self) -> bool:
        """The recipe's rule on evidence, or the strategy's own."""
        return self.method.needs_evidence if self.evidence is None else self.evidence
