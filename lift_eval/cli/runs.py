"""``lift-eval run`` and ``lift-eval doctor``."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lift_eval.cli.launching import run_command
from lift_eval.cli.shared import add_model, bold, named_model, note, positive, say, uncollected
from lift_eval.errors import Interrupted, ResultsError, counted
from lift_eval.harness.exit_status import GIVEN_UP

if TYPE_CHECKING:
    from lift_eval.cli.doctor import Finding
    from lift_eval.cli.shared import Commands
    from lift_eval.reporting.experiment import Experiment, RunOptions
    from lift_eval.reporting.planning import PlannedRun
    from lift_eval.reporting.render import Report


def add(commands: Commands) -> None:
    """Add the subcommands."""
    run = commands.add_parser(
        "run",
        help="run an experiment's missing runs, or lm_eval with --model lift",
        description="With an experiment file, executes its missing runs and renders the report. Otherwise, calls "
        "lm_eval's 'run' with --model lift; 'lm_eval run --help' lists its arguments.",
    )
    run.add_argument("experiment", type=Path, help="an experiment file (*.yaml)")
    add_places(run)
    run.set_defaults(work=_run_experiment)
    doctor = commands.add_parser(
        "doctor",
        help="show what is installed and what is missing, or predict a run's memory and computation",
        description="Examines this machine. With a model or a recipe, predicts the memory and the operations of a run "
        "instead, without loading weights.",
    )
    add_model(doctor, " of a checkpoint")
    doctor.add_argument("--recipe", help="a shipped recipe's name or a file; default: as in a run")
    doctor.add_argument(
        "--document-tokens",
        type=positive,
        help="tokens of the longest document (default: 24000, as in LooGLE)",
    )
    doctor.add_argument(
        "--device",
        choices=("cpu", "cuda"),
        help="where the run would be (default: a GPU if there is one); for cuda without a GPU, the least memory that "
        "the run needs is predicted",
    )
    doctor.set_defaults(work=_doctor)


def add_places(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say where an experiment's runs take place; `run_where_asked` reads them."""
    parser.add_argument(
        "--ray", metavar="ADDRESS", help="run on the workers of this Ray cluster; 'auto' finds a running one"
    )
    parser.add_argument(
        "--workers",
        type=positive,
        help="largest number of workers (default: one for each GPU of the cluster, or for each CPU if it has no GPU)",
    )
    parser.add_argument(
        "--processes",
        type=positive,
        default=1,
        help="processes that share the documents of a run on this machine (default: 1); use one for each GPU, or for "
        "each core with a small model",
    )
    parser.add_argument(
        "--data-dir",
        type=Path,
        metavar="FOLDER",
        help="folder of the tasks' data, for every run of the experiment",
    )


def names_experiment(arguments: Sequence[str]) -> bool:
    """Whether ``run`` is given an experiment file or asked for help, not called for lm-eval."""
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
    """Execute the missing runs and render the report."""
    from lift_eval.reporting.experiment import load_experiment

    experiment = load_experiment(parsed.experiment)
    _check_tuned(experiment)
    worst, report = run_where_asked(experiment, parsed)
    say(report.summary(bold))
    say(f"report: {report.page}")
    return worst


def _check_tuned(experiment: Experiment) -> None:
    """Refuse rows that are to be tuned first, and say where settings were selected with another model."""
    from lift_eval.reporting.tuning import tuned_with, untuned_rows

    untuned = untuned_rows(experiment)
    if experiment.tuned is not None and (untuned or not experiment.tuned.is_file()):
        tuned_as = experiment.tuned.parent.with_suffix(".yaml")
        whose = f"row '{untuned[0]}' is" if experiment.tuned.is_file() else "its methods are"
        instead = "remove 'tune'" if experiment.tune else f"give {experiment.path} its own 'tune'"
        raise ResultsError(
            f"'{tuned_as}' has 'tune', but {whose} not tuned yet; run lift-eval tune {tuned_as} first, or {instead}"
        )
    if other := tuned_with(experiment):
        say(
            f"rates and epochs were selected with {other}; give this experiment its own 'tune' to select them anew"
        )


def run_where_asked(experiment: Experiment, parsed: argparse.Namespace) -> tuple[int, Report]:
    """Execute an experiment's missing runs where the arguments of `add_places` say, and render its report.

    Returns:
        The exit status, and the report.

    Raises:
        Interrupted: If a signal has ended a run.
        ResultsError: If arguments contradict each other, or a run has failed.
    """
    if parsed.workers and not parsed.ray:
        raise ResultsError("--workers needs --ray ADDRESS; name the cluster of the workers")
    if parsed.processes > 1 and parsed.ray:
        raise ResultsError("--processes is for this machine and --ray for a cluster; use one of the two")
    if parsed.data_dir:
        experiment = _with_data_in(parsed.data_dir, experiment)
    if parsed.ray:
        experiment = _on_cluster(experiment, parsed.ray, parsed.workers)
    return run_and_render(experiment, parsed.processes)


