"""What ``lift-eval doctor`` finds: what is installed, what will be used, what is missing and how to get it."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from huggingface_hub import constants

from lift_eval.loading import BUNDLED, resolve_device, resolve_dtype
from lift_eval.recipe import PrecisionSettings
from lift_eval.record import PACKAGES, versions

HUB = ("huggingface.co", 443)
HUB_TIMEOUT_SECONDS = 3.0
OPTIONAL = {
    "openai": ("pairs from a server, judge accuracy", "pip install openai"),
    "bert_score": ("BERTScore", "pip install 'lift-eval[bertscore]'"),
    "ray": ("documents on several machines", "pip install 'lift-eval[ray]'"),
}


@dataclass(frozen=True)
class Finding:
    """One line of the examination.

    Attributes:
        good: Whether nothing needs to be done.
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
        return f"{'ok' if self.good else '--':3} {self.subject:18} {self.state}{advice}"


def examine() -> Iterator[Finding]:
    """Look at packages, device, precision, the bundled model, the Hub and the judge, in this order."""
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
        "" if bundled else "python -m lift_eval.tiny.pretrain makes it",
    )
    yield _hub()
    judge = os.environ.get("LIFT_EVAL_JUDGE", "")
    yield Finding(
        bool(judge),
        "judge",
        judge or "none",
        ""
        if judge
        else "set LIFT_EVAL_JUDGE (and OPENAI_API_KEY) for judge accuracy; all other metrics need none",
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
    device = resolve_device(None)
    dtype = resolve_dtype(PrecisionSettings(), device)
    gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if gpu else f"cpu, {os.cpu_count()} cores"
    advice = "" if gpu else "enough for the bundled model; a GPU with a CUDA build of torch for real ones"
    yield Finding(gpu, "device", name, advice)
    yield Finding(True, "precision", f"{str(dtype).removeprefix('torch.')} (precision.dtype=auto)")
    free = torch.cuda.mem_get_info(device)[0] if gpu else _free_memory()
    yield Finding(True, "free memory", f"{free / 2**30:.1f} GiB")
    yield Finding(True, "free disk", f"{shutil.disk_usage('.').free / 2**30:.1f} GiB")


def _free_memory() -> int:
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _hub() -> Finding:
    if constants.HF_HUB_OFFLINE:
        return Finding(False, "Hub", "switched off (HF_HUB_OFFLINE)", "use local checkpoints and data_dir")
    try:
        socket.create_connection(HUB, timeout=HUB_TIMEOUT_SECONDS).close()
    except OSError as error:
        return Finding(
            False, "Hub", f"not reachable ({error})", "use local checkpoints, and files with data_dir"
        )
    return Finding(True, "Hub", "reachable")
