"""Predicted and measured peaks of memory: each case is predicted in one process and run in another.

On a CPU the peak is that of the process, on a GPU that of torch's tensors.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import transformers
from common.setting import about, bundled, console, document_of, print_table, text_of
from transformers import LlamaConfig, LlamaForCausalLM

import lift_eval.harness.model  # noqa: F401 - a run has it in memory
from lift_eval import load_recipe
from lift_eval.lifter.lifter import Lifter
from lift_eval.memory.predict import Prediction, free_bytes, predict
from lift_eval.models.loading import context_window, load_config, resolve_device
from lift_eval.recipe import Recipe
from lift_eval.record.peak_memory import peak_memory_bytes
from lift_eval.store import Store
from lift_eval.tiny.blank import train_tokenizer, write_checkpoint

MIB = 2**20
FEW_ANSWERS = {"prompt.max_tokens": 512, "decoding.max_new_tokens": 4, "compute.answer_batch": 2}
SHORT = {"training.context_epochs": 2, **FEW_ANSWERS}


@dataclass(frozen=True)
class Case:
    """A run.

    Attributes:
        model: "bundled", "small" (1 M weights) or "llama" (123 M weights); random but for the first.
        recipe: A shipped recipe.
        tokens: Of the document.
        changes: Of the recipe.
    """

    model: str
    recipe: str
    tokens: int
    changes: dict[str, Any] = field(default_factory=dict)


def checkpointing(on: bool) -> dict[str, bool]:
    """The change of a recipe."""
    return {"compute.gradient_checkpointing": on}


WHOLE_8K = {
    "training.context_epochs": 1,
    "training.stride_tokens": 2048,
    "compute.micro_batch_tokens": 8192,
    **FEW_ANSWERS,
}
CONVERSED = {
    "auxiliary.strategy": "summaries", "auxiliary.pairs": 4, "auxiliary.chunk_characters": [32768, 32768],
    "auxiliary.max_tokens": 64, "auxiliary.chat_template": False, "auxiliary.batch": 4,
    "prompt.max_tokens": 4096,
}  # fmt: skip
"""Replies of a random model do not end, which a message must; a summary may be cut off. A chunk is the whole document,
whose tokens are known: the prediction knows a shorter one by its characters, at four to a token."""
GATED = {"adapter": {"type": "gated_memory", "lm_head_rank": 2, "lm_head_alpha": 4}}
CASES = {
    "bundled model, tiny": Case("bundled", "tiny", 2000),
    "lora, 2k": Case("llama", "lora", 2048, {**SHORT, **checkpointing(False)}),
    "lora, 2k, checkpointing": Case("llama", "lora", 2048, {**SHORT, **checkpointing(True)}),
    "lora, 8k at once": Case("llama", "lora", 8192, {**WHOLE_8K, **checkpointing(False)}),
    "lora, 8k at once, checkpointing": Case("llama", "lora", 8192, {**WHOLE_8K, **checkpointing(True)}),
    "gated memory, 2k": Case("llama", "lora", 2048, {**SHORT, **GATED}),
    "lora, nf4, 2k": Case("llama", "lora", 2048, {**SHORT, "precision.quantization": "nf4"}),
    "lora, 16 questions of 2k": Case(
        "llama", "lora", 2048, {"training.context_epochs": 1, "training.segment_tokens": 256,
        "training.stride_tokens": 256, "prompt.max_tokens": 2048, "decoding.max_new_tokens": 4}
    ),
    "fast, 2k": Case(
        "llama", "fast", 2048, {"training.segment_tokens": 512, "training.stride_tokens": 384,
        "training.window_tokens": 1024, "training.context_epochs": 1, "training.joint_epochs": 1,
        "auxiliary.chat_template": False, "auxiliary.pairs": 2, "auxiliary.max_tokens": 16, "auxiliary.batch": 2,
        "precision.dtype": "float32", "precision.quantization": "none", **FEW_ANSWERS}
    ),
    "cartridge, 2k": Case("llama", "cartridge", 2048, {**FEW_ANSWERS, **CONVERSED}),
    "context distillation, 2k": Case(
        "llama", "context_distillation", 2048, {"training.joint_epochs": 2, **FEW_ANSWERS, **CONVERSED}
    ),
    "small model, 10,000 words": Case("small", "lora", 13_000, {"training.context_epochs": 1}),
    "small model, 100,000 words": Case("small", "lora", 130_000, {"training.context_epochs": 1}),
}  # fmt: skip


def make_checkpoint(kind: str, folder: Path) -> Path:
    """Write a random model, or find the bundled one."""
    if kind == "bundled":
        found = bundled()
        assert found is not None, "there is no bundled model"
        return found
    if kind == "small":
        write_checkpoint(folder, [text_of(4000)])
        return folder
    tokenizer = train_tokenizer([text_of(4000)])
    config = LlamaConfig(
        vocab_size=64_000, hidden_size=768, intermediate_size=2048, num_hidden_layers=4, num_attention_heads=12,
        num_key_value_heads=4, max_position_embeddings=16_384, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def predicted(case: Case, folder: Path) -> Prediction:
    """What the package says."""
    device = resolve_device(None)
    config = load_config(str(folder))
    return predict(
        config,
        load_recipe(case.recipe, case.changes),
        device=device,
        document_tokens=case.tokens,
        window=context_window(config, None),
        free=free_bytes(device),
    )


def run(case: Case, folder: Path) -> int:
    """Lift a document and answer questions, with a store as any run has one; the peak in bytes."""
    recipe = load_recipe(case.recipe, case.changes)
    with tempfile.TemporaryDirectory() as store:
        return _run(case, Lifter.from_pretrained(folder, recipe, store=Store(Path(store))), recipe)


def _run(case: Case, lifter: Lifter, recipe: Recipe) -> int:
    with lifter.lift(document_of(lifter.tokenizer, case.tokens)) as session:
        session.answer(
            [f"What happened in {1500 + number}?" for number in range(recipe.compute.answer_batch)]
        )
    return peak_memory_bytes()


def apart(what: str, name: str, folder: Path) -> Any:  # noqa: ANN401 - of JSON
    """What a process of its own, asked to predict or to run a case, says last."""
    command = [sys.executable, __file__, f"--{what}", name, "--model", str(folder)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(ran.stdout.splitlines()[-1])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=str(sys.modules[__name__].__doc__))
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="NAME")
    parser.add_argument("--run", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--predict", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore")
    if arguments.run:
        sys.stdout.write(f"{run(CASES[arguments.run], arguments.model)}\n")
        return
    if arguments.predict:
        told = predicted(CASES[arguments.predict], arguments.model)
        largest = told.largest_phase
        sys.stdout.write(json.dumps([told.of(""), told.of(largest), largest, told.peak]) + "\n")
        return
    device = resolve_device(None)
    console.print(about("several models", device.type, "float32"), markup=False)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in arguments.cases:
            case = CASES[name]
            folder = make_checkpoint(case.model, Path(scratch) / case.model)
            lasting, phase, largest, peak = apart("predict", name, folder)
            true = apart("run", name, folder)
            rows.append(
                [
                    name,
                    f"{lasting / MIB:.0f}",
                    f"{phase / MIB:.0f}",
                    largest,
                    f"{peak / MIB:.0f}",
                    f"{true / MIB:.0f}",
                    f"{peak / true:.2f}",
                ]
            )
            console.print(*rows[-1], sep=" | ")
    heads = ["MiB", "lasting", "largest phase", "which", "predicted", "measured", "ratio"]
    print_table("Peak memory", heads, rows)


if __name__ == "__main__":
    main()
