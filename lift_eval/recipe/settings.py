"""The recipe: its groups, and the rules between them. Groups of lower folders are declared there."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from lift_eval.adapters.registry import Adapter, NoAdapter
from lift_eval.answering.settings import DecodingSettings
from lift_eval.errors import keys_of
from lift_eval.models.settings import PrecisionSettings
from lift_eval.prompts.settings import PromptSettings
from lift_eval.settings import NonNegativeInt, PositiveInt, Settings
from lift_eval.synthesis.settings import TRANSPORT, AuxiliarySettings

NOT_DECISIVE: dict[str, bool | set[str]] = {
    **dict.fromkeys(("name", "description", "reproduces", "compute"), True),
    "auxiliary": TRANSPORT,
}
"""Parts of a recipe that change no result."""

SAMPLES = {
    "segments": "Overlapping slices of 'segment_tokens'.",
    "halves": (
        "Chunks of 'segment_tokens' at random positions, as many as there would be segments, drawn again in each "
        "epoch; the second half of each is learned, and a teacher reads both halves."
    ),
    "spans": (
        "In each epoch, 'samples_per_step' spans of 'segment_tokens' at random positions, each after the whole "
        "document before it, which is read once, before the first step, without a gradient."
    ),
    "stream": (
        "Chunks of 'stride_tokens', each after the tokens before it, 'segment_tokens' in total; only the chunk is "
        "learned, in 'context_epochs' passes before the next chunk."
    ),
}
"""Values of `TrainingSettings.samples`."""

OBJECTIVES = {
    "next_token": "The token itself.",
    "distillation": (
        "The base model's distribution of each next token when it has read more of the document."
    ),
}
"""Values of `TrainingSettings.objective`."""


class TrainingSettings(Settings):
    """Fine-tuning on one document (paper, sections 3.1 to 3.3)."""

    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    """Learning rate of AdamW."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.98)
    """AdamW's decay rates for the running means of the gradient and the squared gradient."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    """AdamW's constant in the denominator of an update."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    """AdamW's weight decay."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Maximum norm of the gradient over all weights; a larger gradient is scaled down."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Learning-rate schedule after the warm-up, over both stages."""
    warmup_steps: NonNegativeInt = 0
    """Optimizer steps in which the learning rate rises from 0."""
    warmup: Literal["run", "per_stage"] = "run"
    """Whether the learning rate warms up once per run, or in each of the two stages, as in the first implementation,
    where the first step of a stage has rate 0."""
    context_epochs: NonNegativeInt = 8
    """Epochs of stage 1, on the document's segments."""
    joint_epochs: NonNegativeInt = 0
    """Epochs of stage 2, on segments and auxiliary pairs."""
    joint_segments: bool = True
    """Whether stage 2 includes the segments; if false, it trains only on pairs."""
    samples_per_step: PositiveInt | Literal["all"] = "all"
    """Samples per optimizer step; ``all`` combines the epoch into one step, as published."""
    samples: Literal["segments", "halves", "spans", "stream"] = "segments"
    """How the document's text becomes samples; ``lift-eval recipes`` explains each value."""
    segment_tokens: Annotated[int, Field(ge=2)] = 2048
    """Length of a segment."""
    stride_tokens: PositiveInt = 768
    """Distance between the starts of consecutive segments."""
    contextualized: bool = False
    """Whether a segment is trained after windows of the document's front and back (paper, section 3.3)."""
    window_tokens: PositiveInt = 4096
    """Length of the front and back windows together; each is within this distance of its end of the document."""
    window_draw: Literal["document", "epoch", "step"] = "document"
    """Whether windows are drawn once per document, as published, in each epoch, or in each optimizer step. With
    ``step``, all segments of a step follow the same windows, which are computed once and without a gradient; so is the
    document in the prompts of the pairs."""
    recite_instruction: str = "\nPlease recite the following segment of the text above: \n"
    """Text between the windows and the segment."""
    title_line: bool = True
    """Whether the document's title, if it has one, is trained as a line before its text."""
    objective: Literal["next_token", "distillation"] = "next_token"
    """The training target of each token; ``lift-eval recipes`` explains each value."""
    teacher_top_k: PositiveInt = 20
    """Number of most likely tokens that distillation uses from a teacher's distribution."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Divisor of the logits of both models in distillation."""
    hidden_state_weight: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the distance between both models' hidden states in distillation."""

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
        streams = self.samples == "stream"
        if self.warmup == "per_stage" and (
            self.schedule != "constant" or self.window_draw == "step" or streams
        ):
            raise ValueError(
                "'training.warmup: per_stage' needs 'training.schedule: constant', a 'training.window_draw' other than "
                f"step and 'training.samples' other than stream, got '{self.schedule}', '{self.window_draw}' and "
                f"'{self.samples}'"
            )
        return self

    @model_validator(mode="after")
    def _stream_fits(self) -> TrainingSettings:
        if self.samples != "stream":
            return self
        if self.contextualized:
            raise ValueError(
                "'training.samples: stream' needs 'training.contextualized: false', got true; chunks have no windows"
            )
        if self.stride_tokens == self.segment_tokens:
            raise ValueError(
                "'training.samples: stream' needs a 'training.stride_tokens' below 'training.segment_tokens' "
                f"({self.segment_tokens}), so that a chunk follows other tokens, got {self.stride_tokens}"
            )
        if self.joint_epochs and self.joint_segments:
            raise ValueError(
                "'training.samples: stream' cannot be used in stage 2; set 'training.joint_segments: false' to train "
                "pairs there, or 'training.joint_epochs: 0'"
            )
        return self

    @model_validator(mode="after")
    def _samples_fit(self) -> TrainingSettings:
        if self.samples == "halves" and self.contextualized:
            raise ValueError(
                "'training.samples: halves' needs 'training.contextualized: false', got true; halves have no windows"
            )
        if self.samples == "spans" and (self.contextualized or self.samples_per_step == "all"):
            raise ValueError(
                "'training.samples: spans' needs 'training.contextualized: false' and a number for "
                "'training.samples_per_step', the spans of an epoch, got "
                f"{str(self.contextualized).lower()} and '{self.samples_per_step}'"
            )
        if self.distills and self.trains_text and self.samples != "halves":
            raise ValueError(
                "'training.objective: distillation' needs 'training.samples: halves', so that the teacher reads more, "
                f"got '{self.samples}'"
            )
        return self

    @property
    def distills(self) -> bool:
        """Whether a teacher's distributions are learned."""
        return self.objective == "distillation"

    @property
    def epochs(self) -> int:
        """Epochs of both stages together."""
        return self.context_epochs + self.joint_epochs

    @property
    def trains_text(self) -> bool:
        """Whether the document's text is trained, and not pairs alone."""
        return bool(self.context_epochs or (self.joint_epochs and self.joint_segments))

    @property
    def freezes_context(self) -> bool:
        """Whether what the samples of a step begin with is read once and without a gradient."""
        return self.contextualized and self.window_draw == "step"


