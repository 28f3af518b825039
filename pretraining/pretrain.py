"""Train the bundled model from scratch: ``python -m pretraining.pretrain --out FOLDER``.

The run is a function of the seed and the number of steps, goes on from its last checkpoint in FOLDER, and uses a GPU
where there is one.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaForCausalLM

from lift_eval.tiny import tokenizer
from lift_eval.tiny.model import config, new
from pretraining import evaluate
from pretraining.mixture import Mixture
from pretraining.muon import Muon
from pretraining.packing import Batch

ROWS, LENGTH = 16, 384
STEPS, SEED = 2000, 1
WARM_UP, DECAY = 60, 0.4


def say(text: str) -> None:
    """Write one line of progress."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def rate(step: int, steps: int) -> float:
    """Share of the peak learning rate: rises over WARM_UP steps, constant, falls linearly over the last DECAY."""
    return min(1.0, (step + 1) / WARM_UP, (steps - step) / (DECAY * steps))


def optimizer_of(model: LlamaForCausalLM) -> Muon:
    """Muon on the matrices of the layers, AdamW on embeddings and norms."""
    matrices = [weight for weight in model.model.layers.parameters() if weight.ndim == 2]
    chosen = {id(weight) for weight in matrices}
    others = [weight for weight in model.parameters() if id(weight) not in chosen]
    return Muon(matrices, others, lr=0.015, others_lr=3e-3)


def train_step(
    model: LlamaForCausalLM,
    optimizer: Muon,
    batch: Batch,
    share: float,
    body: Callable[..., Any] | None = None,
) -> float:
    """One optimizer step; the loss is normalized over the weights of all supervised tokens."""
    where = batch.weights > 0
    weights = batch.weights[where]
    losses = torch.nn.functional.cross_entropy(
        evaluate.logits(model, batch, where, body), batch.targets[where], reduction="none"
    )
    loss = (losses * weights).sum() / weights.sum()
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * share
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(loss.detach())


def report(model: LlamaForCausalLM, mixture: Mixture, step: int) -> dict[str, float]:
    """The figures of `evaluate`, and what is remembered of the oldest recurring article."""
    model.eval()
    found = evaluate.figures(model, mixture.tokenizer)
    for number in mixture.pool(step)[:1]:
        oldest = mixture.recurring(number)
        asked = [(fact.questions[0], fact.answer) for _, fact in oldest.facts]
        tree = mixture.reading(mixture.encode(oldest.title), asked)
        right, total = evaluate.exact_match(model, [tree], length=1024, rows=1)
        found["remembered"] = round(right / total, 3)
    model.train()
    return found


def save_state(folder: Path, model: LlamaForCausalLM, optimizer: Muon, step: int, seconds: float) -> None:
    """Write the state of the run; a state is written whole or not at all."""
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
        "seconds": seconds,
    }
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / "state.new")
    (folder / "state.new").replace(folder / "state.pt")


def load_state(folder: Path, model: LlamaForCausalLM, optimizer: Muon) -> tuple[int, float]:
    """Take up the state of a run, if there is one; returns the steps and seconds done."""
    path = folder / "state.pt"
    if not path.exists():
        return 0, 0.0
    saved = torch.load(path, weights_only=True, map_location=model.device)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    return int(saved["step"]), float(saved["seconds"])


def export(folder: Path, model: LlamaForCausalLM, mixture: Mixture) -> None:
    """Write the checkpoint that is shipped: weights in float16, tokenizer, configurations."""
    half = LlamaForCausalLM(model.config)
    half.load_state_dict(model.state_dict())
    half = half.half()
    half.generation_config.do_sample = False
    half.save_pretrained(folder)
    mixture.tokenizer.save_pretrained(folder)


def main(arguments: list[str] | None = None) -> None:
    """Train, or go on training, and write the checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m pretraining.pretrain", description=__doc__)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the run and of the finished checkpoint"
    )
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--evaluate-every", type=int, default=200)
    parser.add_argument(
        "--compile", action="store_true", help="torch.compile the model: faster, same samples"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(arguments)

    words = tokenizer.build()
    mixture = Mixture(words, options.seed, ROWS, LENGTH)
    model = new(config(words), options.seed).to(options.device)
    optimizer = optimizer_of(model)
    first, seconds = load_state(options.out, model, optimizer)
    options.out.mkdir(parents=True, exist_ok=True)
    say(f"{sum(weight.numel() for weight in model.parameters()):,} weights, step {first} of {options.steps}")
    body = torch.compile(model.model) if options.compile else None
    started = time.monotonic() - seconds
    average = 0.0
    for step in range(first, options.steps):
        batch = Batch(*(tensor.to(options.device) for tensor in mixture.batch(step)))
        loss = train_step(model, optimizer, batch, rate(step, options.steps), body)
        average = loss if step == first else 0.95 * average + 0.05 * loss
        done = step + 1
        if done % 20 == 0:
            spent = time.monotonic() - started
            say(
                f"step {done} loss {average:.3f} {ROWS * LENGTH * done / spent:.0f} tokens/s {spent / 60:.1f} min"
            )
        if done % options.evaluate_every == 0 or done == options.steps:
            figures = report(model, mixture, step)
            say(json.dumps({"step": done} | figures))
            with (options.out / "progress.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps({"step": done, "loss": round(average, 4)} | figures) + "\n")
            save_state(options.out, model, optimizer, done, time.monotonic() - started)
    export(options.out, model, mixture)
    say(f"written to {options.out}")


if __name__ == "__main__":
    main()
