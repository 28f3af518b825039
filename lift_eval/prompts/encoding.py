"""Encoding long texts that begin alike: the beginning is encoded once, to exactly the tokens of the whole text.

The prompts about a document differ in their last words, and encoding a document of 24,000 tokens takes as long as
answering a question about it with a small model. Where text may be cut between two words without a change to any token,
the beginning up to such a place is remembered. That is so for byte-level BPE with the patterns below: a run of letters
ends at a space, whatever comes after, and the next match begins there, whatever came before. Any other tokenizer is
given the whole text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PATTERNS = {
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}{_REST}",  # Llama 3
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{_REST}",  # Qwen 2 and 3
}
"""Patterns that cut between the letter and the space of "a b", whatever stands around them."""

MIN_CHARACTERS = 4000
"""A shorter beginning is not remembered."""

OVERLAP = 200
"""Characters, at least, that both parts encode, to be compared."""

REMEMBERED = 4
"""Beginnings kept."""

_CUT = re.compile(r"(?<=[A-Za-z]) (?=[A-Za-z])")
_TEXT_BEFORE_SPACE = re.compile(r"[A-Za-z] ")

Span = tuple[int, int]


@dataclass(frozen=True)
class Encoding:
    """Tokens of a text.

    Attributes:
        ids: Token ids.
        spans: The characters of each; (0, 0) for special tokens.
    """

    ids: list[int]
    spans: list[Span]


class TextEncoder:
    """Encodes texts with their spans, and remembers beginnings.

    Args:
        tokenizer: A fast tokenizer of transformers.
    """

    def __init__(self, tokenizer: Any) -> None:  # noqa: ANN401
        self.tokenizer = tokenizer
        self._may_cut = cuts_between_words(tokenizer)
        self._beginning = lru_cache(maxsize=REMEMBERED)(self._plain)

    def __call__(self, text: str, *, shared: int, special: bool) -> Encoding:
        """Encode a text.

        Args:
            text: The text.
            shared: How many characters other texts are likely to begin with, too.
            special: Whether the tokenizer adds its special tokens.

        Returns:
            What the tokenizer says of the whole text.
        """
        places = list(self._places(text, shared)) if self._may_cut else []
        joined = self._joined(text, *places) if len(places) == 2 else None
        if joined is None:
            return self._whole(text, special=special)
        before, after = self._special if special else ([], [])
        spans: list[Span] = [(0, 0)] * len(before) + joined.spans + [(0, 0)] * len(after)
        return Encoding([*before, *joined.ids, *after], spans)

    def _places(self, text: str, shared: int) -> Iterator[int]:
        """Where the text may be cut: the last place in what is shared, and one before it by the overlap."""
        stop = shared
        for _ in range(2):
            start = max(stop - 5 * OVERLAP, MIN_CHARACTERS)
            found = [place.start() for place in _CUT.finditer(text, start, max(stop, start))]
            if not found:
                return
            yield found[-1]
            stop = found[-1] - OVERLAP

    def _joined(self, text: str, cut: int, before: int) -> Encoding | None:
        """The tokens of the text up to the cut and from before the cut. None means that the two disagree in between."""
        first, second = self._beginning(text[:cut]), self._plain(text[before:])
        ours = next(i for i, span in enumerate(first.spans) if span[1] > before)
        theirs = next(i for i, span in enumerate(second.spans) if span[1] > cut - before)
        if first.ids[ours:] != second.ids[:theirs]:
            return None
        spans = [(start + before, stop + before) for start, stop in second.spans[theirs:]]
        return Encoding(first.ids + second.ids[theirs:], first.spans + spans)

    def _plain(self, text: str) -> Encoding:
        return self._whole(text, special=False)

    def _whole(self, text: str, *, special: bool) -> Encoding:
        encoding = self.tokenizer(
            text, add_special_tokens=special, return_offsets_mapping=True, verbose=False
        )
        return Encoding(list(encoding["input_ids"]), list(encoding["offset_mapping"]))

    @cached_property
    def _special(self) -> tuple[list[int], list[int]]:
        """Special tokens put before and after a text."""
        encoding = self.tokenizer("a", return_special_tokens_mask=True)
        ids, mask = encoding["input_ids"], encoding["special_tokens_mask"]
        first, last = mask.index(0), len(mask) - mask[::-1].index(0)
        return ids[:first], ids[last:]


def cuts_between_words(tokenizer: Any) -> bool:  # noqa: ANN401
    """Whether a text cut between a letter, on the left, and a space and a letter has the tokens of both parts.

    Args:
        tokenizer: A fast tokenizer of transformers.
    """
    from tokenizers.models import BPE

    backend = tokenizer.backend_tokenizer
    if backend.normalizer is not None or not isinstance(backend.model, BPE) or backend.pre_tokenizer is None:
        return False
    state = json.loads(backend.pre_tokenizer.__getstate__())
    parts = state["pretokenizers"] if state["type"] == "Sequence" else [state]
    kinds = [part["type"] for part in parts]
    if any(part.get("add_prefix_space") for part in parts):
        return False
    if kinds == ["Split", "ByteLevel"]:
        split = (parts[0]["pattern"].get("Regex"), parts[0]["behavior"], parts[0]["invert"])
        if split[0] not in PATTERNS or split[1:] != ("Isolated", False) or parts[1]["use_regex"]:
            return False
    elif kinds != ["ByteLevel"] or not parts[0]["use_regex"]:
        return False
    return not any(
        token.rstrip or token.single_word or _TEXT_BEFORE_SPACE.search(token.content)
        for token in tokenizer.added_tokens_decoder.values()
    )
