"""Arguments, models and documents of the benchmarks, and how pairs of runs are timed."""

# ruff: noqa: ANN401 - models and tokenizers of transformers have no types

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from rich.console import Console
from rich.table import Table

from lift_eval import Document, Recipe
from lift_eval.lifter.lifter import Lifter
from lift_eval.models import gguf
from lift_eval.models.loading import BUNDLED, load_model, load_tokenizer
from lift_eval.recipe import PrecisionSettings
from lift_eval.synthesis.replies import Pair
from lift_eval.tiny.blank import write_checkpoint
from lift_eval.tiny.world import filler
from lift_eval.training.samples import Sample

console = Console(width=120)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Setting:
    """Where and on what a benchmark runs.

    Attributes:
        checkpoint: Folder of the model.
        device: E.g. ``cuda``.
        dtype: Name of the number format of the base.
        pairs: How often both sides run.
        clock: ``wall``, or ``cpu`` for the processor time of this process, where others use the machine too.
    """

    checkpoint: Path
    device: str
    dtype: str
    pairs: int
    clock: str = "wall"

    @property
    def timer(self) -> Callable[[], float]:
        """The clock as a function."""
        return time.process_time if self.clock == "cpu" else time.perf_counter

    def seconds(self, work: Callable[[], Any]) -> tuple[float, Any]:
        """Time of a call by the clock, and what it gave."""
        return seconds(work, self.device, self.timer)

    @property
    def torch_dtype(self) -> torch.dtype:
        """The number format as torch has it."""
        return DTYPES[self.dtype]

    def model(self) -> Any:
        """The base model, loaded as the package loads it."""
        return load_model(
            str(self.checkpoint), PrecisionSettings(dtype=self.dtype), device=torch.device(self.device)
        )

    def tokenizer(self) -> Any:
        """Its tokenizer."""
        return load_tokenizer(str(self.checkpoint))

    def lifter(self, recipe: Recipe, *, window: int | None = None) -> Lifter:
        """A lifter on the model."""
        return Lifter(self.model(), self.tokenizer(), recipe, window=window)


@contextmanager
def setting(
    description: str, *, pairs: int = 5, parser: argparse.ArgumentParser | None = None
) -> Iterator[Setting]:
    """Read the command line and make the model: by default a small Llama with random weights and a window of 8,192.

    Args:
        description: What the benchmark does.
        pairs: How often both sides run.
        parser: One that knows further options, if there are any.
    """
    parser = parser or argparse.ArgumentParser()
    parser.description = description
    parser.add_argument(
        "--model",
        help="folder or GGUF file of a checkpoint, or the name of a fetched one; default: a small one, made here",
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=sorted(DTYPES), default=parser.get_default("dtype") or "float32")
    parser.add_argument("--pairs", type=int, default=pairs, help="how often both sides run")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: processor time, on a machine in use"
    )
    arguments = parser.parse_args()
    be_quiet()
    with tempfile.TemporaryDirectory() as scratch:
        folder = _checkpoint(arguments.model, arguments.dtype, Path(scratch))
        name = str(arguments.model or "small random Llama")
        console.print(about(name, arguments.device, arguments.dtype, arguments.clock), markup=False)
        yield Setting(folder, arguments.device, arguments.dtype, arguments.pairs, arguments.clock)


def be_quiet() -> None:
    """Let transformers show neither progress nor what a user cannot change, in this process."""
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def _checkpoint(model: Path | str | None, dtype: str, scratch: Path) -> Path:
    """The folder of a checkpoint; what a GGUF file holds is written to one, so that any loader reads it as it is."""
    if model is None:
        write_checkpoint(scratch, [text_of(4000)], window=8192)
        return scratch
    located = gguf.locate(str(model), None)
    if not gguf.is_gguf(located):
        return Path(located)
    load_model(located, PrecisionSettings(dtype=dtype), device=torch.device("cpu")).save_pretrained(scratch)
    load_tokenizer(located).save_pretrained(scratch)
    return scratch


def about(model: str, device: str, dtype: str, clock: str = "wall") -> str:
    """One line: the machine, its load and the versions."""
    name = (
        torch.cuda.get_device_name()
        if device.startswith("cuda")
        else f"cpu, {torch.get_num_threads()} threads"
    )
    load = f"load {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores"
    return f"[{name}, {load}, torch {torch.__version__}, {dtype}, {model}, {clock} clock]"


