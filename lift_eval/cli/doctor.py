"""What ``lift-eval doctor`` finds: what is installed, what will be used, what is missing and how to get it.

Torch and what needs it are imported where they are used, so that the first lines are there at once.
"""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from huggingface_hub import constants

from lift_eval.cli.shared import green, one_thread, yellow
from lift_eval.document import Document
from lift_eval.errors import counted
from lift_eval.judging import JUDGE_VARIABLE
from lift_eval.record.record import PACKAGES, versions

HUB = ("huggingface.co", 443)
HUB_TIMEOUT_SECONDS = 3.0
TRIAL_TEXT = """\
The ship Silver Heron was built in 1842.

Nobody spoke about the fog near the quay.

Otto Larkley was born in Kirmoor."""
TRIAL_CHANGES = {"training.joint_epochs": 5, "auxiliary.pairs": 1}
"""What makes the recipe ``tiny`` short, as the paragraphs do: text of one sentence each needs no sentence splitter."""
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


def gib(count: int) -> str:
    """A number of bytes in GiB."""
    return f"{count / 2**30:.2f} GiB"


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
        yield from _bundled_model()
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
    import torch

    from lift_eval.memory.predict import free_bytes
    from lift_eval.models.loading import resolve_device, resolve_dtype
    from lift_eval.recipe import PrecisionSettings

    device = resolve_device(None)
    dtype = resolve_dtype(PrecisionSettings(), device)
    gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if gpu else f"cpu, {os.cpu_count()} cores"
    advice = "" if gpu else "enough for the bundled model; larger models need a GPU and a CUDA build of torch"
    yield Finding(gpu, "device", name, advice)
    yield Finding(True, "precision", f"{str(dtype).removeprefix('torch.')} (precision.dtype=auto)")
    yield Finding(True, "free memory", gib(free_bytes(device)))
    yield Finding(True, "free disk", f"{shutil.disk_usage('.').free / 2**30:.1f} GiB")


def _bundled_model() -> Iterator[Finding]:
    from lift_eval.models.loading import BUNDLED

    if (BUNDLED / "model.safetensors").is_file():
        yield Finding(True, "bundled model", str(BUNDLED))
        with one_thread():
            yield _trial()
    else:
        yield Finding(False, "bundled model", "missing", "create it with python -m pretraining.pretrain")


def _trial() -> Finding:
    """Lift a short document with the bundled model as a run does: pairs, training and an answer."""
    from lift_eval.lifter.lifter import Lifter
    from lift_eval.recipe import load_recipe

    began = time.perf_counter()
    with _no_progress_bars():
        lifter = Lifter.from_pretrained(recipe=load_recipe("tiny", TRIAL_CHANGES))
    with lifter.lift(Document(TRIAL_TEXT, "Notes from Kirmoor"), progress=False) as session:
        reply = session.answer([TRIAL_QUESTION])[0]
    losses = session.record.losses
    state = f"{counted(len(losses), 'step')}, loss {losses[0]:.2f} -> {losses[-1]:.4f}; '{TRIAL_QUESTION}' '{reply}'"
    good = losses[-1] < losses[0] and reply == TRIAL_ANSWER
    return Finding(
        good, "LIFT", f"{state}; {time.perf_counter() - began:.1f} s", "" if good else TRIAL_FAILED
    )


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Let transformers show no progress inside: weights of six megabytes are there at once."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _hub() -> Finding:
    if constants.HF_HUB_OFFLINE:
        return Finding(False, "Hub", "switched off (HF_HUB_OFFLINE)", "use local checkpoints and data_dir")
    try:
        socket.create_connection(HUB, timeout=HUB_TIMEOUT_SECONDS).close()
    except OSError as error:
        return Finding(False, "Hub", f"not reachable ({error})", "use local checkpoints and data_dir")
    return Finding(True, "Hub", "reachable")
