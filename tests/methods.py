"""Recipes of methods other than LIFT, shortened, for tests that run them from end to end."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import lm_eval

from lift_eval.recipe import Recipe, load_recipe
from tests.benchmarks.harness import manager
from tests.pages import page

OF_LIFT = {"icl", "lora", "llama3_loogle", "v2"}
THE_AXES = page("method.md").partition("\n## The axes\n")[2].partition("\n### ")[0]
RECIPES = sorted({*re.findall(r"^\| `(\w+)` \|", THE_AXES, re.MULTILINE)} - OF_LIFT)


CONVERSED = {
    "chunk_characters": [40, 80], "max_tokens": 40, "batch": 24, "temperature": 0.7,
    "request": "Passage: {{ passage }}\nWrite a question and its answer.\n",
}  # fmt: skip
"""Messages as the bundled model has learned to write questions; it ends most of its answers at once."""


def shortened(recipe: Recipe) -> dict[str, Any]:
    """Changes by which a recipe fits the bundled model, which has a short window and its own way to write pairs."""
    changes: dict[str, Any] = {
        "prompt.max_tokens": 240,
        "prompt.passage_tokens": 64,
        "prompt.question_tokens": 48,
    }
    if not recipe.trains:
        return changes
    stride = 96 if recipe.training.samples == "stream" else 192
    changes |= {"training.segment_tokens": 192, "training.stride_tokens": stride, "training.warmup_steps": 0}
    changes |= {
        f"training.{key}": 1 for key in ("context_epochs", "joint_epochs") if getattr(recipe.training, key)
    }
    if recipe.auxiliary.strategy == "passages":
        own = load_recipe("tiny").auxiliary
        kept = own.model_fields_set - {"strategy", "prompts", "request"}
        changes |= {f"auxiliary.{key}": getattr(own, key) for key in kept}
        changes["auxiliary.request"] = str(own.request).replace("sentence", "passage")
        changes |= {"auxiliary.pairs": 4, "auxiliary.passage_sentences": 1}
    if recipe.auxiliary.method.converses:
        many = recipe.auxiliary.strategy == "conversations" and recipe.auxiliary.chunk_draw == "random"
        changes |= {f"auxiliary.{key}": value for key, value in CONVERSED.items()}
        changes["auxiliary.pairs"] = 24 if many else 1
    return changes


def run_two_questions(
    name: str,
    *,
    task: str = "lift_tiny_shortqa",
    about: Mapping[str, object] = {"words": 100},
    **model_args: Any,
) -> None:
    """Run a recipe on two questions about a document, and look at what it says of them.

    Args:
        name: The recipe.
        task: Whose first two questions are asked.
        about: What the task's metadata says of the document.
        **model_args: Changes to the shortened recipe.
    """
    recipe = load_recipe(name)
    done = lm_eval.simple_evaluate(
        model="lift",
        model_args={"recipe": name, "store": "off", **shortened(recipe), **model_args},
        tasks=[task],
        task_manager=manager(recipe=name, **about),
        limit=2,
        gen_kwargs={"max_gen_toks": 12},
        device="cpu",
        bootstrap_iters=0,
    )
    assert done is not None
    lift = done["config"]["lift"]
    assert (lift["totals"]["documents"], lift["totals"]["failed_documents"]) == (1, 0)
    assert lift["totals"]["questions"] == 2
    (record,) = lift["documents"]
    assert bool(record["losses"]) == recipe.trains
    assert bool(record["pairs"]) == (recipe.auxiliary.strategy != "none")