class ComputeSettings(Settings):
    """How work is laid out on the machine. This changes only rounding, so it is not part of the digest."""

    micro_batch_tokens: PositiveInt | Literal["auto"] = "auto"
    """Maximum number of tokens, with padding, of one forward pass in training; a longer sample gets its own pass.
    ``auto``: as many as fit in the free memory and still save time."""
    gradient_checkpointing: bool | Literal["auto"] = "auto"
    """Whether activations are recomputed in the backward pass; ``auto``: only if they do not fit in memory."""
    answer_batch: PositiveInt = 16
    """Maximum number of questions decoded together."""
    documents: PositiveInt | Literal["auto"] = "auto"
    """Number of documents whose adapters are trained in one batch; ``auto``: on a GPU as many as fill a micro-batch and
    fit in memory, on a CPU one, since more take longer there."""


class Recipe(Settings):
    """One way to answer questions about documents: an adapter, its training, the prompt and the number formats."""

    name: str = "custom"
    """Its name in results and reports; for a shipped recipe, the name of its file."""
    description: str = ""
    """What it does, for ``lift-eval recipes``."""
    reproduces: str = ""
    """The published run that the recipe reproduces, if any."""
    adapter: Adapter = NoAdapter()
    training: TrainingSettings = TrainingSettings()
    auxiliary: AuxiliarySettings = AuxiliarySettings()
    prompt: PromptSettings = PromptSettings()
    decoding: DecodingSettings = DecodingSettings()
    precision: PrecisionSettings = PrecisionSettings()
    compute: ComputeSettings = ComputeSettings()
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of all randomness; each document's seed is derived from it."""

    # Rules between groups hang on the later group, so that a fault elsewhere does not hide them.
    @field_validator("training")
    @classmethod
    def _epochs_fit_adapter(cls, training: TrainingSettings, info: ValidationInfo) -> TrainingSettings:
        adapter = info.data.get("adapter")
        if adapter is not None and adapter.trained and not training.epochs:
            raise ValueError(
                f"adapter '{adapter.type}' needs 'training.context_epochs' or 'training.joint_epochs' of 1 or more, "
                "got 0 and 0; for no training use 'adapter: {type: none}'"
            )
        if adapter is not None and not adapter.trained and training.epochs:
            raise ValueError(
                f"'adapter.type: {adapter.type}' has nothing to train, got {training.epochs} epochs; set another or "
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
        own_segments = auxiliary.method.own_segments
        if training is not None and training.contextualized and own_segments:
            raise ValueError(
                f"'auxiliary.strategy: {auxiliary.strategy}' trains {own_segments} without windows, so it needs "
                "'training.contextualized: false', got true"
            )
        if training is not None and training.samples != "segments" and own_segments:
            raise ValueError(
                f"'auxiliary.strategy: {auxiliary.strategy}' trains {own_segments}, so it needs 'training.samples: "
                f"segments', got '{training.samples}'"
            )
        if (
            training is not None
            and auxiliary.loss_on == "text"
            and (training.distills or training.freezes_context)
        ):
            raise ValueError(
                "'auxiliary.loss_on: text' needs 'training.objective: next_token' and another "
                f"'training.window_draw' than step, got '{training.objective}' and '{training.window_draw}'"
            )
        if training is not None and training.distills and has_pairs:
            _check_distilled_pairs(auxiliary)
        return auxiliary

    @field_validator("compute")
    @classmethod
    def _documents_fit(cls, compute: ComputeSettings, info: ValidationInfo) -> ComputeSettings:
        adapter, training, auxiliary = (info.data.get(name) for name in ("adapter", "training", "auxiliary"))
        if compute.documents in (1, "auto") or adapter is None or training is None or auxiliary is None:
            return compute
        if reason := _why_alone(adapter, training, auxiliary):
            raise ValueError(
                f"'compute.documents' must be 1 or auto with {reason}, got {compute.documents}; in one batch train "
                "'lora' or 'pissa' on the text itself, without dropout"
            )
        return compute

    @property
    def trains_together(self) -> bool:
        """Whether several documents can be trained in one batch, each as if it were alone."""
        return self.trains and not _why_alone(self.adapter, self.training, self.auxiliary)

    @field_validator("decoding")
    @classmethod
    def _adapter_can_wait(cls, decoding: DecodingSettings, info: ValidationInfo) -> DecodingSettings:
        adapter = info.data.get("adapter")
        if adapter is None or decoding.adapter == "always":
            return decoding
        if adapter.type == "none" or adapter.positions(1):
            raise ValueError(
                "'decoding.adapter: decoding_only' needs an adapter that changes how the model computes, got "
                f"'adapter.type: {adapter.type}'; set decoding.adapter=always"
            )
        return decoding

    @property
    def trains(self) -> bool:
        """Whether documents are fine-tuned at all; false for ICL, and for adapters made elsewhere."""
        return self.adapter.trained

    def settled(self, tokenizer: Any) -> Recipe:  # noqa: ANN401
        """This recipe for one tokenizer; see `PromptSettings.settled`."""
        return self.model_copy(
            update={"prompt": self.prompt.settled(has_template=bool(tokenizer.chat_template))}
        )

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
                "prompt": self.prompt.model_copy(update=PromptSettings().contents),
            }
        )
        return asked.digest