def bundled() -> Path | None:
    """Folder of the bundled model, if it is there."""
    return BUNDLED if (BUNDLED / "model.safetensors").is_file() else None


def text_of(sentences: int, seed: int = 0) -> str:
    """Plain invented sentences."""
    rng = random.Random(seed)
    return " ".join(filler(rng) for _ in range(sentences))


def document_of(tokenizer: Any, tokens: int, seed: int = 0) -> Document:
    """A document of a number of tokens, nearly."""
    sample = text_of(100, seed)
    per_sentence = len(tokenizer(sample)["input_ids"]) / 100
    text = text_of(int(tokens / per_sentence) + 50, seed)
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"][:tokens]
    return Document(tokenizer.decode(ids), title="A Chronicle of Invented Places")


def seconds(
    work: Callable[[], Any], device: str, clock: Callable[[], float] = time.perf_counter
) -> tuple[float, Any]:
    """Time of a call, and what it gave."""
    _wait(device)
    began = clock()
    result = work()
    _wait(device)
    return clock() - began, result


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


@dataclass(frozen=True)
class Paired:
    """Times of both sides, run in turn.

    Attributes:
        ours: Seconds of ours in each pair.
        theirs: Seconds of the peer.
    """

    ours: Sequence[float]
    theirs: Sequence[float]

    def row(self, name: str, remark: str = "") -> list[str]:
        """What a table prints of it; the ratio is the median over the pairs of the pair's ratio."""
        ratios = [their / our for our, their in zip(self.ours, self.theirs, strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        middle = (f"{statistics.median(side):.3f}" for side in (self.ours, self.theirs))
        return [name, *middle, f"{statistics.median(ratios):.2f}", spread, str(len(ratios)), remark]


def print_pairs(title: str, rows: Sequence[Sequence[str]]) -> None:
    """Print a table of `Paired.row`."""
    print_table(title, ["", "ours s", "peer s", "peer / ours", "range", "pairs", "equal?"], rows)


def print_table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table."""
    table = Table(title=title, title_justify="left")
    for place, head in enumerate(heads):
        table.add_column(head, justify="right" if place else "left", no_wrap=not place)
    for row in rows:
        table.add_row(*row)
    console.print(table)


Row = Mapping[str, str | float | None]
"""A row of a table by the heads of its columns; None where nothing is known."""


def print_rows(title: str, rows: Sequence[Row]) -> None:
    """Print a table of rows that have the same columns."""
    print_table(title, list(rows[0]), [[_shown(value) for value in row.values()] for row in rows])


def _shown(value: str | float | None) -> str:
    if value is None or isinstance(value, str):
        return value or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1000 else f"{value:.3g}"


def short_samples(tokenizer: Any, recipe: Recipe, count: int, seed: int = 0) -> list[Sample]:
    """Closed-book question-answer samples as a recipe would train them, about invented sentences."""
    from lift_eval.prompts.prompt import PromptEncoder
    from lift_eval.training.pair_samples import PairSamples

    document = document_of(tokenizer, 2000, seed)
    encoder = PromptEncoder(tokenizer, recipe.prompt, 8192)
    return list(PairSamples(document, filler_pairs(count, seed), encoder, recipe.auxiliary).epoch(0))


def filler_pairs(count: int, seed: int = 0) -> list[Pair]:
    """Question-answer pairs about invented sentences."""
    rng = random.Random(seed)
    return [
        Pair(
            f"In {1500 + number}, what of {' '.join(filler(rng).split()[:5])}?",
            " ".join(filler(rng).split()[:6]),
            "",
        )
        for number in range(count)
    ]


QUESTION_WORDS = (6, 6, 7, 7, 8, 8, 8, 9, 10, 10, 10, 11, 11, 12, 13, 14, 14, 16)
"""Of questions, about as in LooGLE's short-dependency part."""


def pairs_of_lengths(count: int, seed: int = 0) -> list[Pair]:
    """Question-answer pairs about invented sentences whose questions are as long as LooGLE's."""
    rng = random.Random(seed)
    words = text_of(4 * count, seed + 1).split()
    return [
        Pair(
            f"What of {number} {' '.join(words[8 * number :][: rng.choice(QUESTION_WORDS) - 3])}?",
            " ".join(filler(rng).split()[: rng.randint(3, 8)]),
            "",
        )
        for number in range(count)
    ]
