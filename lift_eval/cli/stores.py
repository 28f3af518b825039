"""``lift-eval store``."""

from __future__ import annotations

import argparse
import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lift_eval.cli.shared import add_model, named_model, say, size
from lift_eval.errors import StoreError

if TYPE_CHECKING:
    from lift_eval.cli.shared import Commands
    from lift_eval.store import Store

NAMED = ("document", "recipe", "model")
"""Facts about an entry that the list shows."""
UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def add(commands: Commands) -> None:
    """Add the subcommands."""
    store = commands.add_parser("store", help="manage the adapters, pairs and answers kept between runs")
    store.add_argument("--store", help="folder (default: LIFT_EVAL_STORE, or the user's cache folder)")
    actions = store.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser(
        "ls", help="list the entries: kind, key, size, last use, document, recipe, model"
    )
    listing.add_argument("--json", action="store_true", help="print one JSON object per line")
    listing.set_defaults(work=_list)
    show = actions.add_parser("show", help="print an entry's content")
    show.add_argument("key", help="its key or the first characters of the key")
    show.set_defaults(work=_show)
    export = actions.add_parser("export", help="write an adapter to a folder that peft and servers can load")
    export.add_argument("key", help="its key or the first characters of the key")
    export.add_argument("folder", type=Path, help="a new or empty folder")
    export.add_argument(
        "--merged", action="store_true", help="write the whole model with the adapter merged in"
    )
    export.add_argument(
        "--model",
        help="folder or Hub name of the base model, or path of a GGUF file; default: the one it was trained on",
    )
    export.add_argument(
        "--results",
        type=Path,
        help="results of runs with this adapter; its card then shows the document's scores",
    )
    export.set_defaults(work=_export)
    bring = actions.add_parser(
        "import",
        help="copy a peft adapter made elsewhere into the store, with a recipe for 'ask' and 'compare'",
    )
    bring.add_argument(
        "adapter", type=Path, help="folder with adapter_config.json and adapter_model.safetensors"
    )
    bring.add_argument("file", type=Path, help="the document that it was made for")
    add_model(bring)
    bring.set_defaults(work=_import)
    actions.add_parser("verify", help="check all entries and move damaged ones to quarantine").set_defaults(
        work=_verify
    )
    prune = actions.add_parser("prune", help="delete the least recently used entries")
    prune.add_argument("--max-size", required=True, help="maximum size of the store, e.g. 20GB")
    prune.set_defaults(work=_prune)


def _open(parsed: argparse.Namespace) -> Store:
    from lift_eval.store import open_store

    store = open_store(parsed.store)
    if store is None:
        raise StoreError("the store is off (LIFT_EVAL_STORE); name a folder with --store")
    return store


def _list(parsed: argparse.Namespace) -> int:
    store = _open(parsed)
    entries = store.entries()
    about = {entry: store.describe(entry).get("about", {}) for entry in entries}
    names = {entry: [_plain(about[entry].get(name, "")) for name in NAMED] for entry in entries}
    if parsed.json:
        for entry in entries:
            say(
                json.dumps({**vars(entry), **dict(zip(NAMED, names[entry], strict=True))}, ensure_ascii=False)
            )
        return 0
    widths = [
        max((len(columns[place]) for columns in names.values()), default=0) for place in range(len(NAMED))
    ]
    for entry in entries:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
        columns = "  ".join(f"{name:{width}}" for name, width in zip(names[entry], widths, strict=True))
        say(f"{entry.kind:9} {entry.key[:16]} {size(entry.bytes):>9}  {used}  {columns}".rstrip())
    say(f"{len(entries)} entries, {size(sum(entry.bytes for entry in entries))}, in {store.folder}")
    return 0


def _show(parsed: argparse.Namespace) -> int:
    for about in _open(parsed).show(parsed.key):
        say(json.dumps(about, indent=2, ensure_ascii=False, default=str))
    return 0


def _plain(name: object) -> str:
    """A name from an entry on one line, without terminal control characters."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(name))


def _export(parsed: argparse.Namespace) -> int:
    from lift_eval.lifter.kept import export_kept

    how = {"model": parsed.model, "merged": parsed.merged, "results": parsed.results}
    export_kept(_open(parsed), parsed.key, parsed.folder, **how)
    say(f"{parsed.folder}: {', '.join(sorted(path.name for path in parsed.folder.iterdir()))}")
    return 0


def _import(parsed: argparse.Namespace) -> int:
    from lift_eval.benchmarks.own_documents import read_document
    from lift_eval.lifter.kept import import_adapter

    say(import_adapter(_open(parsed), parsed.adapter, read_document(parsed.file), named_model(parsed)))
    return 0


def _verify(parsed: argparse.Namespace) -> int:
    store = _open(parsed)
    count = len(store.entries())
    faults = store.verify()
    for fault in faults:
        say(f"{fault.entry.kind} {fault.entry.key[:16]}: {fault.reason}")
    say(f"{count} entries, {len(faults)} faulty")
    return 1 if faults else 0


def _prune(parsed: argparse.Namespace) -> int:
    gone = _open(parsed).prune(read_size(parsed.max_size))
    say(f"{len(gone)} entries deleted, {size(sum(entry.bytes for entry in gone))}")
    return 0


def read_size(text: str) -> int:
    """Read a size like ``20GB``.

    Raises:
        StoreError: If it is not a size.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?B|)", text.strip(), flags=re.IGNORECASE)
    if match is None:
        raise StoreError(f"--max-size must be a number and a unit (B, KB, MB, GB, TB), got '{text}'")
    unit = match[2].upper()
    return int(float(match[1]) * UNITS["" if unit == "B" else unit])
