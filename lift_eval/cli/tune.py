"""``lift-eval tune``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lift_eval.cli.runs import add_places, run_where_asked
from lift_eval.cli.shared import say

if TYPE_CHECKING:
    from lift_eval.cli.shared import Commands


def add(commands: Commands) -> None:
    """Add the subcommand."""
    tune = commands.add_parser(
        "tune",
        help="select the learning rate and the epochs of an experiment's methods on development documents",
        description="Tries the grid in the experiment's 'tune' with each method that trains, resumes where it "
        "stopped, and writes the selected settings where 'lift-eval run' finds them.",
    )
    tune.add_argument("experiment", type=Path, help="an experiment file with 'tune' (*.yaml)")
    add_places(tune)
    tune.set_defaults(work=_tune)


def _tune(parsed: argparse.Namespace) -> int:
    from lift_eval.reporting.experiment import load_experiment
    from lift_eval.reporting.tuning import choose, trials_of, write_chosen, write_trials

    experiment = load_experiment(parsed.experiment, tuned=False)
    trials = trials_of(experiment)
    status, report = run_where_asked(load_experiment(write_trials(experiment, trials)), parsed)
    chosen = choose(report.comparison, experiment, trials)
    path = write_chosen(experiment, chosen)
    for row, keys in chosen.items():
        say(f"{row}: {', '.join(f'{key}={value}' for key, value in keys.items())}")
    say(f"written to {path}; the trials: {report.page}")
    return status
