"""``lift-eval data`` and ``lift-eval tiny``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lift_eval.cli.shared import positive, say, size

if TYPE_CHECKING:
    from lift_eval.cli.shared import Commands


def add(commands: Commands) -> None:
    """Add the subcommands."""
    data = commands.add_parser("data", help="download benchmarks, to run without a network later")
    data_actions = data.add_subparsers(dest="action", metavar="ACTION", required=True)
    fetch = data_actions.add_parser("fetch", help="download, resume, check sizes and hashes")
    fetch.add_argument("benchmarks", nargs="+", metavar="BENCHMARK", help="loogle, longbench, squad")
    fetch.add_argument(
        "--to", type=Path, required=True, help="target folder, to be given to tasks as data_dir"
    )
    fetch.set_defaults(work=_fetch)

    tiny = commands.add_parser("tiny", help="write documents of the bundled model's world")
    tiny_actions = tiny.add_subparsers(dest="action", metavar="ACTION", required=True)
    write = tiny_actions.add_parser(
        "write", help="write any number of documents of any length, in LooGLE's format"
    )
    write.add_argument("--documents", type=positive, required=True, help="number of documents")
    write.add_argument("--words", type=positive, help="words in each document (default: 950 to 2,600)")
    write.add_argument("--seed", type=int, help="random seed")
    write.add_argument("--out", type=Path, required=True, help="target folder")
    write.set_defaults(work=_write)


def _fetch(parsed: argparse.Namespace) -> int:
    from lift_eval.benchmarks.fetch import fetch

    for file in fetch(parsed.benchmarks, parsed.to):
        say(f"{file.benchmark}: {file.path}, {size(file.size)}, sha256 {file.sha256[:16]}")
    say(f'run a task on these files with --metadata \'{{"data_dir": "{parsed.to}"}}\'')
    return 0


def _write(parsed: argparse.Namespace) -> int:
    from lift_eval.tiny.world import write

    for path in write(parsed.out, parsed.documents, words=parsed.words, seed=parsed.seed):
        say(f"{path}, {size(path.stat().st_size)}")
    return 0
