"""What may stand in ``--model_args`` of the model ``lift``."""

from __future__ import annotations

from collections.abc import Mapping

from lift_eval.errors import RecipeError, nearest
from lift_eval.recipe import Recipe, load_recipe

OWN_ARGUMENTS = (
    "pretrained", "recipe", "document_field", "device", "device_map", "attn_implementation", "store", "workers",
    "judge",
)  # fmt: skip
HF_ARGUMENTS = (
    "revision", "subfolder", "tokenizer", "max_length", "batch_size", "max_batch_size", "trust_remote_code",
    "prefix_token_id", "chat_template_args", "enable_thinking", "softmax_dtype", "logits_cache",
)  # fmt: skip
"""Arguments of lm-eval's ``hf`` model that keep their meaning."""

JUDGE_VARIABLE = "LIFT_EVAL_JUDGE"
"""The environment variable that names the judge where ``judge`` does not."""

REPLACED_ARGUMENTS = {
    "peft": "the recipe's 'adapter' group makes the adapter",
    "load_in_4bit": "use precision.quantization=nf4",
    "load_in_8bit": "use precision.quantization=int8",
    "dtype": "use precision.dtype=float32 or precision.dtype=bfloat16",
    "parallelize": "use device_map=auto",
    "add_bos_token": "use prompt.bos=true or prompt.bos=false",
    "think_end_token": "answers are scored as they are; use enable_thinking=False",
}


def recipe_from_arguments(recipe: str, arguments: Mapping[str, object]) -> Recipe:
    """Resolve the recipe and check all arguments that are not lm-eval's own.

    Args:
        recipe: The recipe's name or file.
        arguments: Dotted keys of the recipe, ``seed``, and whatever else was given.

    Raises:
        RecipeError: With all faults of arguments and recipe together.
    """
    overrides = {key: value for key, value in arguments.items() if "." in key or key == "seed"}
    known = (*OWN_ARGUMENTS, *HF_ARGUMENTS, "seed")
    faults = [
        f"'{key}' is not an argument of model 'lift': {REPLACED_ARGUMENTS[key]}"
        if key in REPLACED_ARGUMENTS
        else f"unknown argument '{key}' (value {value!r}){nearest(key, known)}"
        for key, value in arguments.items()
        if key not in overrides
    ]
    try:
        resolved = load_recipe(recipe, overrides)
    except RecipeError as error:
        if not faults:
            raise
        raise RecipeError("model arguments", [*faults, *error.faults]) from None
    if faults:
        raise RecipeError("model arguments", faults)
    return resolved
