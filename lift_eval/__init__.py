"""LIFT (Long Input Fine-Tuning) for any causal language model, and its benchmark in lm-evaluation-harness."""

from __future__ import annotations

__version__ = "0.1.0"