def run_and_render(experiment: Experiment, processes: int = 1) -> tuple[int, Report]:
    """Execute an experiment's missing runs, each in its own process, and render its report.

    A run that fails does not keep the others from being made, unless it is the experiment's first: then the fault is
    probably that of all.

    Args:
        experiment: The experiment.
        processes: Processes of each run of ``lift``.

    Returns:
        The exit status, and the report.

    Raises:
        Interrupted: If a signal has ended a run.
        ResultsError: If a run has failed.
    """
    from lift_eval.reporting.figures.render_pool import RenderPool
    from lift_eval.reporting.planning import check_recipes, missing_runs, plan, runs_of_rows
    from lift_eval.reporting.render import render_experiment
    from lift_eval.results.samples import compact_samples

    found = runs_of_rows(experiment)
    missing, finished = plan(experiment, found), any(found.values())
    check_recipes(experiment, {run.row for run in missing})
    worst, failed = 0, []
    for number, run in enumerate(missing, start=1):
        say(f"run {number} of {len(missing)}: {run.row}, seed {run.seed}\n  {run.command}")
        sys.stdout.flush()
        status = run_command(run.argv, processes if run.model == "lift" else 1)
        if status in (128 + signal.SIGINT, 128 + signal.SIGTERM):
            raise Interrupted(
                f"stopped in run {number} of {len(missing)}; run the same command to continue: finished runs are not "
                "repeated",
                status - 128,
            )
        if status in (0, GIVEN_UP):
            finished, worst = True, max(worst, status)
            compact_samples(run.output)
            continue
        fault = f"the run of '{run.row}' ended with status {status}"
        if not finished:
            raise ResultsError(
                f"{fault}; fix the error above and start again: finished runs are not repeated"
            )
        note(f"lift-eval: {fault}; the others go on")
        failed.append(f"'{run.row}'")
    _check_names(missing, missing_runs(experiment))
    with RenderPool() as pool:
        report = render_experiment(experiment.path, pool=pool)
    if failed:
        raise ResultsError(
            f"{counted(len(failed), 'run')} of {len(missing)} failed: {', '.join(failed)}; fix the errors above and "
            f"start again: finished runs are not repeated; the report without them: {report.page}"
        )
    return worst, report


def _check_names(done: Sequence[PlannedRun], missing: Sequence[PlannedRun]) -> None:
    """Refuse tasks whose results have other names: they would be run at every call."""
    from lift_eval.results.reading import read_runs, results_files

    for run in missing:
        made = run.output in {other.output for other in done} and run.output.exists()
        if made and any(results_files(run.output)):
            held = sorted({name for found in read_runs([run.output]) for name in found.tasks})
            raise ResultsError(
                f"the run of '{run.row}' has results of {', '.join(held)}, but not of {', '.join(run.tasks)}; name the "
                "former in 'task' of the columns: a group is the list of its tasks"
            )


def _with_data_in(folder: Path, experiment: Experiment) -> Experiment:
    """The experiment with the tasks' data in a folder; which runs are missing does not change.

    Raises:
        ResultsError: If there is no such folder.
    """
    if not folder.is_dir():
        raise ResultsError(f"--data-dir must be a folder with the tasks' data, got '{folder}'")
    place = {"data_dir": str(folder.resolve())}

    def placed(options: RunOptions) -> RunOptions:
        return options.model_copy(update={"metadata": {**options.metadata, **place}})

    rows = [
        row.model_copy(update={"options": placed(row.options)})
        if "metadata" in row.options.model_fields_set
        else row
        for row in experiment.rows
    ]
    return experiment.model_copy(update={"options": placed(experiment.options), "rows": tuple(rows)})


def _on_cluster(experiment: Experiment, address: str, workers: int | None) -> Experiment:
    """The experiment with its runs of our model class on a cluster; which runs are missing does not change."""
    from lift_eval.distribution.cluster import cluster_arguments

    cluster = cluster_arguments(address, workers)
    rows = [
        row.model_copy(update={"model_args": {**row.model_args, **cluster}}) if row.model == "lift" else row
        for row in experiment.rows
    ]
    return experiment.model_copy(update={"rows": tuple(rows)})


def _doctor(parsed: argparse.Namespace) -> int:
    with uncollected():
        for finding in _findings(parsed):
            say(finding)
            sys.stdout.flush()
    return 0


def _findings(parsed: argparse.Namespace) -> Iterator[Finding]:
    if not (parsed.model or parsed.recipe or parsed.document_tokens or parsed.device):
        from lift_eval.cli.doctor import examine

        return examine()
    from lift_eval.cli.prediction import DOCUMENT_TOKENS, predict_run
    from lift_eval.models.loading import BUNDLED
    from lift_eval.recipe import default_recipe, load_recipe

    recipe = load_recipe(parsed.recipe or default_recipe(parsed.model))
    tokens = parsed.document_tokens or DOCUMENT_TOKENS
    return predict_run(named_model(parsed) or str(BUNDLED), recipe, tokens, parsed.device)
