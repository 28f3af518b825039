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
    """Most requests for one passage whose replies cannot be used."""
    max_tokens: PositiveInt | None = None
    """Most tokens of a reply; None for as many as the pairs asked for take."""
    temperature: Annotated[float, Field(gt=0)] = 0.7
    """Of requests after the first, which is greedy; of all requests for users' messages, and of summaries."""
    chat_template: bool = True
    """Whether requests to a local generator pass through its chat template, where it has one."""
    batch: PositiveInt = 16
    """Requests in one batch of a local generator, or at once at a server."""
    retries: NonNegativeInt = 4
    """How often a request to a server is sent again after an error, with growing pauses."""
    timeout_seconds: Annotated[float, Field(gt=0)] = 120.0
    """Longest wait for a server in one try; a request takes at most this times one more than ``retries``."""
    prompts: Annotated[tuple[PairPrompt, ...], Field(min_length=1)] | None = None
    """Prompts in which a pair is trained; several take turns by epoch. ``task`` is the prompt in which the run's task
    puts its questions, with the truncated document, and ``task_closed_book`` the same without it; without a task, or
    where its prompt does not show the question, they are the recipe's own: ``test`` with the document and
    ``closed_book`` without. ``passage`` is ``test`` with the pair's passage in the document's place. None means
    ``task``, or ``test`` where ``template``, ``system`` or a joint ``encoding`` say how a pair is put."""
    template: str | None = None
    """Jinja template of the prompt in which a pair is trained in place of the test prompt; variables title, document,
    question. None means the test prompt, ``prompt.template``."""
    system: str | None = None
    """System message of the prompt in which a pair is trained; empty means no message. None means
    ``prompt.system``."""
    encoding: Literal["separate", "joint"] = "separate"
    """How prompt and answer of a pair become one sample. ``separate``: they are encoded apart, and the prompt is
    truncated to leave the answer whole. ``joint``, as published: they are one text, or the turns of one conversation
    with the chat template (whose end of turn is learned too), which is encoded and truncated as a whole."""

    loss_on: Literal["answer", "text"] = "answer"
    """What of a pair is learned: its answer, or all of prompt and answer."""

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
                f"'strategy: {self.strategy}' has no place for 'auxiliary.demonstrations', got "
                f"{len(self.demonstrations)}; leave them out"
            )
        if self.answer_request is not None and (self.reply_format != "labels" or self.needs_evidence):
            raise ValueError(
                "'auxiliary.answer_request' goes with 'reply: labels' and 'evidence: false', got "
                f"'{self.reply_format}' and {str(self.needs_evidence).lower()}"
            )
        if self.rewrite_request is not None and "passage" not in self.prompts_in_turn:
            raise ValueError(
                "'auxiliary.rewrite_request' needs a prompt that shows it, 'auxiliary.prompts: [passage, ...]', got "
                f"{list(self.prompts_in_turn)}"
            )
        if len(set(self.labels)) < len(self.labels) or not all(label.strip() for label in self.labels):
            raise ValueError(f"'labels' must differ and hold a word each, got {list(self.labels)}")
        if self.needs_evidence and self.reply_format == "labels" and len(self.labels) < 3:
            raise ValueError(f"'evidence: true' needs a third of 'labels', got {list(self.labels)}")
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
