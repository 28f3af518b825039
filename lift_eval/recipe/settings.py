"""The keys of a recipe, their defaults and the rules between them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Set
from typing import Annotated, Any, Literal, TypeAlias

from jinja2 import TemplateSyntaxError, meta
from jinja2.sandbox import SandboxedEnvironment
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from lift_eval.errors import keys_of

TRANSPORT = {"retries", "timeout_seconds"}
"""Keys of ``auxiliary`` that say how long a server is waited for."""
NOT_DECISIVE: dict[str, bool | set[str]] = {
    **dict.fromkeys(("name", "description", "reproduces", "compute"), True),
    "auxiliary": TRANSPORT,
}
"""Parts of a recipe that change no result."""


def _check_variables(key: str, template: str, known: Set[str], needed: Set[str] = frozenset()) -> None:
    """Refuse a template that does not parse, uses what it is not given, or lacks what it needs."""
    try:
        used = _variables(template)
    except TemplateSyntaxError as error:
        raise ValueError(
            f"'{key}' must be a Jinja template that parses, got {error.message} in line {error.lineno}"
        ) from error
    if not needed <= used <= known:
        raise ValueError(
            f"'{key}' must be a Jinja template of {', '.join(sorted(known))}, got one of "
            f"{', '.join(sorted(used)) or 'nothing'}"
        )


def _variables(template: str) -> Set[str]:
    return meta.find_undeclared_variables(SandboxedEnvironment().parse(template))


PositiveInt: TypeAlias = Annotated[int, Field(ge=1)]
NonNegativeInt: TypeAlias = Annotated[int, Field(ge=0)]


class Settings(BaseModel):
    """Base of all groups of a recipe: no unknown keys, no change after construction."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class NoAdapter(Settings):
    """No adapter: the document is read in the prompt only (in-context learning, ICL)."""

    type: Literal["none"] = "none"


Targets: TypeAlias = tuple[str, ...] | Literal["all-linear", "auto"]
"""Names of the layers that get an adapter; ``all-linear``: every linear layer but the output embedding; ``auto``:
q_proj, k_proj, v_proj and o_proj where the model has them, else every linear layer."""


class LoraSettings(Settings):
    """LoRA (Hu et al. 2021); the defaults are those of LIFT's published quick start."""

    type: Literal["lora"] = "lora"
    rank: PositiveInt = 128
    alpha: Annotated[float, Field(gt=0)] = 256
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: Targets = "auto"
    init: bool | str = "gaussian"
    """Any value of peft's ``init_lora_weights``."""
    rslora: bool = False
    dora: bool = False


class PissaSettings(Settings):
    """PiSSA (Meng et al. 2024): LoRA that starts from the principal singular vectors of each weight."""

    type: Literal["pissa"] = "pissa"
    rank: PositiveInt = 128
    alpha: Annotated[float, Field(gt=0)] = 128
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: Targets = "auto"
    iterations: PositiveInt | None = None
    """Iterations of the fast SVD; none for the exact one."""


class GatedMemorySettings(Settings):
    """Gated Memory: a gated memory network beside every attention head (LIFT paper, section 3.4)."""

    type: Literal["gated_memory"] = "gated_memory"
    memory_expansion: PositiveInt = 2
    lm_head_rank: NonNegativeInt = 0
    """Rank of the LoRA on the output embedding; the published runs use 2."""
    lm_head_alpha: Annotated[float, Field(gt=0)] = 4.0


Adapter: TypeAlias = Annotated[
    NoAdapter | LoraSettings | PissaSettings | GatedMemorySettings, Field(discriminator="type")
]


