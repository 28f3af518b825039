"""Recipes of methods other than LIFT through lm-eval, on the bundled model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lm_eval
import pytest

from lift_eval.recipe import load_recipe
from tests.benchmarks.harness import manager


@pytest.mark.parametrize(
    ("recipe", "shorter"),
    [
        ("ddcd", {"context_epochs": 2, "warmup_steps": 0}),
        ("context_distillation", {"joint_epochs": 2}),
        ("prompt_distillation", {"joint_epochs": 1, "warmup_steps": 0, "learning_rate": 1e-3}),
    ],
)
def test_a_recipe_runs_from_end_to_end(
    recipe: str, shorter: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFT_EVAL_CACHE", str(tmp_path))
    in_window = {"segment_tokens": 128, "stride_tokens": 64}
    changes = {f"training.{key}": value for key, value in {**in_window, **shorter}.items()}
    if recipe.endswith("distillation"):  # pairs as the bundled model has learned to write them
        own = load_recipe("tiny").auxiliary
        changes |= {f"auxiliary.{key}": getattr(own, key) for key in own.model_fields_set}
        changes |= {"auxiliary.pairs": 1, "auxiliary.prompts": ["task_closed_book"]}
    done = lm_eval.simple_evaluate(
        model="lift",
        model_args={"recipe": recipe, "store": "off", **changes},
        tasks=["lift_tiny_shortqa"],
        task_manager=manager(recipe=recipe),
        limit=2,
        device="cpu",
        bootstrap_iters=0,
    )
    assert done is not None
    lift = done["config"]["lift"]
    assert (lift["totals"]["documents"], lift["totals"]["failed_documents"]) == (1, 0)
    (record,) = lift["documents"]
    assert record["losses"]
    assert record["supervised_tokens"] > 0
