"""The peer: LIFT as one writes it with ``peft`` and ``transformers.Trainer`` after reading the published README.

The base is loaded anew for each document, each sample is one batch, the samples of a step are gathered by gradient
accumulation, and each question is one call of ``generate``.
"""

# ruff: noqa: ANN401 - models and tokenizers of transformers have no types

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, TaskType, get_peft_model
from transformers import AutoModelForCausalLM, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from lift_eval.recipe import LoraSettings, TrainingSettings
from lift_eval.training.samples import Sample

IGNORED = -100


def load(checkpoint: Path, adapter: LoraSettings, *, seed: int, device: str, dtype: torch.dtype) -> Any:
    """Load the base and give it a LoRA, as is done for each document."""
    base = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=dtype).to(device)
    torch.manual_seed(seed)
    return get_peft_model(
        base,
        LoraConfig(
            task_type=TaskType.CAUSAL_LM,
            r=adapter.rank,
            lora_alpha=adapter.alpha,
            lora_dropout=adapter.dropout,
            target_modules=adapter.targets if isinstance(adapter.targets, str) else list(adapter.targets),
            init_lora_weights=adapter.init,
        ),
    )


class _Losses(TrainerCallback):
    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        if logs and "loss" in logs:
            self.losses.append(float(logs["loss"]))


def train(
    model: Any,
    steps: Sequence[Sequence[Sample]],
    settings: TrainingSettings,
    *,
    checkpointing: bool,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[list[float], float]:
    """Train on steps, in their order; each run of equally large ones is a stage, and all share one optimizer.

    Returns:
        The loss of each step, and the seconds that ``Trainer.train`` took.
    """
    losses, spent = _Losses(), 0.0
    optimizer = None
    with tempfile.TemporaryDirectory() as scratch:
        for _, stage in groupby(steps, key=len):
            trainer = _trainer(model, list(stage), settings, scratch, checkpointing=checkpointing)
            trainer.add_callback(losses)
            trainer.optimizer = optimizer  # none in the first stage
            optimizer = trainer.create_optimizer()
            began = clock()
            trainer.train()
            if model.device.type == "cuda":
                torch.cuda.synchronize()
            spent += clock() - began
    return losses.losses, spent


def prepare(model: Any, settings: TrainingSettings) -> Trainer:
    """Make the Trainer and its optimizer, and do nothing with it."""
    one = Sample(torch.tensor([1]), torch.tensor([1]))
    with tempfile.TemporaryDirectory() as scratch:
        trainer = _trainer(model, [[one]], settings, scratch, checkpointing=False)
        trainer.create_optimizer()
        return trainer


def _trainer(
    model: Any,
    steps: Sequence[Sequence[Sample]],
    settings: TrainingSettings,
    scratch: str,
    *,
    checkpointing: bool,
) -> Trainer:
    rows = [
        {
            "input_ids": torch.cat([sample.context, sample.target]),
            "labels": torch.cat([torch.full_like(sample.context, IGNORED), sample.target]),
        }
        for step in steps
        for sample in step
    ]
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=scratch,
            per_device_train_batch_size=1,
            gradient_accumulation_steps=len(steps[0]),
            num_train_epochs=1,
            train_sampling_strategy="sequential",
            learning_rate=settings.learning_rate,
            adam_beta1=settings.betas[0],
            adam_beta2=settings.betas[1],
            adam_epsilon=settings.eps,
            weight_decay=settings.weight_decay,
            max_grad_norm=settings.max_grad_norm,
            lr_scheduler_type="constant",
            gradient_checkpointing=checkpointing,
            gradient_checkpointing_kwargs={"use_reentrant": False} if checkpointing else None,
            bf16=model.dtype == torch.bfloat16,
            use_cpu=model.device.type == "cpu",
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        ),
        train_dataset=rows,
        data_collator=lambda batch: {key: torch.stack([row[key] for row in batch]) for key in batch[0]},
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def answer(model: Any, tokenizer: Any, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[str]:
    """Answer each question with a greedy ``generate`` of its own."""
    model.eval()
    answers = []
    with torch.inference_mode():
        for prompt in prompts:
            ids = torch.tensor([list(prompt)], device=model.device)
            output = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
            )
            answers.append(tokenizer.decode(output[0, len(prompt) :], skip_special_tokens=True))
    return answers
