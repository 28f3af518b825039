"""Needle in a haystack: one sentence hidden in a long text, over a grid of text lengths and depths.

A cell of the grid is a length in tokens and a depth; it holds several samples, each with another stretch of the
haystack. The grid is built once for a setting and a tokenizer, and kept in the cache folder.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import datasets
from pydantic import Field, StringConstraints

from lift_eval.benchmarks.data import (
    Options,
    as_dataset,
    choose_prompt,
    read_jsonl,
    read_options,
    withhold_text,
)
from lift_eval.benchmarks.metrics import needle
from lift_eval.errors import DocumentError
from lift_eval.files import cache_folder, writing_whole
from lift_eval.store import code_identity
from lift_eval.tiny import world

HAYSTACK_FILES = ("*.txt", "*.md")
WORDS_OF_WORLD = 100_000
TOKENS_PER_WORD = 4 / 3
"""How many tokens a white-space word is taken for where no tokenizer is known."""

FEATURES = datasets.Features(
    {
        **dict.fromkeys(("context", "question", "answer"), datasets.Value("string")),
        "keywords": datasets.List(datasets.Value("string")),
        "length": datasets.Value("int64"),
        "depth": datasets.Value("float64"),
        "sample": datasets.Value("int64"),
        **dict.fromkeys(("prompt_style", "prompt_template"), datasets.Value("string")),
    }
)

Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Length = Annotated[int, Field(ge=32)]
Depth = Annotated[float, Field(ge=0, le=1)]

logger = logging.getLogger(__name__)


class NiahOptions(Options):
    """What the metadata of a run may set; the defaults are the published setting.

    Attributes:
        lengths: Tokens of the haystack with its needle.
        depths: Where the needle lies: 0 is the start of the text, 1 its end.
        samples: Samples per cell.
        haystack_dir: Folder whose ``.txt`` and ``.md`` files are the haystack; the embedded world's text if None.
            The published haystack, Paul Graham's essays, is not shipped.
        needle: The sentence to hide.
        question: The question about it.
        keywords: What a right answer holds.
        tokenizer: Name or folder of the tokenizer that counts; ``pretrained`` if None, words if that is None too.
        pretrained: The model of the run.
    """

    lengths: Annotated[tuple[Length, ...], Field(min_length=1)] = tuple(1000 * 2**k for k in range(8))
    depths: Annotated[tuple[Depth, ...], Field(min_length=1)] = (0, 0.2, 0.4, 0.6, 0.8, 1.0)
    samples: Annotated[int, Field(ge=1)] = 10
    haystack_dir: Path | None = None
    needle: Text = (
        "The best thing to do in San Francisco is eat a sandwich and sit in Dolores Park on a sunny day."
    )
    question: Text = "What is the best thing to do in San Francisco?"
    keywords: Annotated[tuple[Text, ...], Field(min_length=1)] = ("sandwich", "dolores park", "sunny")
    tokenizer: str | None = None
    pretrained: str | None = None


def load(*, prompts: Mapping[str, str], **metadata: object) -> dict[str, datasets.Dataset]:
    """Build the grid for lm-eval, or take it from the cache folder.

    Args:
        prompts: The task's prompt templates by name, the default first.
        **metadata: lm-eval's metadata and model arguments; see `NiahOptions`.

    Raises:
        DocumentError: If the haystack folder cannot be used.
        RecipeError: For an option that cannot be used.
    """
    options = read_options(NiahOptions, metadata)
    style, template = choose_prompt(prompts, options.prompt_style, metadata)
    shared = {"prompt_style": style, "prompt_template": template}
    haystack = read_haystack(options.haystack_dir)
    tokens = TokenCounter.of(options.tokenizer or options.pretrained)
    rows = kept_grid(options, haystack, tokens)
    return as_dataset((row | shared for row in rows), FEATURES)


# -------------------------------------------------------------------------------------------------- what is counted


@dataclass(frozen=True)
class TokenCounter:
    """Finds where the tokens of a text end.

    Attributes:
        identity: What the kept grids are keyed by.
        tokenizer: A fast tokenizer of transformers; None estimates from words.
    """

    identity: str
    tokenizer: Any = None

    @classmethod
    def of(cls, name: str | None) -> TokenCounter:
        """The counter of a checkpoint, or the estimate where none is named or it has no fast tokenizer."""
        estimate = cls(f"words x {TOKENS_PER_WORD:.4f}")
        if name is None:
            logger.warning("no tokenizer is named: lengths are estimated as 4/3 tokens per word")
            return estimate
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(name)
        if not tokenizer.is_fast:
            logger.warning("%s has no fast tokenizer: lengths are estimated as 4/3 tokens per word", name)
            return estimate
        return cls(hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest(), tokenizer)

    def ends(self, text: str) -> list[int]:
        """The index after each token's last character, in order."""
        if self.tokenizer is not None:
            encoding = self.tokenizer(
                text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
            )
            return [end for _, end in encoding["offset_mapping"]]
        words = [match.end() for match in re.finditer(r"\S+", text)]
        return [words[int(i / TOKENS_PER_WORD)] for i in range(int(len(words) * TOKENS_PER_WORD))]


