"""What people wait for before anything happens: an interpreter, `--help`, a report, `doctor`, lm-eval's requests.

    python perf/startup.py [--part interpreter|help|report|doctor|imports|requests ...] [--clock wall|cpu] [--pairs N]

Every command is started in a process of its own, after one start that is not counted (bytecode is written then, as for
any user). Those that are compared are started in turn. ``--clock cpu`` counts processor time, which is the clock for a
machine that does other work too.

    interpreter   what an interpreter that never imports lm_eval pays for the registration with lm-eval: two fresh
                  virtual environments, one with the wheel of this checkout and one with nothing
    help          `lift-eval --help`
    report        `lift-eval report reports/demo.yaml`, all formats and figures, into a new folder and into one that
                  holds it already
    doctor        `lift-eval doctor`, and with `--model smollm2`, which `lift-eval model fetch smollm2` must have got
    imports       the memory of what a run imports and a prediction of its memory does not
    requests      `--model lift` against lm-eval's own `--model hf` with the same checkpoint, until the first request
                  is to be answered, and with the recipe `lora`, until the first gradient is there; and lm-eval's index
                  of its own tasks, which both pay where a task of lm-eval's own is named
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINT = ROOT / "lift_eval" / "tiny" / "checkpoint"
INTERPRETER_PAIRS = 200

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
HELP = [sys.executable, "-m", "lift_eval.cli", "--help"]
DOCTOR = [sys.executable, "-m", "lift_eval.cli", "doctor"]
PREDICTED = ("smollm2", "lora")
MEMORY_OF_IMPORTS = """
import importlib, psutil
import lift_eval.memory.predict

for name in ("lift_eval.harness.model", "nltk.tokenize.punkt"):
    before = psutil.Process().memory_info().rss
    importlib.import_module(name)
    print(f"{'memory of ' + name:52} {(psutil.Process().memory_info().rss - before) / 2**20:7.0f} MiB")
"""
REPORT = [sys.executable, "-m", "lift_eval.cli", "report", str(ROOT / "reports" / "demo.yaml"), "--out"]
INDEX = [sys.executable, "-c", "from lm_eval.tasks import TaskManager; TaskManager()"]
SHORT_SEGMENTS = "training.segment_tokens=192,training.stride_tokens=192"
UNTIL_FIRST = """
import os, sys
from lm_eval import simple_evaluate
from lm_eval.api.registry import get_model
from lm_eval.tasks import TaskManager
from torch.optim.optimizer import register_optimizer_step_pre_hook
from lift_eval._autoload import tasks_folder

def end(*_, **__):
    os._exit(0)

model, arguments, event = sys.argv[1:]
if event == "request":
    get_model(model).generate_until = end
else:
    register_optimizer_step_pre_hook(end)
tasks = TaskManager(include_path=str(tasks_folder()), include_defaults=False)
simple_evaluate(model, arguments, ["lift_tiny_shortqa"], device="cpu", task_manager=tasks)
sys.exit(f"there was no {event}")
"""

Clock = Callable[[], float]


def wall() -> float:
    """Seconds of a clock on the wall."""
    return time.perf_counter()


def children() -> float:
    """Processor time of all processes that have been waited for."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def seconds(command: Sequence[str], clock: Clock) -> float:
    """What a command takes, from the start of its process to its end."""
    begin = clock()
    subprocess.run(command, env=ENVIRONMENT, cwd=ROOT, check=True, capture_output=True)
    return clock() - begin


def in_turn(commands: Sequence[Sequence[str]], times: int, clock: Clock) -> list[list[float]]:
    """What each of some commands takes, all of them in turn, as often as asked."""
    for command in commands:
        seconds(command, clock)
    rounds = [[seconds(command, clock) for command in commands] for _ in range(times)]
    return [list(taken) for taken in zip(*rounds, strict=True)]


def tell(name: str, taken: Sequence[float], *, limit: str = "") -> None:
    """Print the median and the range of some times."""
    print(f"{name:52} {statistics.median(taken):7.2f} s  ({min(taken):.2f} to {max(taken):.2f})  {limit}")


