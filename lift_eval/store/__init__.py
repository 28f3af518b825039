"""The store keeps adapters, pairs, distributions and answers between runs, so that no document is trained twice.

A cache in every sense: it may be deleted, shared or damaged at any time, and a run only takes longer for it.
"""

from __future__ import annotations

from lift_eval.store.code import code_identity
from lift_eval.store.entries import Distributions, KeptAnswer, KeptAnswers, Pairs, Payload, Training
from lift_eval.store.identity import answers_key, base_identity, entry_key, pairs_key, run_identity
from lift_eval.store.locate import default_folder, open_store
from lift_eval.store.store import Entry, Fault, Store

__all__ = [
    "Distributions",
    "Entry",
    "Fault",
    "KeptAnswer",
    "KeptAnswers",
    "Pairs",
    "Payload",
    "Store",
    "Training",
    "answers_key",
    "base_identity",
    "code_identity",
    "default_folder",
    "entry_key",
    "open_store",
    "pairs_key",
    "run_identity",
]
