"""A long run with faults: nothing lost, nothing done twice, nothing left open.

500 small documents go through the whole line twice, with a random two-layer model:

    calm      one process; generators fail and memory runs out at random, some documents diverge at the full rate
    stormy    the same faults; the process is killed again and again, and entries of the store are damaged meanwhile

Each ends with a run without the random faults, which takes up what was given up. The answers of both must then be
equal. Documents whose training diverges do so in both, and are trained at a tenth of the rate.

    python perf/soak.py [--documents 500] [--kills 12] [--seed 0]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import lm_eval  # noqa: E402, F401 - before forking, so that each run need not import it
import torch  # noqa: E402

from lift_eval.errors import GeneratorError, TrainingError  # noqa: E402
from lift_eval.harness.exit_status import set_exit_status  # noqa: E402 - the checkout, installed or not
from lift_eval.lifter.session import LiftedDocument  # noqa: E402
from lift_eval.store import Store  # noqa: E402
from tests import line  # noqa: E402

GENERATOR_FAILS = 0.03
MEMORY_FAILS = 0.01
DIVERGES = 0.05
WARM = 25
"""Documents that a process has trained when its memory, files and threads are first counted."""


def resources() -> dict[str, int]:
    """Memory in KiB, open files and threads of this process."""
    status = dict(row.split(":", 1) for row in Path("/proc/self/status").read_text().splitlines())
    return {
        "memory": int(status["VmRSS"].split()[0]),
        "files": len(list(Path("/proc/self/fd").iterdir())),
        "threads": int(status["Threads"]),
    }


def inject(draw: random.Random | None) -> None:
    """Let trainings fail: a fixed part of the documents at the full learning rate, others at random."""
    train = LiftedDocument._train

    def failing(self: LiftedDocument, settings: Any, *others: Any) -> None:  # noqa: ANN401
        full_rate = settings.learning_rate == line.ARGUMENTS["training.learning_rate"]
        if full_rate and int(self.document.digest[:6], 16) < DIVERGES * 16**6:
            raise TrainingError("the loss of step 1 is nan")
        if draw is not None and draw.random() < GENERATOR_FAILS:
            raise GeneratorError("the server of pairs does not answer")
        if draw is not None and draw.random() < MEMORY_FAILS:
            raise torch.OutOfMemoryError("out of memory")
        train(self, settings, *others)

    LiftedDocument._train = failing  # type: ignore[method-assign]


def observe(folder: Path, seen: dict[str, Any]) -> None:
    """Write down each adapter that is kept, and count resources after `WARM` of them."""
    save, trained = Store.save_adapter, Counter[str]()

    def saving(self: Store, key: str, *others: Any) -> None:  # noqa: ANN401
        save(self, key, *others)
        with (folder / "trained.txt").open("a") as log:
            log.write(f"{key}\n")
        trained.update([key])
        if len(trained) == WARM:
            seen["start"] = resources()

    Store.save_adapter = saving  # type: ignore[method-assign]


def started(folder: Path, draw: random.Random | None) -> int:
    """A run in a process of its own; what it came to and what it used goes to files."""
    process = os.fork()
    if process:
        return process
    seen: dict[str, Any] = {}
    said = os.open(folder / "said.txt", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(said, 1)
    os.dup2(said, 2)
    try:
        inject(draw)
        observe(folder, seen)
        with set_exit_status():
            done = line.run(folder, ("answers",), store=str(folder / "store"))
            (folder / "done.json").write_text(json.dumps({**(done or {}), **seen, "end": resources()}))
        os._exit(0)
    except SystemExit as end:
        os._exit(int(end.code or 0))
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)


def wait_status(process: int) -> int:
    """Exit status of a process, once it has ended; minus the signal's number where one ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def damage(store: Path, draw: random.Random, damaged: Counter[str]) -> None:
    """Flip a byte of a few entries, or cut them short."""
    files = sorted(path for kind in ("adapters", "answers") for path in (store / kind).glob("[0-9a-f]*"))
    for path in draw.sample(files, min(3, len(files))):
        data = bytearray(path.read_bytes())
        at = draw.randrange(len(data))
        if draw.random() < 0.5:
            del data[at:]
        else:
            data[at] ^= 0xFF
        path.write_bytes(data)
        damaged[path.stem] += 1