class TrainingSettings(Settings):
    """Fine-tuning on one document (paper, sections 3.1 to 3.3)."""

    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.98)
    eps: Annotated[float, Field(gt=0)] = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """After the warm-up; over the whole run, both stages."""
    warmup_steps: NonNegativeInt = 0
    warmup: Literal["run", "per_stage"] = "run"
    """Whether the rate rises once in a run, or in each of the two stages, as in the first implementation: there the
    first step of a stage has rate 0."""
    context_epochs: NonNegativeInt = 8
    """Epochs of stage 1, on the document's segments."""
    joint_epochs: NonNegativeInt = 0
    """Epochs of stage 2, on segments and auxiliary pairs."""
    joint_segments: bool = True
    """Whether stage 2 holds the segments too; off where only pairs are trained on."""
    samples_per_step: PositiveInt | Literal["all"] = "all"
    """Samples of one optimizer step; ``all`` gathers the epoch into one step, as published."""
    segment_tokens: Annotated[int, Field(ge=2)] = 2048
    stride_tokens: PositiveInt = 768
    contextualized: bool = False
    """Whether a segment is trained behind windows of the document's front and back (paper, section 3.3)."""
    window_tokens: PositiveInt = 4096
    """Length of front and back window together; each lies within this distance of its end of the document."""
    window_draw: Literal["document", "epoch", "step"] = "document"
    """Whether windows are drawn once for a document, as published, anew in each epoch, or anew in each optimizer step.
    With ``step`` all segments of the step stand behind the same windows, which are read once and without a gradient;
    so is the document in the prompts of its pairs."""
    recite_instruction: str = "\nPlease recite the following segment of the text above: \n"
    title_line: bool = True
    """Whether the document's title, where it has one, is trained on as a line before its text."""

    @field_validator("stride_tokens")
    @classmethod
    def _stride_within_segment(cls, stride: int, info: ValidationInfo) -> int:
        segment = info.data.get("segment_tokens", stride)
        if stride > segment:
            raise ValueError(
                f"'training.stride_tokens' must not exceed 'training.segment_tokens' ({segment}), or text between "
                f"segments is lost, got {stride}"
            )
        return stride

    @model_validator(mode="after")
    def _stages_are_known(self) -> TrainingSettings:
        if self.warmup == "per_stage" and (self.schedule != "constant" or self.window_draw == "step"):
            raise ValueError(
                "'training.warmup: per_stage' needs 'training.schedule: constant' and a 'training.window_draw' other "
                f"than step, got '{self.schedule}' and '{self.window_draw}'"
            )
        return self

    @property
    def epochs(self) -> int:
        """Epochs of both stages together."""
        return self.context_epochs + self.joint_epochs

    @property
    def freezes_context(self) -> bool:
        """Whether what the samples of a step begin with is read once and without a gradient."""
        return self.contextualized and self.window_draw == "step"


LEAST_REPLY_TOKENS, TOKENS_PER_PAIR = 512, 128
"""Room for a reply: for any, and for each pair asked for. Of real replies with ten pairs one in five exceeds 512."""

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
        _check_variables("auxiliary.request", self.request_template, known)
        _check_variables("auxiliary.paragraph_name", self.paragraph_name, {"number"}, {"number"})
        if self.template is not None:
            variables = {"title", "document", "question"}
            _check_variables("auxiliary.template", self.template, variables, {"question"})
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
        return prompt == "closed_book" or "document" not in _variables(self.template or "{{ document }}")

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


class PromptSettings(Settings):
    """How a question is put (paper, section 4; published prompt of LooGLE)."""

    max_tokens: PositiveInt = 7800
    """Most tokens of a prompt, special tokens included."""
    max_tokens_with_answer: bool = False
    """Whether ``max_tokens`` holds the new tokens of the answer too."""
    ellipsis: str = "..."
    """What stands where the middle was cut out; may be empty."""
    document: Literal["truncated", "none"] = "truncated"
    """Whether the prompt holds the document; ``none`` asks closed-book."""
    truncate: Literal["prompt", "document"] = "prompt"
    """What is cut in the middle where the prompt is too long: all of it, as published, or the document alone."""
    question_tokens: PositiveInt = 256
    """Room kept for all but the document with ``truncate: document``. Questions that fit it share one cut of the
    document, so that it is read once for all of them."""
    style: str | None = None
    """Name of the task's prompt in lm-eval, where the run's metadata name none and the task has it. None means the
    task's first."""
    template: str = (
        "The article {{ title }}: \n{{ document }}\nPlease answer the question based on {{ title }}.\n"
        "Question: {{ question }}\nAnswer: "
    )
    closed_book_template: str = (
        'Please answer the question based on "{{ title }}".\nQuestion: {{ question }}\nAnswer: '
    )
    chat_template: bool = False
    system: str | None = None
    """System message. Without the chat template it stands right before the prompt, as in lm-eval."""
    chat_template_args: dict[str, Any] = {}
    """Variables of the chat template, e.g. ``{reasoning_effort: low}``."""
    enable_thinking: bool | None = None
    """Whether a model that can think before it answers does so, for chat templates that ask; None leaves it to them."""
    bos: bool | None = None
    """Whether a prompt starts with the beginning-of-sequence token; none for the tokenizer's own way."""
    answer_prefix: str = ""
    """What stands between prompt and answer in training, e.g. a space after a prompt that ends in a colon."""
    eos_after_answer: bool = False
    """Whether a trained answer ends with the end-of-sequence token."""

    @field_validator("template")
    @classmethod
    def _template_fits(cls, template: str) -> str:
        _check_variables(
            "prompt.template", template, {"title", "document", "question"}, {"document", "question"}
        )
        return template

    @field_validator("closed_book_template")
    @classmethod
    def _closed_book_template_fits(cls, template: str) -> str:
        _check_variables("prompt.closed_book_template", template, {"title", "question"}, {"question"})
        return template

    @property
    def template_variables(self) -> dict[str, Any]:
        """What the chat template is given besides the messages."""
        thinking = {} if self.enable_thinking is None else {"enable_thinking": self.enable_thinking}
        return {**self.chat_template_args, **thinking}


