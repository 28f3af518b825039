"""What the store costs: telling base models apart, keeping an adapter of an 8B model, and taking it up again.

python perf/store.py
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from lift_eval.store import KeptAnswer, KeptAnswers, Store, Training, base_identity, entry_key

# LoRA of rank 128 on q, k, v and o of Llama 3 8B: 32 layers, hidden size 4096, key and value size 1024.
RANK, LAYERS = 128, 32
SHAPES = {"q_proj": (4096, 4096), "k_proj": (4096, 1024), "v_proj": (4096, 1024), "o_proj": (4096, 4096)}


def seconds(work: Callable[[], Any]) -> float:
    """Wall-clock time of some work."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def adapter() -> dict[str, torch.Tensor]:
    """Random tensors of the adapter's shapes, in float32 as they are trained."""
    tensors = {}
    for layer in range(LAYERS):
        for name, (inputs, outputs) in SHAPES.items():
            tensors[f"{layer}.{name}.lora_A"] = torch.randn(RANK, inputs)
            tensors[f"{layer}.{name}.lora_B"] = torch.randn(outputs, RANK)
    return tensors


def main() -> None:
    """Print the figures."""
    config = AutoConfig.for_model("llama", num_hidden_layers=1, vocab_size=32000)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    size = sum(weight.nbytes for weight in model.parameters())
    spent = seconds(lambda: base_identity(model))
    print(f"identity of a base model: {size / 1e9:.1f} GB in {spent:.2f} s, {size / spent / 1e9:.1f} GB/s")
    tensors = adapter()
    size = sum(tensor.nbytes for tensor in tensors.values())
    training = Training(losses=[1.0] * 200, trained_tokens=1, supervised_tokens=1, pairs={}, seconds={})
    answers = KeptAnswers(answers=[KeptAnswer(text="an answer " * 10, complete=True)] * 30)
    keys = [entry_key("example", number=number) for number in range(200)]
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        kept = seconds(lambda: store.save_tensors(keys[0], training, tensors))
        read = seconds(lambda: store.load_tensors(Training, keys[0], tensors))
        print(f"adapter of {size / 1e6:.0f} MB: kept in {kept:.2f} s, taken up in {read:.2f} s")
        kept = statistics.median(seconds(partial(store.save, key, answers)) for key in keys)
        read = statistics.median(seconds(partial(store.load, KeptAnswers, key)) for key in keys)
        print(f"30 answers (median of 200): kept in {kept * 1e3:.2f} ms, taken up in {read * 1e3:.2f} ms")
        print(f"list of {len(store.entries())} entries: {seconds(store.entries) * 1e3:.1f} ms")


if __name__ == "__main__":
    main()
