"""``lift-eval report`` and ``lift-eval judge``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lift_eval.cli.shared import bold, positive, say
from lift_eval.errors import ResultsError

if TYPE_CHECKING:
    from lift_eval.cli.shared import Commands


def add(commands: Commands) -> None:
    """Add the subcommands."""
    report = commands.add_parser("report", help="render the report of an experiment file, or of results")
    report.add_argument(
        "sources", nargs="+", type=Path, metavar="SOURCE", help="one experiment file (*.yaml), or results"
    )
    report.add_argument(
        "--out", type=Path, help="folder for the report (default: beside the experiment file)"
    )
    report.add_argument("--metric", metavar="NAME", help="score to show if there is no experiment file")
    report.add_argument("--open", action="store_true", help="open the page in a browser")
    report.set_defaults(work=_report)

    judge = commands.add_parser("judge", help="judge saved answers without running the model")
    judge.add_argument("results", type=Path, help="folder of results that were saved with --log_samples")
    judge.add_argument("--model", required=True, help="judge model on the server OPENAI_BASE_URL")
    judge.add_argument(
        "--concurrency", type=positive, default=8, help="questions judged at a time (default: 8)"
    )
    judge.set_defaults(work=_judge)


def _report(parsed: argparse.Namespace) -> int:
    from lift_eval.reporting.figures.render_pool import RenderPool

    experiments = [path for path in parsed.sources if path.suffix in (".yaml", ".yml")]
    if experiments and len(parsed.sources) > 1:
        raise ResultsError(
            f"give one experiment file, or any number of results, got '{experiments[0]}' and "
            f"{len(parsed.sources) - 1} more"
        )
    if experiments and parsed.metric:
        raise ResultsError(
            f"--metric is for results without an experiment file; set 'metric' of the columns in {experiments[0]}"
        )
    with RenderPool() as pool:  # which gets ready while the rest is imported
        from lift_eval.reporting.render import render_experiment, render_results

        if experiments:
            report = render_experiment(experiments[0], parsed.out, pool)
        else:
            report = render_results(parsed.sources, parsed.out or Path("report"), pool, metric=parsed.metric)
    say(report.summary(bold))
    say(f"report: {report.page}")
    if parsed.open:
        import webbrowser

        webbrowser.open(report.page.resolve().as_uri())
    return 0


def _judge(parsed: argparse.Namespace) -> int:
    from lift_eval.judging.judge import Judge
    from lift_eval.judging.saved import agreements, judge_saved, summary_lines

    judge = Judge(parsed.model, concurrency=parsed.concurrency)
    tasks = judge_saved(parsed.results, judge)
    for line in summary_lines(tasks):
        say(line)
    for agreement in agreements(parsed.results):
        first, second = agreement.judges
        say(
            f"{agreement.task}: {first} and {second} agree with Cohen's kappa {agreement.kappa:.3f} on "
            f"{agreement.questions} answers"
        )
    return 1 if any(task.failed for task in tasks) else 0