def _check_distilled_pairs(auxiliary: AuxiliarySettings) -> None:
    """Refuse pairs of which the adapted model reads as much as the teacher, or whose answer is not encoded apart."""
    if not all(map(auxiliary.leaves_document_out, auxiliary.prompts_in_turn)):
        raise ValueError(
            "'training.objective: distillation' needs 'auxiliary.prompts' of closed_book or task_closed_book, or an "
            "'auxiliary.template' without the document, since the teacher alone reads a pair's passage, got "
            f"{list(auxiliary.prompts_in_turn)}"
        )
    if auxiliary.encoding != "separate":
        raise ValueError(
            "'training.objective: distillation' needs 'auxiliary.encoding: separate', so that the teacher reads the "
            f"same answer, got '{auxiliary.encoding}'"
        )


def settings_keys() -> list[str]:
    """Every dotted key that a recipe may hold, in order."""
    return list(keys_of(Recipe))


def _why_alone(adapter: Adapter, training: TrainingSettings, auxiliary: AuxiliarySettings) -> str:
    """The first setting for which documents are trained one by one; empty where there is none."""
    reasons = {
        f"'adapter.type: {adapter.type}'"
        + (" and its dropout or DoRA" if adapter.type in ("lora", "pissa") else ""): not adapter.stacks,
        f"'training.objective: {training.objective}'": training.distills,
        f"'training.samples: {training.samples}'": training.samples == "spans",
        f"'training.window_draw: {training.window_draw}'": training.freezes_context,
        f"'auxiliary.generator: {auxiliary.generator}'": auxiliary.in_background,
    }
    return next((setting for setting, alone in reasons.items() if alone), "")
