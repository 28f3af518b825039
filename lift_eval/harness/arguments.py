"""What may stand in ``--model_args`` of the model ``lift``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from lift_eval.errors import RecipeError, nearest, sentences_of
from lift_eval.recipe import Recipe, load_recipe, settings_keys

OWN_ARGUMENTS = (
    "pretrained", "recipe", "document_field", "device", "device_map", "attn_implementation", "store", "workers",
    "judge",
)  # fmt: skip

ARGUMENTS = "model arguments"
"""What messages call the place of a fault here."""

REPLACED_ARGUMENTS = {
    "backend": "only causal language models are adapted; leave it out",
    "dtype": "use precision.dtype=float32 or precision.dtype=bfloat16",
    "mixed_precision_dtype": "use precision.dtype=bfloat16",
    "load_in_4bit": "use precision.quantization=nf4",
    "load_in_8bit": "use precision.quantization=int8",
    "autogptq": "a quantized checkpoint is recognized by its config.json; leave it out",
    "gptqmodel": "a quantized checkpoint is recognized by its config.json; leave it out",
    "peft": "the recipe's 'adapter' group makes the adapter",
    "delta": "add the delta to the weights first and name the result with pretrained=",
    "parallelize": "use device_map=auto",
    "max_memory_per_gpu": "use device_map=auto",
    "max_cpu_memory": "use device_map=auto",
    "offload_folder": "use device_map=auto; weights on a disk cannot be fine-tuned",
    "tp_plan": "use device_map=auto",
    "truncation": "prompts are cut in the middle; see prompt.max_tokens and prompt.truncate",
    "add_bos_token": "use prompt.bos=true or prompt.bos=false",
    "use_fast_tokenizer": "the tokenizer must be a fast one; leave it out",
}
"""Arguments of lm-eval's ``hf`` model that are refused, and what to use instead."""

RECIPE_KEYS = {
    "chat_template_args": "prompt.chat_template_args",
    "enable_thinking": "prompt.enable_thinking",
    "think_end_token": "prompt.think_end",
}
"""Arguments of lm-eval's ``hf`` model that are another name for a key of the recipe."""

Text = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, int) else value)]
"""Text that may look like a number, e.g. a commit: lm-eval's command line reads it as one."""
PositiveInt = Annotated[int, Field(ge=1)]
Token = Annotated[
    Annotated[str, Field(min_length=1)] | Annotated[int, Field(ge=0)],
    BeforeValidator(lambda value: int(value) if isinstance(value, str) and value.isdecimal() else value),
]
"""A token's text or its id; digits are an id, as for ``hf``."""