def interpreter(_: int, clock: Clock) -> None:
    """The registration, in an interpreter that has no use for it."""
    build = "import sys, hatchling.build as backend; print(backend.build_wheel(sys.argv[1]))"
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-c", build, scratch]
        built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        having = fresh(Path(scratch, "with"), Path(scratch, built.stdout.split()[-1]))
        bare = fresh(Path(scratch, "without"), None)
        nothing = [[str(python), "-c", "pass"] for python in (having, bare)]
        with_wheel, without = in_turn(nothing, INTERPRETER_PAIRS, clock)
    added = statistics.median(one - other for one, other in zip(with_wheel, without, strict=True))
    whole = statistics.median(without)
    print(f"{'added to an interpreter start':52} {1e3 * added:7.2f} ms (a start takes {1e3 * whole:.2f} ms)")


def fresh(folder: Path, wheel: Path | None) -> Path:
    """Make a virtual environment with the wheel or with nothing in it; returns its interpreter."""
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    if wheel is not None:
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
        subprocess.run([*pip, "--no-index", "--no-deps", str(wheel)], check=True)
    return python


def usage(times: int, clock: Clock) -> None:
    """The first thing that anybody types."""
    tell("lift-eval --help", in_turn([HELP], times, clock)[0], limit="at most 0.3 s")


def report(times: int, clock: Clock) -> None:
    """A whole report, in turn into a new folder and into one that holds it."""
    with tempfile.TemporaryDirectory() as scratch:
        old, *new = ([*REPORT, str(Path(scratch, str(number)))] for number in range(times + 1))
        seconds(old, clock)
        taken = [(seconds(first, clock), seconds(old, clock)) for first in new]
    for name, some in zip(("a new report", "the same again"), zip(*taken, strict=True), strict=True):
        tell(f"lift-eval report reports/demo.yaml, {name}", some, limit="at most 1 s")


def doctor(times: int, clock: Clock) -> None:
    """What is installed, with a trial; and a prediction for each of some recipes."""
    tell("lift-eval doctor", in_turn([DOCTOR], times, clock)[0], limit="at most 5 s")
    predictions = [[*DOCTOR, "--model", "smollm2", "--recipe", recipe] for recipe in PREDICTED]
    for recipe, taken in zip(PREDICTED, in_turn(predictions, times, clock), strict=True):
        tell(f"lift-eval doctor --model smollm2 --recipe {recipe}", taken, limit="at most 10 s")


def imports(_: int, __: Clock) -> None:
    """What `lift_eval.memory.predict.IMPORTED` says."""
    command = [sys.executable, "-c", MEMORY_OF_IMPORTS]
    told = subprocess.run(command, env=ENVIRONMENT, cwd=ROOT, check=True, capture_output=True, text=True)
    print(told.stdout, end="")


def requests(times: int, clock: Clock) -> None:
    """lm-eval up to its first request, and to the first training step."""
    lift = f"pretrained={CHECKPOINT},store=off,precision.dtype=float32"
    cases = (
        ("hf", f"pretrained={CHECKPOINT},dtype=float32", "request", ""),
        ("lift", f"{lift},recipe=tiny", "request", "at most 1 s"),
        ("lift", f"{lift},recipe=lora,{SHORT_SEGMENTS}", "step", "at most 3 s"),
    )
    starts = [[sys.executable, "-c", UNTIL_FIRST, *case[:3]] for case in cases]
    hf, *others = in_turn(starts, times, clock)
    tell("lm_eval --model hf, until its first request", hf)
    for (model, _, event, limit), taken in zip(cases[1:], others, strict=True):
        tell(f"lm_eval --model {model}, until its first {event}", taken)
        added = [one - other for one, other in zip(taken, hf, strict=True)]
        tell("    added", added, limit=limit)
    tell("lm-eval's index of its own tasks, where one is named", in_turn([INDEX], 1, clock)[0])


PARTS: dict[str, Callable[[int, Clock], None]] = {
    "interpreter": interpreter,
    "help": usage,
    "report": report,
    "doctor": doctor,
    "imports": imports,
    "requests": requests,
}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS), help="what to start")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="what to measure")
    parser.add_argument("--pairs", type=int, default=5, help="starts of each command (5)")
    chosen = parser.parse_args()
    clock = children if chosen.clock == "cpu" else wall
    print(f"{'processor' if chosen.clock == 'cpu' else 'wall-clock'} time, median and range")
    for part in chosen.part:
        PARTS[part](chosen.pairs, clock)


if __name__ == "__main__":
    main()