def read_haystack(folder: Path | None) -> str:
    """The text that needles are hidden in.

    Args:
        folder: Its ``.txt`` and ``.md`` files are joined in the order of their paths; None takes the embedded world.

    Raises:
        DocumentError: If there is no such folder or no text in it.
    """
    if folder is None:
        return " ".join(document.article.text for document in world.documents("dev", 1, words=WORDS_OF_WORLD))
    if not folder.is_dir():
        raise DocumentError(f"haystack_dir '{folder}' is not a folder; name one with .txt or .md files")
    paths = sorted(path for pattern in HAYSTACK_FILES for path in folder.rglob(pattern))
    text = "\n\n".join(filter(None, map(_read_text, paths)))
    if not text:
        raise DocumentError(f"haystack_dir '{folder}' holds no text in .txt or .md files; add some")
    return text


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise DocumentError(f"{path}: not UTF-8 (byte {error.start}); save the file as UTF-8") from error


# --------------------------------------------------------------------------------------------------------- the grid


def build_grid(options: NiahOptions, haystack: str, tokens: TokenCounter) -> Iterator[dict[str, Any]]:
    """Hide the needle at every depth of every length.

    A haystack that is too short is repeated. Each sample starts at a different sentence; which one depends on the
    cell and the sample alone. The needle stands between two sentences: at its depth, moved back to the last end of a
    sentence.

    Yields:
        One row per sample, ordered by length, depth and sample.

    Raises:
        DocumentError: If a length leaves no room for the haystack beside the needle.
    """
    ends = tokens.ends(haystack)
    if not ends:
        raise DocumentError("the haystack holds no words; name a folder with text in haystack_dir")
    needle_tokens = len(tokens.ends(f" {options.needle}"))
    for length in options.lengths:
        room = length - needle_tokens
        if room < 1:
            raise DocumentError(f"length {length} is too short for a needle of {needle_tokens} tokens")
        for depth in options.depths:
            for sample in range(options.samples):
                seed = f"{length} {depth} {sample}"
                start = random.Random(seed).randrange(len(ends))  # noqa: S311 (not for security)
                yield {
                    "context": _hide(options.needle, _stretch(haystack, ends, start, room), depth),
                    "question": options.question,
                    "answer": options.needle,
                    "keywords": list(options.keywords),
                    "length": length,
                    "depth": depth,
                    "sample": sample,
                }


def _stretch(text: str, ends: Sequence[int], start: int, count: int) -> str:
    """About ``count`` tokens of a text repeated end to end, from the first sentence after token ``start``."""
    opening = re.compile(r"(?<=[.!?])\s+(?=\S)").search(text, ends[start])
    offset = opening.end() if opening else 0
    first = next((i for i, end in enumerate(ends) if end > offset), 0)
    pieces = []
    while count > 0:
        last = min(first + count, len(ends))
        pieces.append(text[offset : ends[last - 1]])
        count -= last - first
        first = offset = 0
    return "\n\n".join(pieces)


def _hide(needle: str, text: str, depth: float) -> str:
    if depth == 1:
        return f"{text.rstrip()} {needle}"
    breaks = [0, *(match.end() for match in re.finditer(r"[.!?]\s+", text))]
    place = max(end for end in breaks if end <= depth * len(text))
    return f"{text[:place]}{needle} {text[place:]}"


def kept_grid(options: NiahOptions, haystack: str, tokens: TokenCounter) -> list[dict[str, Any]]:
    """The grid of a setting from the cache folder; built and kept there if it is new, whole or not at all."""
    setting = options.model_dump(include={"lengths", "depths", "samples", "needle", "question", "keywords"})
    text_digest = hashlib.sha256(haystack.encode()).hexdigest()
    key = json.dumps([code_identity(__name__), setting, text_digest, tokens.identity])
    path = cache_folder("niah") / f"{hashlib.sha256(key.encode()).hexdigest()}.jsonl"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing_whole(path) as stream:
            for row in build_grid(options, haystack, tokens):
                stream.write(f"{json.dumps(row)}\n".encode())
    return [dict(line.fields) for line in read_jsonl(path)]


def cell_name(length: int, depth: float) -> str:
    """Name of a cell's score: ``score_4000_20`` for 4000 tokens at 20 % depth."""
    return f"score_{length}_{depth * 100:.4g}"


def score(row: dict[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Share of the key words found, over all cells and in the row's own, and whether all were found.

    It is lm-eval's ``process_results``.
    """
    share = needle.keyword_share(results[0], row["keywords"])
    every = needle.all_keywords(results[0], row["keywords"])
    withhold_text(row)
    return {"score": share, "all_keywords": every, cell_name(row["length"], row["depth"]): share}