class DecodingSettings(Settings):
    """How the library answers; in lm-eval the task's own generation settings count."""

    max_new_tokens: PositiveInt = 200
    temperature: Annotated[float, Field(ge=0)] = 0.0
    source: Literal["recipe", "checkpoint"] = "recipe"
    """Who says how tokens are chosen: the recipe (in lm-eval the task in its place), or the checkpoint's generation
    config, which may sample (in lm-eval too)."""

    @model_validator(mode="after")
    def _one_source(self) -> DecodingSettings:
        if self.source == "checkpoint" and self.temperature:
            raise ValueError(
                "'decoding.temperature' needs 'decoding.source: recipe', or it would be lost, got "
                f"{self.temperature:g} with 'checkpoint'"
            )
        return self


class PrecisionSettings(Settings):
    """Number formats of base model and computation."""

    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """``auto``: bfloat16 on a GPU that has it, else float32."""
    quantization: Literal["none", "nf4", "int8"] = "none"


class ComputeSettings(Settings):
    """How work is laid out on the machine. Changes nothing but rounding, so it is not part of the digest."""

    micro_batch_tokens: PositiveInt | Literal["auto"] = "auto"
    """Most tokens, padding included, of one forward pass in training; a longer sample goes alone. ``auto``: as many
    as fit in free memory and still pay."""
    gradient_checkpointing: bool | Literal["auto"] = "auto"
    """Whether activations are computed anew in the backward pass; ``auto``: only where they do not fit in memory."""
    answer_batch: PositiveInt = 16
    """Most questions decoded at once."""


class Recipe(Settings):
    """One way to answer questions about documents: an adapter, its training, the prompt and the number formats."""

    name: str = "custom"
    description: str = ""
    reproduces: str = ""
    """The published run that the recipe stands for, if any."""
    adapter: Adapter = NoAdapter()
    training: TrainingSettings = TrainingSettings()
    auxiliary: AuxiliarySettings = AuxiliarySettings()
    prompt: PromptSettings = PromptSettings()
    decoding: DecodingSettings = DecodingSettings()
    precision: PrecisionSettings = PrecisionSettings()
    compute: ComputeSettings = ComputeSettings()
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    # Rules between groups hang on the later group, so that a fault elsewhere does not hide them.
    @field_validator("training")
    @classmethod
    def _epochs_fit_adapter(cls, training: TrainingSettings, info: ValidationInfo) -> TrainingSettings:
        adapter = info.data.get("adapter")
        if adapter is not None and adapter.type != "none" and not training.epochs:
            raise ValueError(
                f"adapter '{adapter.type}' needs 'training.context_epochs' or 'training.joint_epochs' of 1 or more, "
                "got 0 and 0; for no training use 'adapter: {type: none}'"
            )
        if adapter is not None and adapter.type == "none" and training.epochs:
            raise ValueError(
                f"'adapter.type: none' has nothing to train, got {training.epochs} epochs; set an adapter or "
                "'training: {context_epochs: 0, joint_epochs: 0}'"
            )
        return training

    @field_validator("auxiliary")
    @classmethod
    def _joint_epochs_have_samples(
        cls, auxiliary: AuxiliarySettings, info: ValidationInfo
    ) -> AuxiliarySettings:
        training, has_pairs = info.data.get("training"), auxiliary.strategy != "none"
        if training is not None and has_pairs and not training.joint_epochs:
            raise ValueError(
                f"'auxiliary.strategy: {auxiliary.strategy}' needs 'training.joint_epochs' of 1 or more, got 0"
            )
        if training is not None and training.joint_epochs and not (has_pairs or training.joint_segments):
            raise ValueError("'training.joint_segments: false' needs an 'auxiliary.strategy', got none")
        if training is not None and training.contextualized and auxiliary.strategy == "paragraphs":
            raise ValueError(
                "'auxiliary.strategy: paragraphs' trains whole paragraphs without windows, so it needs "
                "'training.contextualized: false', got true"
            )
        return auxiliary

    @property
    def trains(self) -> bool:
        """Whether documents are fine-tuned at all; false for ICL."""
        return self.adapter.type != "none"

    @property
    def digest(self) -> str:
        """Hash of all that decides the results: 16 hexadecimal digits, without names, texts and ``compute``."""
        said_in_full = self.model_copy(update={"auxiliary": self.auxiliary.resolved})
        decisive = said_in_full.model_dump(mode="json", exclude=NOT_DECISIVE)
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def training_digest(self) -> str:
        """Hash of what decides an adapter: the digest without how questions are then put and answers decoded.

        So a closed-book run takes up the adapters of the run that read the truncated document.
        """
        asked = self.model_copy(
            update={
                "decoding": DecodingSettings(),
                "prompt": self.prompt.model_copy(update={"document": PromptSettings().document}),
            }
        )
        return asked.digest


def settings_keys() -> list[str]:
    """Every dotted key that a recipe may hold, in order."""
    return list(keys_of(Recipe))
