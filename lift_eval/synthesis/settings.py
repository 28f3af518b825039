"""The recipe's group ``auxiliary``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lift_eval.settings import NonNegativeInt, PositiveInt, Settings, check_variables, variables_of

TRANSPORT = {"retries", "timeout_seconds"}
"""Keys of ``auxiliary`` that say how long a server is waited for."""

PASSAGES_REQUEST = """\
{{ passage }}

Write one question about the passage above, its answer, and a sentence copied word for word from the passage that \
proves the answer. The question must be understandable without the passage. Use exactly this form:
Question: ...
Answer: ...
Evidence: ..."""

SENTENCES_REQUEST = """\
Title: {{ title }}

{{ context }}
{{ sentence }}

Write at most {{ pairs }} different questions about what the last sentence states ("{{ sentence }}"), each with its \
answer. Each question must be understandable without the text.\
{% if questions %} None of these may be asked again:
{% for question in questions %}- {{ question }}
{% endfor %}{% else %} {% endif %}Reply with JSON only:
{"pairs": [{"question": "...", "answer": "..."}]}"""

PARAGRAPHS_REQUEST = """\
{{ passage }}

Summarize the paragraph above in four to six sentences. Reply with the summary only."""

LEAST_REPLY_TOKENS, TOKENS_PER_PAIR = 512, 128
"""Room for a reply: for any, and for each pair asked for. Of real replies with ten pairs one in five exceeds 512."""


class AuxiliarySettings(Settings):
    """Question-answer pairs made from the document, trained in stage 2 (paper, section 3.2)."""

    strategy: Literal["none", "passages", "sentences", "paragraphs"] = "none"
    """Pairs about random passages, about each sentence, or summaries of the document's numbered paragraphs."""
    pairs: PositiveInt = 10
    """Pairs per document; most pairs per sentence with strategy ``sentences``."""
    generator: str = "self"
    """``self``, ``local:PATH`` or ``openai:MODEL`` (base address and key from OPENAI_BASE_URL, OPENAI_API_KEY)."""
    request: str | None = None
    """Jinja template of what the generator is asked; variables title, passage, context, sentence, pairs, and questions:
    those made already, where a reply was cut off and the rest is asked for. None for the strategy's own."""
    reply: Literal["labels", "json", "text"] | None = None
    """How a reply is read: a labelled pair, JSON, or (``paragraphs``) a summary; none for the strategy's own way.
    With strategy ``sentences`` a JSON reply holds all pairs of a sentence, while labelled pairs are sampled one by
    one."""
    labels: Annotated[tuple[str, ...], Field(min_length=2, max_length=3)] = (
        "Question:",
        "Answer:",
        "Evidence:",
    )
    no_pair: str = "None"
    """Reply that says that there is nothing to ask; it is not asked for again."""
    evidence: bool | None = None
    """Whether a pair needs evidence that stands verbatim in its passage; none for the strategy's own rule."""
    paragraph_name: str = "Paragraph {{ number }}"
    """What a paragraph of the document starts with, and the answer to its summary (strategy ``paragraphs``)."""
    paragraph_draw: Literal["permutation", "replacement"] = "permutation"
    """How paragraphs are drawn: each one once before any comes again, or independently of each other, as published."""
    passage_sentences: PositiveInt = 16
    """Consecutive sentences in a passage (strategy ``passages``)."""
    context_characters: NonNegativeInt = 2048
    """Preceding text shown with a sentence (strategy ``sentences``)."""
    attempts: PositiveInt = 5
    """Most requests for one passage, sentence or paragraph whose replies cannot be used."""
    max_tokens: PositiveInt | None = None
    """Most tokens of a reply; None for as many as the pairs asked for take."""
    temperature: Annotated[float, Field(gt=0)] = 0.7
    """Of requests after the first, which is greedy."""
    chat_template: bool = True
    """Whether requests to a local generator pass through its chat template, where it has one."""
    batch: PositiveInt = 16
    """Requests in one batch of a local generator, or at once at a server."""
    retries: NonNegativeInt = 4
    """How often a request to a server is sent again after an error, with growing pauses."""
    timeout_seconds: Annotated[float, Field(gt=0)] = 120.0
    """Longest wait for a server in one try; a request takes at most this times one more than ``retries``."""
    prompts: Annotated[tuple[Literal["test", "closed_book"], ...], Field(min_length=1)] = ("test",)
    """Prompts in which a pair is trained: with the truncated document, without it, or taking turns by epoch."""
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

    @model_validator(mode="after")
    def _templates_fit(self) -> AuxiliarySettings:
        known = {"title", "passage", "context", "sentence", "pairs", "questions"}
        check_variables("auxiliary.request", self.request_template, known)
        check_variables("auxiliary.paragraph_name", self.paragraph_name, {"number"}, {"number"})
        if self.template is not None:
            variables = {"title", "document", "question"}
            check_variables("auxiliary.template", self.template, variables, {"question"})
        return self

    @model_validator(mode="after")
    def _reply_fits(self) -> AuxiliarySettings:
        if self.strategy != "none" and (self.reply_format == "text") != (self.strategy == "paragraphs"):
            raise ValueError(
                f"'reply: text' belongs to 'strategy: paragraphs' and to no other, got '{self.reply_format}' with "
                f"'{self.strategy}'"
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
            }
        )

    @property
    def request_template(self) -> str:
        """The recipe's request, or the strategy's own."""
        own = {"passages": PASSAGES_REQUEST, "sentences": SENTENCES_REQUEST, "paragraphs": PARAGRAPHS_REQUEST}
        return own.get(self.strategy, "") if self.request is None else self.request

    @property
    def reply_format(self) -> Literal["labels", "json", "text"]:
        """The recipe's way to read a reply, or the strategy's own."""
        if self.reply is not None:
            return self.reply
        if self.strategy == "sentences":
            return "json"
        return "text" if self.strategy == "paragraphs" else "labels"

    def leaves_document_out(self, prompt: Literal["test", "closed_book"]) -> bool:
        """Whether a pair is trained without the document in one of the prompts."""
        return prompt == "closed_book" or "document" not in variables_of(self.template or "{{ document }}")

    @property
    def trains_closed_book(self) -> bool:
        """Whether there are pairs, and a prompt of theirs without the document."""
        return self.strategy != "none" and any(map(self.leaves_document_out, self.prompts))

    @property
    def pairs_in_reply(self) -> int:
        """Pairs that one request asks for."""
        return self.pairs if self.strategy == "sentences" and self.reply_format == "json" else 1

    @property
    def reply_tokens(self) -> int:
        """The recipe's limit on a reply, or one with room for the pairs asked for."""
        return self.max_tokens or max(LEAST_REPLY_TOKENS, TOKENS_PER_PAIR * self.pairs_in_reply)

    @property
    def in_background(self) -> bool:
        """Whether pairs are made while the model trains: by a server, which needs no share of its machine."""
        return self.strategy != "none" and self.generator.startswith("openai:")

    @property
    def needs_evidence(self) -> bool:
        """The recipe's rule on evidence, or the strategy's own."""
        return self.strategy == "passages" if self.evidence is None else self.evidence
