"""Kill runs at many moments and start them again: a script of its own, since it forks.

    python -m tests.store.killed_runs FOLDER COUNT SEED

Every function call and return inside lift_eval is a moment at which a run can be killed; half of those drawn lie in
the store, the rest anywhere. Prints one JSON line per killed run.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import lift_eval
from lift_eval.lifter.adapted_model import DECIDING_MODULE
from lift_eval.store import Store, code_identity
from tests.store.runs import outcome, run

PACKAGE = Path(lift_eval.__file__).parent


class Moments:
    """Counts moments, and kills the process at the n-th of its kind.

    Args:
        kind: Of the moment that kills.
        at: Its number, from 1.
        folders: Of the sources whose function calls and returns are moments, by kind.
    """

    def __init__(
        self,
        kind: str = "",
        at: int = 0,
        folders: Mapping[str, Path] = {"anywhere": PACKAGE, "store": PACKAGE / "store"},
    ) -> None:
        self.kind, self.at = kind, at
        self.seen: Counter[str] = Counter()
        self._folders = {kind: f"{folder}{os.sep}" for kind, folder in folders.items()}

    def __call__(self, frame: Any, event: str, argument: object) -> None:
        name = frame.f_code.co_filename
        for kind, folder in self._folders.items():
            if name.startswith(folder):
                self.seen[kind] += 1
                if kind == self.kind and self.seen[kind] == self.at:
                    os.kill(os.getpid(), signal.SIGKILL)


def forked(folder: Path, moments: Moments | None = None) -> int:
    """A run over the store in a process of its own; its results and moments go to a file."""
    process = os.fork()
    if process:
        return process
    try:
        sys.setprofile(moments)
        results = run(Store(folder / "store"))
        sys.setprofile(None)
        name = f"{os.getpid()}.json"
        (folder / name).write_text(json.dumps({"results": results, "seen": moments.seen if moments else {}}))
        os._exit(0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)


def finished(folder: Path, process: int) -> dict[str, Any]:
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    data: dict[str, Any] = json.loads((folder / f"{process}.json").read_text())
    return data


def kill_and_restart(folder: Path, kind: str, at: int, expected: dict[str, Any]) -> dict[str, Any]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    _, status = os.waitpid(forked(folder, Moments(kind, at)), 0)
    store = Store(folder / "store")
    kept = Counter(entry.kind for entry in store.entries())
    results = finished(folder, forked(folder))["results"]
    reused = [title for title, result in results.items() if "adapter" in result["reused"]]
    return {
        "moment": f"{kind} {at}",
        "killed": os.waitstatus_to_exitcode(status) == -signal.SIGKILL,
        "adapters_kept": kept["adapters"],
        "adapters_reused": len(reused),
        "answers_kept": kept["answers"],
        "answers_reused": sum("answers" in result["reused"] for result in results.values()),
        "same": outcome(results) == expected,
        "faults": len(store.verify()),
    }


def main(folder: Path, count: int, seed: int) -> None:
    torch.set_num_threads(1)  # so that forking is safe
    code_identity(DECIDING_MODULE)  # kept for the forks: most moments would lie in the reading of code
    expected = outcome(run(None))
    (folder / "whole").mkdir(parents=True)
    whole = finished(folder / "whole", forked(folder / "whole", Moments()))
    assert outcome(whole["results"]) == expected
    draw = random.Random(seed)
    for number in range(count):
        kind = ("anywhere", "store")[number % 2]
        at = draw.randint(1, whole["seen"][kind])
        print(json.dumps(kill_and_restart(folder / "killed", kind, at, expected)), flush=True)
    # Two runs on one store at once, from an empty store.
    (folder / "both").mkdir()
    began = time.monotonic()
    both = [forked(folder / "both") for _ in range(2)]
    results = [finished(folder / "both", process)["results"] for process in both]
    print(
        json.dumps(
            {
                "moment": "two at once",
                "same": all(outcome(result) == expected for result in results),
                "faults": len(Store(folder / "both" / "store").verify()),
                "seconds": time.monotonic() - began,
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
