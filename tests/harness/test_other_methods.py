"""Recipes of methods other than LIFT through lm-eval, on the bundled model: all that the table of the axes has."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance

from lift_eval.errors import RecipeError
from lift_eval.harness.model import LiftLM
from lift_eval.models.loading import BUNDLED
from lift_eval.prompts.contents.registry import CONTENTS
from lift_eval.recipe import load_recipe
from tests.methods import RECIPES, run_two_questions


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
    assert recipe.reproduces or "No published run" in recipe.description
    whole = CONTENTS[recipe.prompt.document].fills_window
    model = {"pretrained": str(with_longer_window(tmp_path / "model"))} if whole else {}
    run_two_questions(name, **model)


def test_a_recipe_that_reads_in_its_own_way_is_for_greedy_answers_alone() -> None:
    lm = LiftLM(device="cpu", recipe="streaming_cache", store="off")
    with pytest.raises(RecipeError, match=r"'decoding\.cache' .* lift_tiny_shortqa scores given ones"):
        lm.loglikelihood([request("loglikelihood", ("The ship", " Heron"))])
    with pytest.raises(RecipeError, match="needs greedy decoding, got num_beams=2"):
        lm.generate_until([request("generate_until", ("The ship " * 9, {"num_beams": 2, "max_gen_toks": 4}))])


def request(kind: Any, arguments: tuple[Any, ...]) -> Instance:
    return Instance(kind, {}, arguments, 0, ("lift_tiny_shortqa", 0, 1))
