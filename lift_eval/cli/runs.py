"""``lift-eval run`` and ``lift-eval doctor``."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lift_eval.cli.shared import say
from lift_eval.ending import GIVEN_UP
from lift_eval.errors import ResultsError

if TYPE_CHECKING:
    from lift_eval.cli.shared import Commands


def add(commands: Commands) -> None:
    """Add the subcommands."""
    run = commands.add_parser(
        "run",
        help="the same as 'lm_eval run --model lift', or what an experiment file lacks",
        description="With an experiment file: run what is missing, then render it. With anything else: lm_eval's own "
        "'run', with --model lift; 'lm_eval run --help' lists its arguments.",
    )
    run.add_argument("experiment", type=Path, help="an experiment file (*.yaml)")
    run.set_defaults(work=_run_experiment)
    doctor = commands.add_parser("doctor", help="what is installed, what will be used, what is missing")
    doctor.set_defaults(work=_doctor)


def names_experiment(arguments: Sequence[str]) -> bool:
    """Whether the arguments of ``run`` are ours to read: an experiment file, or a call for help."""
    first = arguments[0] if arguments else "--help"
    return first in ("-h", "--help") or (not first.startswith("-") and first.endswith((".yaml", ".yml")))


def run_lm_eval(arguments: Sequence[str]) -> int:
    """Hand over to lm-eval's own command line, with the model set."""
    from lm_eval.__main__ import cli_evaluate

    from lift_eval import register

    register()
    named = any(argument == "--model" or argument.startswith("--model=") for argument in arguments)
    sys.argv = ["lm_eval", "run", *([] if named else ["--model", "lift"]), *arguments]
    cli_evaluate()
    return 0


def _run_experiment(parsed: argparse.Namespace) -> int:
    """Run what is missing, each run in a process of its own, and render."""
    from lift_eval.reporting.experiment import load_experiment
    from lift_eval.reporting.planning import missing_runs
    from lift_eval.reporting.render import render_experiment
    from lift_eval.reporting.results import compact_samples

    experiment = load_experiment(parsed.experiment)
    missing = missing_runs(experiment)
    for number, run in enumerate(missing, start=1):
        say(f"run {number} of {len(missing)}: {run.row}, seed {run.seed}\n  {run.command}")
        sys.stdout.flush()
        status = subprocess.run(run.argv, check=False).returncode  # noqa: S603 - our own command
        if status not in (0, GIVEN_UP):
            raise ResultsError(
                f"the run of '{run.row}' ended with status {status}; mend what it says above and start again: runs "
                "that are done are not repeated"
            )
        compact_samples(run.output)
    report = render_experiment(parsed.experiment)
    say(report.summary())
    say(f"report: {report.page}")
    return 0


def _doctor(_: argparse.Namespace) -> int:
    from lift_eval.doctor import examine

    for finding in examine():
        say(finding)
    return 0
