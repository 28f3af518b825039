"""Our tasks through the model class ``lift``, from a folder of files and without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lm_eval
import pytest

from tests.benchmarks.harness import RECIPE, small

TASKS = ["loogle", "lift_longbench", "lift_niah", "lift_squad", "lift_tiny"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFT_EVAL_CACHE", str(tmp_path))


def run(checkpoint: str, data_dir: Path, **metadata: object) -> dict[str, Any]:
    model_args = {"pretrained": checkpoint, **RECIPE}
    done = lm_eval.simple_evaluate(
        model="lift",
        model_args=model_args,
        tasks=TASKS,
        task_manager=small(data_dir, **{**model_args, **metadata}),  # as lm-eval's command line hands them on
        limit=2,
        device="cpu",
        gen_kwargs={"max_gen_toks": 2},
        bootstrap_iters=0,
    )
    assert done is not None
    return done


def test_every_task_of_a_run_is_answered_and_scored(checkpoint: str, data_dir: Path) -> None:
    done = run(checkpoint, data_dir)
    totals = done["config"]["lift"]["totals"]
    # One document of LooGLE's four tasks, one of LongBench's 21, two haystacks, one article of SQuAD
    # and one of the embedded world.
    assert totals["documents"] == 1 + 1 + 2 + 1 + 1
    assert (totals["failed_documents"], totals["questions_without_document"]) == (0, 0)
    for name, scores in done["results"].items():
        if name.startswith("loogle_"):
            assert scores["documents,none"] == 1
    assert 0 <= done["results"]["lift_niah"]["score,none"] <= 1
    assert 0 <= done["results"]["lift_longbench"]["overall,none"] <= 100
