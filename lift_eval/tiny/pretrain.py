"""Train the bundled model from scratch: ``python -m lift_eval.tiny.pretrain --out FOLDER``.

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
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from lift_eval.tiny import evaluate, tokenizer
from lift_eval.tiny.mixture import Batch, Mixture
from lift_eval.tiny.model import config, new
from lift_eval.tiny.muon import Muon

ROWS, LENGTH = 16, 384
STEPS, SEED = 1500, 1
WARM_UP, DECAY = 40, 0.4


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
    """Evaluate on development names; recurring articles are those alive at the step."""
    model.eval()
    figures: dict[str, float] = {}
    for tokens in (96, 160, 240):
        for joint in (False, True):
            right, total = evaluate.in_context(model, mixture, tokens, 48, joint)
            figures[f"context_{tokens}_{'long' if joint else 'short'}"] = right / total
    for sentences in (1, 4):
        for temperature in (0.0, 1.0):
            shares = evaluate.pair_yield(model, mixture.tokenizer, 100, sentences, temperature)
            figures |= {
                f"pairs_{sentences}_t{temperature:.0f}_{name}": value for name, value in shares.items()
            }
    alive = mixture.pool(step)
    if alive:
        oldest = mixture.recurring(alive[0])
        asked = [(fact.questions[0], fact.answer) for _, fact in oldest.facts]
        asked_long = [(joint.question, joint.answer) for joint in oldest.joints]
        prefix = mixture.encode(oldest.title)
        for name, questions in (("short", asked), ("long", asked_long)):
            right, total = evaluate.exact_match(
                model, [mixture.reading(prefix, questions)], length=1024, rows=1
            )
            figures[f"remembered_{name}"] = right / total
    model.train()
    return {name: round(value, 3) for name, value in figures.items()}


def _save(folder: Path, model: LlamaForCausalLM, optimizer: Muon, step: int, seconds: float) -> None:
    """Write the state of the run; the weights come last, so that a half-written state is never taken up."""
    state = folder / "state"
    state.mkdir(parents=True, exist_ok=True)
    torch.save(
        {"optimizer": optimizer.state_dict(), "step": step, "seconds": seconds}, state / "optimizer.new"
    )
    save_file(
        {name: value.contiguous() for name, value in model.model.state_dict().items()}, state / "model.new"
    )
    (state / "optimizer.new").replace(state / "optimizer.pt")
    (state / "model.new").replace(state / "model.safetensors")


def _resume(folder: Path, model: LlamaForCausalLM, optimizer: Muon) -> tuple[int, float]:
    state = folder / "state"
    if not (state / "model.safetensors").exists():
        return 0, 0.0
    model.model.load_state_dict(load_file(state / "model.safetensors"))
    saved = torch.load(state / "optimizer.pt", weights_only=True)
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
    parser = argparse.ArgumentParser(prog="python -m lift_eval.tiny.pretrain", description=__doc__)
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
    mixture = Mixture(words, options.seed, options.steps, ROWS, LENGTH)
    model = new(config(words), options.seed).to(options.device)
    optimizer = optimizer_of(model)
    first, seconds = _resume(options.out, model, optimizer)
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
            _save(options.out, model, optimizer, done, time.monotonic() - started)
    export(options.out, model, mixture)
    say(f"written to {options.out}")


if __name__ == "__main__":
    main()
