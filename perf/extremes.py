"""A document of a million tokens, one of ten thousand questions, ten thousand of one question: what they take.

    python perf/extremes.py long --words 900000
    python perf/extremes.py asked --questions 10000
    python perf/extremes.py many --documents 10000

All run the whole line with the bundled model on one thread: one epoch of plain segments, LoRA of rank 4, a store of
their own. Times are processor time. While it runs, `many` prints what could grow.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from itertools import cycle, islice
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from lift_eval.tiny import world  # noqa: E402
from perf.soak import resources, say  # noqa: E402
from tests import line  # noqa: E402

MINIMAL = {"pretrained": None, "training.learning_rate": 1e-3, "training.samples_per_step": 16}
FORMAT = "{:>9} documents  {:>7.0f} s  {:>6.0f} MiB  {:>4} files  {:>3} threads  store {:>7.1f} MiB"


def write(folder: Path, documents: int, words: int, questions: int) -> None:
    """Rows about documents of the bundled model's world, one for each question."""
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as rows:
        for document in world.documents("test", documents, words=words):
            row = document.shortqa
            for pair in islice(cycle(row["qa_pairs"]), questions):
                about = {
                    "title": row["title"],
                    "context": row["input"],
                    "question": pair["Q"],
                    "name": pair["A"],
                }
                rows.write(json.dumps(about) + "\n")


def watch(store: Path, seconds: float, stop: threading.Event) -> None:
    """Print what the process uses, again and again."""
    while not stop.wait(seconds):
        show(store)


def show(store: Path) -> None:
    """Print what the process uses now."""
    sizes = {
        kind: [file.stat().st_size for file in store.glob(f"{kind}/[0-9a-f]*")]
        for kind in ("adapters", "answers")
    }
    used = resources()
    size = sum(map(sum, sizes.values()))
    say(
        FORMAT.format(
            len(sizes["answers"]),
            time.process_time(),
            used["memory"] / 1024,
            used["files"],
            used["threads"],
            size / 2**20,
        )
    )


def run(folder: Path, documents: int, words: int, questions: int, seconds: float) -> dict[str, Any]:
    """Run one of the three; returns what `tests.line` reads of it."""
    write(folder, documents, words, questions)
    began, stop = time.process_time(), threading.Event()
    watching = threading.Thread(target=watch, args=(folder / "store", seconds, stop), daemon=True)
    watching.start()
    done = line.run(folder, ("answers",), store=str(folder / "store"), **MINIMAL)
    stop.set()
    watching.join()
    show(folder / "store")
    assert done is not None
    return {**done, "seconds": time.process_time() - began}


def main() -> None:
    """Run it and print the totals."""
    parser = argparse.ArgumentParser(
        description="Run one enormous document, or one asked very often, or very many."
    )
    parser.add_argument("what", choices=("long", "asked", "many"))
    parser.add_argument("--documents", type=int, default=10_000, help="of 'many'")
    parser.add_argument("--questions", type=int, default=10_000, help="of 'asked'")
    parser.add_argument("--words", type=int, default=900_000, help="of 'long'")
    parser.add_argument("--every", type=float, default=60, help="seconds between two lines")
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    documents, words, questions = {
        "long": (1, parsed.words, 20),
        "asked": (1, 2_000, parsed.questions),
        "many": (parsed.documents, 120, 1),
    }[parsed.what]
    with tempfile.TemporaryDirectory() as scratch:
        done = run(Path(scratch), documents, words, questions, parsed.every)
        totals, records = done["record"]["totals"], done["record"]["documents"]
        tokens = sum(record["tokens"] for record in records)
        say(
            f"{totals['documents']} documents, {totals['failed_documents']} given up, {tokens} tokens, "
            f"{sum(len(record['losses']) for record in records)} steps, {totals['questions']} questions"
        )
        say(f"processor time {done['seconds']:.0f} s")
        say(f"peak memory {totals['peak_memory_bytes'] / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
