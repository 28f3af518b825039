"""Kill whole ``lm_eval --model lift`` runs at many moments and start them again: a script of its own, since it forks.

    python -m tests.killed_evaluations FOLDER COUNT SEED [RECIPE]

Every function call and return inside lift_eval and lm_eval is a moment, half of those drawn in each. Forked processes
need not import everything again; apart from that each is the command line itself, from its arguments to the files that
it writes. Prints one JSON line per killed run.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import lm_eval
import lm_eval.tasks.manager
import torch
from lm_eval.__main__ import cli_evaluate

from lift_eval import _autoload
from lift_eval.store import Store
from tests import line
from tests.store.killed_runs import PACKAGE, Moments

FOLDERS = {"lift_eval": PACKAGE, "lm_eval": Path(lm_eval.__file__).parent}
TASKS = ("answers", "choices")
CONVERSED = {
    "training.joint_epochs": 2, "training.learning_rate": 0.02, "auxiliary.pairs": 3, "auxiliary.max_tokens": 16,
    "precision.dtype": "float32",
}  # fmt: skip
RECIPES: dict[str, dict[str, Any]] = {
    "lora": line.ARGUMENTS,
    "cartridge": {"recipe": "cartridge", "adapter.tokens": 8, **CONVERSED},
    "context_distillation": {"recipe": "context_distillation", "adapter.rank": 4, **CONVERSED},
}
MAY_DIFFER = {
    "date", "start_time", "end_time", "total_evaluation_time_seconds", "seconds", "wall_seconds", "peak_memory_bytes",
    "memory", "reused", "reused_documents", "reused_seconds",
}  # fmt: skip
"""Keys of a results file that say when it was made, what that took, and where parts of it came from."""


def arguments(folder: Path, recipe: str) -> list[str]:
    given = {"pretrained": folder / "checkpoint", "store": folder / "store", **RECIPES[recipe]}
    return [
        "lm_eval", "run", "--model", "lift", "--tasks", ",".join(TASKS), "--include_path", str(folder / "tasks"),
        "--model_args", *(f"{key}={value}" for key, value in given.items()), "--device", "cpu", "--batch_size", "4",
        "--output_path", str(folder / "results"), "--log_samples",
    ]  # fmt: skip


def started(folder: Path, recipe: str, moments: Moments | None = None) -> int:
    """The command in a process of its own; the moments that it went through go to a file."""
    process = os.fork()
    if process:
        return process
    said = os.open(folder / "said.txt", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.argv = arguments(folder, recipe)
    try:
        sys.setprofile(moments)
        cli_evaluate()
        sys.setprofile(None)
        (folder / "seen.json").write_text(json.dumps(moments.seen if moments else {}))
        os._exit(0)
    except BaseException:
        sys.setprofile(None)
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        os._exit(1)


def whole(folder: Path, recipe: str, moments: Moments | None = None) -> dict[str, Any]:
    """A run to the end; the newest results file and its samples."""
    _, status = os.waitpid(started(folder, recipe, moments), 0)
    assert os.waitstatus_to_exitcode(status) == 0, (folder / "said.txt").read_text()
    results = max((folder / "results").rglob("results_*.json"), key=lambda path: path.stat().st_mtime_ns)
    date = results.name.removeprefix("results_").removesuffix(".json")
    samples = {name: (results.parent / f"samples_{name}_{date}.jsonl").read_text() for name in TASKS}
    return {"results": json.loads(results.read_text()), "samples": samples}


def comparable(value: Any) -> Any:
    """What must be the same however often the run was killed."""
    if isinstance(value, dict):
        return {key: comparable(item) for key, item in value.items() if key not in MAY_DIFFER}
    return [comparable(item) for item in value] if isinstance(value, list) else value


def differences(one: Any, other: Any, place: str = "") -> list[str]:
    """Where two comparable values differ."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [found for key in one for found in differences(one[key], other[key], f"{place}/{key}")]
    return [] if one == other else [place]


def killed(folder: Path, recipe: str, kind: str, at: int, expected: dict[str, Any]) -> dict[str, Any]:
    """Kill the run at a moment, start it again, and compare."""
    for name in ("store", "results"):
        shutil.rmtree(folder / name, ignore_errors=True)
    _, status = os.waitpid(started(folder, recipe, Moments(kind, at, FOLDERS)), 0)
    store = Store(folder / "store")
    kept = [entry for entry in store.entries() if entry.kind == "adapters"]
    written = len(list((folder / "results").rglob("results_*.json")))
    again = whole(folder, recipe)
    documents = again["results"]["config"]["lift"]["documents"]
    return {
        "moment": f"{kind} {at}",
        "killed": os.waitstatus_to_exitcode(status) == -signal.SIGKILL,
        "results_written": written,
        "finished": len(kept),
        "taken_up": sum("adapter" in document["reused"] for document in documents),
        "trained": len([entry for entry in store.entries() if entry.kind == "adapters"]) - len(kept),
        "differences": differences(comparable(again), expected),
        "faults": len(store.verify()),
    }


def end_replies(checkpoint: Path) -> None:
    """Let a random model end its replies soon; a message that was cut off is no message."""
    config = checkpoint / "generation_config.json"
    read = json.loads(config.read_text())
    config.write_text(json.dumps({**read, "eos_token_id": [257, *range(150, 200)]}))


def main(folder: Path, count: int, seed: int, recipe: str = "lora") -> None:
    torch.set_num_threads(1)  # so that forking is safe
    _autoload.register()
    importlib.import_module("lift_eval.harness.model")  # so that no process need
    line.prepare(folder, documents=3)
    if recipe != "lora":
        end_replies(folder / "checkpoint")
    (folder / "tasks").mkdir()
    for name in TASKS:
        (folder / "tasks" / f"{name}.yaml").write_text(json.dumps(line.task(folder, name)))
    lm_eval.tasks.manager.__file__ = str(
        folder / "manager.py"
    )  # without lm-eval's own tasks, thousands of files
    line.ask_once_about_this_machine()
    moments = Moments(folders=FOLDERS)
    undisturbed = whole(folder, recipe, moments)
    assert all(document["losses"] for document in undisturbed["results"]["config"]["lift"]["documents"])
    assert undisturbed["results"]["config"]["lift"]["totals"]["reused_documents"] == 0
    seen = json.loads((folder / "seen.json").read_text())
    draw = random.Random(seed)
    for number in range(count):
        kind = list(FOLDERS)[number % 2]
        at = draw.randint(1, seen[kind])
        print(json.dumps(killed(folder, recipe, kind, at, comparable(undisturbed))), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