def killed(folder: Path, documents: int, kills: int, draw: random.Random, damaged: Counter[str]) -> int:
    """Start the run, kill it some documents later and damage the store, again and again."""
    adapters = folder / "store" / "adapters"
    count = 0
    for _ in range(kills):
        process = started(folder, random.Random(draw.random()))
        enough = len(list(adapters.glob("*"))) + draw.randint(1, max(documents // kills, 1))
        ended = 0
        while not ended and len(list(adapters.glob("*"))) < enough:
            time.sleep(0.05)
            ended = os.waitpid(process, os.WNOHANG)[0]
        if ended:
            break
        time.sleep(draw.uniform(0, 0.3))
        os.kill(process, signal.SIGKILL)
        count += wait_status(process) == -signal.SIGKILL
        damage(folder / "store", draw, damaged)
        say(f"  killed {count} times, {len(list(adapters.glob('*')))} adapters kept")
    return count


def soak(folder: Path, documents: int, kills: int, draw: random.Random) -> dict[str, Any]:
    """One of the two runs; returns its answers and what was counted."""
    line.prepare(folder, documents=documents, questions=1)
    damaged: Counter[str] = Counter()
    times_killed = killed(folder, documents, kills, draw, damaged)
    with_faults = wait_status(started(folder, random.Random(draw.random())))
    read = json.loads((folder / "done.json").read_text())
    given_up = read["record"]["totals"]["failed_documents"]
    last = wait_status(started(folder, None))
    done = json.loads((folder / "done.json").read_text())
    trained = Counter((folder / "trained.txt").read_text().split())
    return {
        "answers": done["answers"]["answers"],
        "statuses": (with_faults, last),
        "killed": times_killed,
        "damaged": damaged.total(),
        "given_up": given_up,
        "retried": done["record"]["totals"]["retried_documents"],
        "twice": sum(max(count - 1 - damaged[key], 0) for key, count in trained.items()),
        "start": read.get("start"),
        "end": read["end"],
    }


def say(text: str) -> None:
    """Print at once, for whoever watches."""
    print(text, flush=True)


def main() -> None:
    """Run both, print what was counted, and fail where something was lost or done twice."""
    parser = argparse.ArgumentParser(description="Run many small documents while faults are injected.")
    parser.add_argument("--documents", type=int, default=500)
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parsed = parser.parse_args()
    torch.set_num_threads(1)  # so that forking is safe
    line.ARGUMENTS["adapter.rank"] = 2
    draw = random.Random(parsed.seed)
    with tempfile.TemporaryDirectory() as scratch:
        ends = {}
        for name, kills in (("calm", 0), ("stormy", parsed.kills)):
            began = time.monotonic()
            ends[name] = end = soak(Path(scratch) / name, parsed.documents, kills, draw)
            start, last = end["start"] or end["end"], end["end"]
            done = len(end["answers"])
            say(f"{name}: {done} of {parsed.documents} documents done in {time.monotonic() - began:.0f} s")
            say(f"  killed {end['killed']} times, {end['damaged']} entries of the store damaged")
            say(
                f"  given up and taken up by the last run: {end['given_up']}; retried at a tenth: {end['retried']}"
            )
            say(f"  exit status with faults {end['statuses'][0]}, without {end['statuses'][1]}")
            say(f"  trained twice: {end['twice']}")
            memory = [counted["memory"] / 1024 for counted in (start, last)]
            say(f"  memory after {WARM} trainings {memory[0]:.0f} MiB, at the end {memory[1]:.0f} MiB")
            files, threads = ([counted[what] for counted in (start, last)] for what in ("files", "threads"))
            say(f"  open files {files[0]} -> {files[1]}, threads {threads[0]} -> {threads[1]}")
        calm, stormy = ends["calm"]["answers"], ends["stormy"]["answers"]
        same = sum(one == other for one, other in zip(calm, stormy, strict=True))
        say(f"answers lost: {parsed.documents - same} (equal in both runs: {same} of {parsed.documents})")
        if same < parsed.documents or any(end["twice"] or end["statuses"][1] for end in ends.values()):
            sys.exit(1)


if __name__ == "__main__":
    main()
