"""The tokenizer of the bundled model: byte-level BPE in which every word of the world is one token.

Lossless on any text: what is no word of the world is built from merges and, in the end, bytes.
"""

from __future__ import annotations

import json
import re

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from lift_eval.tiny import prompts
from lift_eval.tiny import words as w
from lift_eval.tiny.kinds import KINDS

MERGES = 350
BOS, EOS, PAD = "<s>", "</s>", "<pad>"
SPACE = "\u0120"
"""How byte-level BPE writes a leading space."""
_PIECE = re.compile(r"[A-Za-z]+|[0-9]+|[^\sA-Za-z0-9]+")
_SLOT = re.compile(r"\{\w+\}")


def vocabulary() -> list[str]:
    """Every word, number and mark of the world, sorted."""
    texts: list[str] = [*w.FILLERS, *w.OPENINGS, *w.TITLES, *prompts.ALL, *w.NUMBERS]
    for values in w.FILLER_WORDS.values():
        texts += values
    for pool in (w.FIRST_NAMES, w.SURNAMES, w.TOWNS, w.ADJECTIVES, w.NOUNS):
        texts += pool
    for kind in KINDS:
        texts += [
            kind.noun,
            kind.noun.capitalize(),
            kind.both,
            kind.pair,
            kind.before,
            kind.after,
            kind.total,
        ]
        for aspect in (
            kind.origin,
            kind.first,
            kind.last,
            kind.period,
            kind.spring,
            kind.autumn,
            *kind.extra,
        ):
            texts += [*aspect.values, *aspect.statements, *aspect.questions]
    return sorted({piece for text in texts for piece in _PIECE.findall(_SLOT.sub(" ", text))})


def _merges(words: list[str], letters: list[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Learn merges for text that is not of the world; returns the vocabulary in order and the merges."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=len(letters) + MERGES, initial_alphabet=letters, show_progress=False, min_frequency=2
    )
    # Names are capitalized in the world; in other text their parts come in lower case too.
    learner.train_from_iterator([f" {word} {word.lower()}" for word in words], trainer)
    model = json.loads(learner.to_str())["model"]
    return sorted(model["vocab"], key=model["vocab"].__getitem__), [tuple(merge) for merge in model["merges"]]


def build() -> PreTrainedTokenizerFast:
    """Make the tokenizer; nothing is random in it.

    A word that is in the vocabulary is taken whole (``ignore_merges``), so that the words of the world need no
    merges of their own.
    """
    words = vocabulary()
    letters = pre_tokenizers.ByteLevel.alphabet()
    learned, merges = _merges(words, letters)
    line_starts = _line_starts(words)
    spellings = [
        spelling for word in words for spelling in (f"{SPACE}{word}", word)[: 1 + (word in line_starts)]
    ]
    tokens = {PAD: 0, BOS: 1, EOS: 2}
    for token in (*sorted(letters), *learned, *spellings):
        tokens.setdefault(token, len(tokens))
    tokenizer = Tokenizer(models.BPE(vocab=tokens, merges=merges, ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        model_max_length=prompts.WINDOW,
        clean_up_tokenization_spaces=False,
    )


def _line_starts(words: list[str]) -> frozenset[str]:
    """Words that stand without a space before them: at the start of a line, and marks."""
    lines = (*w.OPENINGS, *w.TITLES, *w.FILLERS, *prompts.ALL)
    starts = {_PIECE.findall(line.split()[0])[0] for line in lines}
    marks = {word for word in words if not word.isalnum()}
    return frozenset(
        starts | marks | set(prompts.LABELS) | {"What", "Which", "Where", "Who", "When", "How", "The"}
    )
