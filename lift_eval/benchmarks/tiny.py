"""The embedded benchmark: questions about invented articles, for the bundled model; no file and no network needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

import datasets
from pydantic import Field

from lift_eval.benchmarks.data import Line, Options, as_dataset, choose_prompt, read_options
from lift_eval.benchmarks.loogle import FEATURES, read_rows
from lift_eval.tiny import world


class TinyOptions(Options):
    """What the metadata of a run may set.

    Attributes:
        split: ``dev`` for choosing settings, ``test`` for reporting.
        documents: How many articles.
        words: Length of each in words; None gives the lengths that the bundled model is meant for.
    """

    split: Literal["dev", "test"] = "test"
    documents: Annotated[int, Field(ge=1)] = 12
    words: Annotated[int, Field(ge=100)] | None = None


def load(*, subset: str, prompts: Mapping[str, str], **metadata: object) -> dict[str, datasets.Dataset]:
    """Make the rows of a subset for lm-eval.

    Args:
        subset: ``shortdep_qa`` or ``longdep_qa``, as LooGLE calls them.
        prompts: The task's prompt templates by name, the default first.
        **metadata: lm-eval's metadata and model arguments; see `TinyOptions`.
    """
    options = read_options(TinyOptions, metadata)
    style, template = choose_prompt(prompts, options.prompt_style, metadata)
    shared = {
        "prompt_style": style,
        "prompt_template": template,
        "judge": options.judge or "",
        "judged_as": "answer",
    }
    return as_dataset((row | shared for row in read_rows(_lines(subset, options), subset)), FEATURES)


def _lines(subset: str, options: TinyOptions) -> Iterator[Line]:
    articles = world.documents(options.split, options.documents, words=options.words)
    for number, document in enumerate(articles):
        yield Line(f"article {number}", document.shortqa if subset == "shortdep_qa" else document.longqa)
