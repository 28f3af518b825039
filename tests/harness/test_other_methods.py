"""Recipes of methods other than LIFT through lm-eval, on the bundled model: all that the table of the axes has."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import lm_eval
import pytest
from lm_eval.api.instance import Instance

from lift_eval.errors import RecipeError
from lift_eval.harness.model import LiftLM
from lift_eval.models.loading import BUNDLED
from lift_eval.prompts.contents.registry import CONTENTS
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


def with_longer_window(folder: Path) -> Path:
    """The bundled model with a window for its benchmark's whole documents, of which it then makes little."""
    shutil.copytree(BUNDLED, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 2048}))
    return folder


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_of_the_table_runs_from_end_to_end(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFT_EVAL_CACHE", str(tmp_path))
    recipe = load_recipe(name)
    whole = CONTENTS[recipe.prompt.document].fills_window
    model = {"pretrained": str(with_longer_window(tmp_path / "model"))} if whole else {}
    done = lm_eval.simple_evaluate(
        model="lift",
        model_args={"recipe": name, "store": "off", **model, **shortened(recipe)},
        tasks=["lift_tiny_shortqa"],
        task_manager=manager(recipe=name),
        limit=2,
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
    assert recipe.reproduces or "No published run" in recipe.description


def test_a_recipe_that_reads_in_its_own_way_is_for_greedy_answers_alone() -> None:
    lm = LiftLM(device="cpu", recipe="streaming_cache", store="off")
    with pytest.raises(RecipeError, match=r"'decoding\.cache' .* lift_tiny_shortqa scores given ones"):
        lm.loglikelihood([request("loglikelihood", ("The ship", " Heron"))])
    with pytest.raises(RecipeError, match="needs greedy decoding, got num_beams=2"):
        lm.generate_until([request("generate_until", ("The ship " * 9, {"num_beams": 2, "max_gen_toks": 4}))])


def request(kind: Any, arguments: tuple[Any, ...]) -> Instance:
    return Instance(kind, {}, arguments, 0, ("lift_tiny_shortqa", 0, 1))
