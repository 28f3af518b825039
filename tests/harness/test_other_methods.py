"""Recipes of methods other than LIFT through lm-eval, on the bundled model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lm_eval
import pytest

from tests.benchmarks.harness import manager


@pytest.mark.parametrize(
    ("recipe", "shorter"),
    [
        (
            "ddcd",
            {"segment_tokens": 128, "stride_tokens": 64, "context_epochs": 2, "warmup_steps": 0},
        ),
    ],
)
def test_a_recipe_runs_from_end_to_end(
    recipe: str, shorter: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFT_EVAL_CACHE", str(tmp_path))
    changes = {f"training.{key}": value for key, value in shorter.items()}
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
    assert record["losses"][-1] < record["losses"][0]
