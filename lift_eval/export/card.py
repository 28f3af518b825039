"""The card of an exported adapter: what it is, and how it is loaded, served and asked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft import PeftConfig, PeftType

from lift_eval import __version__
from lift_eval.models.gguf import folder_and_file
from lift_eval.recipe import PromptSettings, Recipe

VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes for ``--max-lora-rank``."""


def write_card(
    folder: Path,
    model: Any,  # noqa: ANN401
    recipe: Recipe,
    origin: tuple[str, str],
    config: PeftConfig | None,
    scores: Mapping[str, str],
) -> None:
    """Write ``README.md`` beside the exported files.

    Args:
        folder: Where they are.
        model: The adapted model.
        recipe: What the adapter was trained by.
        origin: Name and digest of the document that it was trained on.
        config: The adapter's configuration as it was exported. None means that it was merged.
        scores: What the adapter scored on its document, by task and metric.
    """
    base = str(model.config._name_or_path)
    kind = "transformers" if config is None else "peft"
    place = '"FOLDER"' if config is None else _place(base)
    loaded = f"AutoModelForCausalLM.from_pretrained({place})"
    call = loaded if config is None else f'PeftModel.from_pretrained({loaded}, "FOLDER")'
    facts = {
        "Base model": f"`{base}`",
        "Base in training": f"{model.dtype}, quantization: {recipe.precision.quantization}",
        "Recipe": f"{recipe.name}, adapter: {recipe.adapter.type}",
        "Document": origin[0],
        "SHA-256 of title and text": f"`{origin[1]}`",
        **_rank(config),
        **{f"Score, {name}": score for name, score in scores.items()},
    }
    lines = [
        "---",
        f"base_model: {base}",
        f"library_name: {kind}",
        "tags: [lift]",
        "---",
        f"# {origin[0]}",
        "",
        f"{'A model' if config is None else 'An adapter'} that lift_eval {__version__} fine-tuned on one document.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in facts.items()),
        "",
        *([recipe.adapter.loading, ""] if config is not None and recipe.adapter.loading else []),
        f"    model = {call}",
        "",
        *_asking(recipe.prompt),
    ]
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _asking(prompt: PromptSettings) -> list[str]:
    """How questions are put: in the form of training, with the document and without it."""
    form = "as a user message in the tokenizer's chat template" if prompt.chat_template else "as plain text"
    system = f", with the system message `{prompt.system}`" if prompt.system else ""
    shown = ", behind the recipe's demonstrations" if prompt.demonstrations else ""
    return [
        f"Ask as it was trained: {form}{system}{shown}. With the document in the prompt:",
        "",
        *(f"    {line}" for line in prompt.template.splitlines()),
        "",
        "Without it:",
        "",
        *(f"    {line}" for line in prompt.closed_book_template.splitlines()),
    ]


def _place(base: str) -> str:
    """The arguments by which transformers loads a base model."""
    folder, file = folder_and_file(base)
    if not file:
        return f'"{folder}"'
    return f'"{folder}", gguf_file="{file["gguf_file"]}", quantization_config=GgufConfig(dequantize=True)'


def _rank(config: Any) -> dict[str, str]:  # noqa: ANN401 - PeftConfig
    """The rank of a LoRA, and what vLLM must be told of it; nothing of other methods."""
    if config is None or config.peft_type != PeftType.LORA:
        return {}
    rank = max([config.r, *config.rank_pattern.values()])
    taken = next((most for most in VLLM_RANKS if most >= rank), None)
    flag = "more than vLLM supports" if taken is None else f"vLLM: `--max-lora-rank {taken}`"
    return {"Rank": f"{rank}; {'vLLM does not load DoRA' if config.use_dora else flag}"}
