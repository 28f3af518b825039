"""What ``lift-eval doctor`` finds: what is installed, what will be used, what is missing and how to get it."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from huggingface_hub import constants

from lift_eval.cli.shared import green, yellow
from lift_eval.document import Document
from lift_eval.errors import counted
from lift_eval.judging import JUDGE_VARIABLE
from lift_eval.lifter.lifter import Lifter
from lift_eval.memory.predict import Prediction, free_bytes, is_here, predict
from lift_eval.memory.workload import SAFE_SHARE
from lift_eval.models.loading import BUNDLED, context_window, load_config, resolve_device, resolve_dtype
from lift_eval.recipe import PrecisionSettings, Recipe
from lift_eval.record.record import PACKAGES, versions

DOCUMENT_TOKENS = 24_000
"""Of a document of LooGLE, about."""
OPERATIONS_PER_SECOND = 100e12
"""A round number to tell times by, not what any GPU reaches."""
HUB = ("huggingface.co", 443)
HUB_TIMEOUT_SECONDS = 3.0
TRIAL_TEXT = """\
The ship Silver Heron was built in 1842. Nobody spoke about the fog near the quay. Otto Larkley was born in Kirmoor."""
TRIAL_QUESTION, TRIAL_ANSWER = "When was the ship Silver Heron built?", "1842"
TRIAL_FAILED = f"the answer should be {TRIAL_ANSWER}: install the versions of requirements.lock"
OPTIONAL = {
    "openai": ("pairs from a server, judge accuracy", "pip install 'lift-eval[server]'"),
    "bert_score": ("BERTScore", "pip install 'lift-eval[bertscore]'"),
    "gguf": ("base models in llama.cpp's format", "pip install 'lift-eval[gguf]'"),
    "jieba": ("LongBench's Chinese answers", "pip install 'lift-eval[longbench]'"),
    "pypdf": ("documents as PDF", "pip install 'lift-eval[pdf]'"),
    "ray": ("runs on several machines", "pip install 'lift-eval[ray]'"),
}


@dataclass(frozen=True)
class Finding:
    """One line of the report on this machine.

    Attributes:
        good: Whether all is well.
        subject: What was looked at.
        state: What was found.
        advice: What to do, where something is missing.
    """

    good: bool
    subject: str
    state: str
    advice: str = ""

    def __str__(self) -> str:
        advice = f"; {self.advice}" if self.advice else ""
        mark = green("ok ") if self.good else yellow("-- ")
        return f"{mark} {self.subject:18} {self.state}{advice}"


def examine() -> Iterator[Finding]:
    """Look at packages, device, precision, the bundled model, the Hub and the judge, and try LIFT, in this order."""
    with ThreadPoolExecutor(1) as aside:
        hub = aside.submit(_hub)  # which may wait for the network
        found = versions()
        yield Finding(True, "python", found["python"])
        for package in PACKAGES:
            known = package in found
            yield Finding(
                known, package, found.get(package, "missing"), "" if known else f"pip install {package}"
            )
        yield from _optional_packages()
        yield from _hardware()
        bundled = (BUNDLED / "model.safetensors").is_file()
        yield Finding(
            bundled,
            "bundled model",
            str(BUNDLED) if bundled else "missing",
            "" if bundled else "create it with python -m pretraining.pretrain",
        )
        if bundled:
            yield _trial()
        yield hub.result()
        judge = os.environ.get(JUDGE_VARIABLE, "")
        yield Finding(
            bool(judge),
            "judge",
            judge or "none",
            ""
            if judge
            else f"set {JUDGE_VARIABLE} (and OPENAI_API_KEY) for judge accuracy; other metrics need no judge",
        )


def examine_run(name: str, recipe: Recipe, document_tokens: int, on: str | None = None) -> Iterator[Finding]:
    """Predict a run's peak memory and its operations, and compare the memory with what is free; no weights are loaded.

    Args:
        name: Folder or Hub name of the checkpoint.
        recipe: The recipe.
        document_tokens: Tokens of the longest document.
        on: Type of the device. None means a GPU where there is one, else the CPU. A GPU that is not there has no free
            memory to compare with: the least that the run needs is predicted.

    Raises:
        LiftEvalError: If there is no such checkpoint, or the recipe's adapter does not fit it.
    """
    device = resolve_device(None) if on is None else torch.device(on)
    config = load_config(name)
    kind, _, other = recipe.auxiliary.generator.partition(":")
    free = free_bytes(device) if is_here(device) else None
    prediction = predict(
        config,
        recipe,
        device=device,
        document_tokens=document_tokens,
        window=context_window(config, None),
        free=free,
        generator=load_config(other) if recipe.trains and kind == "local" else None,
    )
    largest = prediction.largest_phase
    for part in prediction.parts:
        when = f" while {part.phase}" if part.phase else ""
        yield Finding(True, f"{part.name}{when}", f"{_gib(part.bytes)}: {part.remark}")
    if prediction.operations:
        yield Finding(True, "operations while training", _work(prediction.operations))
    peak = _gib(prediction.peak)
    if free is None:
        less = f"for less, try {_savings(prediction, recipe)}"
        yield Finding(True, "peak memory", f"at least {peak}; the peak is while {largest}", less)
        return
    fits = prediction.peak <= free
    advice = "" if fits else f"try {_savings(prediction, recipe)}"
    if fits and prediction.peak > SAFE_SHARE * free:
        advice = "close to the limit: predictions may be off by 15 %"
    state = f"{peak} of {_gib(free)} of free memory; the peak is while {largest}"
    yield Finding(fits, "peak memory", state, advice)


def _gib(count: int) -> str:
    return f"{count / 2**30:.2f} GiB"


def _work(operations: int) -> str:
    minutes, rate = operations / OPERATIONS_PER_SECOND / 60, OPERATIONS_PER_SECOND / 1e12
    return f"{operations / 1e15:.3g} petaFLOP a document: {minutes:.2g} min at {rate:.0f} TFLOP/s"


def _savings(prediction: Prediction, recipe: Recipe) -> str:
    """Recipe keys that save memory in the largest phase, the cheapest first."""
    compute, keys = prediction.compute, []
    if prediction.largest_phase == "training":
        if int(compute.micro_batch_tokens) > recipe.training.segment_tokens:
            keys.append("a smaller compute.micro_batch_tokens")
        if not compute.gradient_checkpointing:
            keys.append("compute.gradient_checkpointing=true")
        keys.append("a smaller training.segment_tokens")
    elif prediction.largest_phase == "answering":
        keys += ["a smaller compute.answer_batch", "a smaller prompt.max_tokens"]
    else:
        keys.append("a smaller auxiliary.batch")
    if recipe.precision.quantization == "none":
        keys.append("precision.quantization=nf4")
    return ", ".join(keys)


def _optional_packages() -> Iterator[Finding]:
    from importlib.util import find_spec

    for package, (purpose, command) in OPTIONAL.items():
        known = find_spec(package) is not None
        yield Finding(
            known,
            package,
            f"installed, for {purpose}" if known else f"missing, for {purpose}",
            "" if known else command,
        )


def _hardware() -> Iterator[Finding]:
    device = resolve_device(None)
    dtype = resolve_dtype(PrecisionSettings(), device)
    gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if gpu else f"cpu, {os.cpu_count()} cores"
    advice = "" if gpu else "enough for the bundled model; larger models need a GPU and a CUDA build of torch"
    yield Finding(gpu, "device", name, advice)
    yield Finding(True, "precision", f"{str(dtype).removeprefix('torch.')} (precision.dtype=auto)")
    yield Finding(True, "free memory", _gib(free_bytes(device)))
    yield Finding(True, "free disk", f"{shutil.disk_usage('.').free / 2**30:.1f} GiB")


def _trial() -> Finding:
    """Lift a short document with the bundled model as a run does: pairs, training and an answer."""
    began = time.perf_counter()
    with Lifter.from_pretrained().lift(Document(TRIAL_TEXT, "Notes from Kirmoor")) as session:
        reply = session.answer([TRIAL_QUESTION])[0]
    losses = session.record.losses
    state = f"{counted(len(losses), 'step')}, loss {losses[0]:.2f} -> {losses[-1]:.4f}; '{TRIAL_QUESTION}' '{reply}'"
    good = losses[-1] < losses[0] and reply == TRIAL_ANSWER
    return Finding(
        good, "LIFT", f"{state}; {time.perf_counter() - began:.1f} s", "" if good else TRIAL_FAILED
    )


def _hub() -> Finding:
    if constants.HF_HUB_OFFLINE:
        return Finding(False, "Hub", "switched off (HF_HUB_OFFLINE)", "use local checkpoints and data_dir")
    try:
        socket.create_connection(HUB, timeout=HUB_TIMEOUT_SECONDS).close()
    except OSError as error:
        return Finding(False, "Hub", f"not reachable ({error})", "use local checkpoints and data_dir")
    return Finding(True, "Hub", "reachable")
