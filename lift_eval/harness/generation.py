"""How lm-eval asks for answers to be generated: a task's ``generation_kwargs`` and ``--gen_kwargs``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, Literal

from lm_eval.models.utils import normalize_gen_kwargs
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from lift_eval.answering.decoding import Decoding
from lift_eval.errors import RecipeError, sentences_of
from lift_eval.prompts.prompt import PromptEncoder

INSTEAD = {
    "stop": "use until",
    "stop_sequences": "use until",
    "max_length": "it would count the prompt too; use max_gen_toks",
    "num_return_sequences": "a question has one answer; leave it out",
    "n": "a question has one answer; leave it out",
    "seed": "use --seed, or seed= in --model_args",
}
"""Settings of other model classes, and what to use instead."""

OF_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")
"""Settings that mean nothing where the most probable token is taken."""

TRUNCATE, HALVES = "truncate", "halves"
"""The setting by which a task asks for another cut of its prompts than the recipe's, and its one value."""

PositiveInt = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Texts = Annotated[
    list[str | None], BeforeValidator(lambda value: value if isinstance(value, list) else [value])
]


class _Settings(BaseModel):
    """What may be set, by lm-eval's names and those of transformers."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    until: Texts = []
    max_gen_toks: PositiveInt | None = None
    max_new_tokens: PositiveInt | None = None
    max_tokens: PositiveInt | None = None
    max_completion_tokens: PositiveInt | None = None
    do_sample: bool | None = None
    temperature: Annotated[float, Field(ge=0)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    top_p: Share | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    typical_p: Share | None = None
    epsilon_cutoff: Annotated[float, Field(ge=0, lt=1)] | None = None
    eta_cutoff: Annotated[float, Field(ge=0, lt=1)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0)] | None = None
    no_repeat_ngram_size: Annotated[int, Field(ge=0)] | None = None
    min_new_tokens: Annotated[int, Field(ge=0)] | None = None
    num_beams: PositiveInt | None = None
    length_penalty: float | None = None
    early_stopping: bool | Literal["never"] | None = None
    renormalize_logits: bool | None = None
    truncate: Literal["halves"] | None = None

    @model_validator(mode="after")
    def _sampling_is_warm(self) -> _Settings:
        if self.do_sample and self.temperature == 0:
            raise ValueError(
                "'do_sample: true' needs a 'temperature' above 0, got 0; leave do_sample out for greedy decoding"
            )
        return self


def faults_of(settings: Mapping[str, Any]) -> list[str]:
    """The faults of settings of generation, one sentence each."""
    faults = [f"'{key}' cannot be set: {INSTEAD[key]}" for key in settings if key in INSTEAD]
    try:
        _Settings.model_validate({key: value for key, value in settings.items() if key not in INSTEAD})
    except ValidationError as error:
        faults += sentences_of(error, _Settings)
    return faults


def encoder_of(arguments: Sequence[Any], encoder: PromptEncoder) -> PromptEncoder:
    """The recipe's encoder, or the one whose cut a request asks for.

    Args:
        arguments: Of the request, as lm-eval hands them on.
        encoder: The recipe's.
    """
    settings = arguments[-1]
    return encoder.halving if isinstance(settings, dict) and settings.get(TRUNCATE) == HALVES else encoder


def read_decoding(settings: Mapping[str, Any], most_tokens: int, task: str) -> Decoding:
    """How an answer is decoded.

    Args:
        settings: Of one request, as lm-eval hands them on.
        most_tokens: Most tokens of an answer where the settings do not say.
        task: The request's task.

    Raises:
        RecipeError: With all faults of the settings.
    """
    return _read(json.dumps(settings, default=str), most_tokens, task)


@lru_cache(maxsize=256)
def _read(settings: str, most_tokens: int, task: str) -> Decoding:
    """The same for settings as JSON: all requests of a task have the same ones."""
    given = {key: value for key, value in json.loads(settings).items() if value is not None}
    faults = faults_of(given)
    if faults:
        raise RecipeError(f"generation settings of task '{task}'", faults)
    options = dict(normalize_gen_kwargs(given, most_tokens))
    stop = tuple(text for text in options.pop("until") if text)
    longest = options.pop("max_gen_toks")
    options.pop(TRUNCATE, None)  # of the prompt
    if not options["do_sample"]:
        for name in OF_SAMPLING:
            options.pop(name, None)
    return Decoding(longest, stop, options)