class HfArguments(BaseModel):
    """Arguments of lm-eval's ``hf`` model that keep their meaning; docs/arguments.md says what each one does."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    revision: Text = "main"
    subfolder: Text = ""
    gguf_file: str | None = None
    tokenizer: Any = None
    max_length: PositiveInt | None = None
    batch_size: int | str = 1
    max_batch_size: PositiveInt | None = 64
    trust_remote_code: bool = False
    prefix_token_id: Annotated[int, Field(ge=0)] | None = None
    chat_template_args: dict[str, Any] | None = None
    enable_thinking: bool | None = None
    think_end_token: Token | None = None
    softmax_dtype: Literal["float64", "float32", "bfloat16", "float16"] | None = None
    logits_cache: bool = True

    @field_validator("batch_size")
    @classmethod
    def _batch_size_is_a_number_or_auto(cls, size: int | str) -> int | str:
        word, _, times = str(size).partition(":")
        if word == "auto" and (not times or times.isdecimal()):
            return "auto"  # documents are scored one by one, so there is nothing to search for several times
        if not word.isdecimal() or times or not int(word):
            raise ValueError(f"'batch_size' must be a positive integer, auto or auto:N, got {size!r}")
        return int(word)

    def check(self, positions: int | None, vocabulary: int) -> None:
        """Refuse what does not fit the model.

        Args:
            positions: Positions that the model was made for; None means that there is no limit.
            vocabulary: Tokens that it knows.

        Raises:
            RecipeError: With all faults.
        """
        faults = []
        if positions is not None and (self.max_length or 0) > positions:
            faults.append(
                f"'max_length' must be at most the model's {positions} positions, got {self.max_length}; leave it out, "
                "or use a model with a longer window"
            )
        if (self.prefix_token_id or 0) >= vocabulary:
            faults.append(
                f"'prefix_token_id' must be one of the model's {vocabulary} tokens, got {self.prefix_token_id}"
            )
        if faults:
            raise RecipeError(ARGUMENTS, faults)


def read_arguments(recipe: str, arguments: Mapping[str, object]) -> tuple[Recipe, HfArguments]:
    """Resolve the recipe and check all arguments but `OWN_ARGUMENTS`.

    Args:
        recipe: The recipe's name or file.
        arguments: Dotted keys of the recipe, its groups as JSON has them, ``seed``, those of `HfArguments`, and
            whatever else was given.

    Raises:
        RecipeError: With all faults of arguments and recipe together.
        AdapterError: If peft refuses the adapter's settings.
    """
    given = {key: value for key, value in arguments.items() if key in HfArguments.model_fields}
    overrides = {key: value for key, value in arguments.items() if _belongs_to_recipe(key, value)}
    faults = [
        f"'{key}' is not an argument of model 'lift': {REPLACED_ARGUMENTS[key]}"
        if key in REPLACED_ARGUMENTS
        else f"unknown argument '{key}' (value {value!r}){_meant(key, value)}"
        for key, value in arguments.items()
        if key not in overrides and key not in given
    ]
    hf = HfArguments()
    try:
        hf = HfArguments.model_validate(given)
    except ValidationError as error:
        faults += sentences_of(error, HfArguments)
    if (
        isinstance(hf.batch_size, int) and hf.batch_size > 1
    ):  # 1 is what lm-eval says where nobody says anything
        overrides.setdefault("compute.answer_batch", hf.batch_size)
    for name, key in RECIPE_KEYS.items():
        if getattr(hf, name) is not None:
            overrides.setdefault(key, getattr(hf, name))
    try:
        resolved = load_recipe(recipe, overrides)
    except RecipeError as error:
        if not faults:
            raise
        raise RecipeError(ARGUMENTS, [*faults, *error.faults]) from None
    if faults:
        raise RecipeError(ARGUMENTS, faults)
    resolved.adapter.check_settings()
    # Questions and trained pairs go through the chat template in the same way, whoever said how.
    said = {
        "chat_template_args": resolved.prompt.template_variables,
        "enable_thinking": None,
        "think_end_token": None,
    }
    return resolved, hf.model_copy(update=said)


def with_flags(arguments: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """Model arguments and the flags of lm-eval's command line that are arguments too.

    Args:
        arguments: Model arguments.
        flags: Flags by name; None means that one is not given.

    Raises:
        RecipeError: If an argument is given in both ways.
    """
    given = {key: value for key, value in flags.items() if value is not None}
    twice = [
        f"'{key}' is a flag of lm-eval; write --{key} {arguments[key]}" for key in arguments.keys() & given
    ]
    if twice:
        raise RecipeError(ARGUMENTS, twice)
    return {**arguments, **given}


def _belongs_to_recipe(key: str, value: object) -> bool:
    return "." in key or key == "seed" or (key in Recipe.model_fields and isinstance(value, Mapping))


def _meant(key: str, value: object) -> str:
    """What an unknown argument was probably meant to be; most are keys of the recipe without their group."""
    names = {dotted: dotted.rpartition(".")[2] for dotted in settings_keys() if "." in dotted}
    if f"{key}.type" in names:
        return f"; did you mean '{key}.type={value}'?"
    alike = [dotted for dotted, name in names.items() if name == key]
    alike = alike or [dotted for dotted, name in names.items() if name.endswith(f"_{key}")]
    if alike:
        return f"; did you mean {' or '.join(map(repr, alike))}?"
    own = (*OWN_ARGUMENTS, *HfArguments.model_fields, "seed")
    meant = nearest(key, (*own, *names))
    if "did you mean" in meant:
        return meant
    return f"; known: {', '.join(own)}, and a recipe's keys, which 'lift-eval recipes show lora' prints"
