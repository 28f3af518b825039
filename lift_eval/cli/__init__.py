"""The command line ``lift-eval``: one module for each group of subcommands.

A subcommand imports what it needs when it runs, so that ``lift-eval --help`` answers at once.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from lift_eval import __version__
from lift_eval.cli import ask, compare, data, models, recipes, reports, runs, samples, stores, tune
from lift_eval.errors import Interrupted, LiftEvalError
from lift_eval.harness.exit_status import USER_FAULT


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand.

    Args:
        argv: The arguments after the program's name; those of this process by default.

    Returns:
        The exit status: 0; 2 for a fault that the user can fix, 128 and the signal's number after a signal, both
        with one line; 3 where documents were given up.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments[:1] == ["run"] and not runs.names_experiment(arguments[1:]):
            return runs.run_lm_eval(arguments[1:])
        parsed = _parser().parse_args(arguments)
        return int(parsed.work(parsed))
    except LiftEvalError as error:
        sys.stderr.write(f"lift-eval: error: {error}\n")
        return USER_FAULT
    except Interrupted as interrupt:
        sys.stderr.write(f"lift-eval: {interrupt}\n")
        return interrupt.status
    except BrokenPipeError:  # the reader has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still to be flushed
        return 128 + int(signal.SIGPIPE)
    except OSError as error:
        place = f"'{error.filename}' cannot be used" if error.filename else "a file cannot be used"
        sys.stderr.write(
            f"lift-eval: error: {place} ({error.strerror or error}); name another, or make room\n"
        )
        return USER_FAULT
    except KeyboardInterrupt:
        sys.stderr.write("lift-eval: interrupted; run the same command again\n")
        return 128 + int(signal.SIGINT)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lift-eval",
        description="Does fine-tuning a document into an adapter beat reading it? LIFT against ICL, in lm-eval.",
    )
    parser.add_argument("--version", action="version", version=f"lift-eval {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for group in (ask, compare, runs, tune, samples, reports, recipes, data, models, stores):
        group.add(commands)
    return parser
