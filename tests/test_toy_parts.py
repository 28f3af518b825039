"""The parts of docs/extending.md, as they stand there: one class each, and everything works with them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Annotated, Any

import pytest
import torch
from pydantic import Field, create_model

from lift_eval.adapters.registry import Adapter
from lift_eval.document import Document
from lift_eval.errors import RecipeError
from lift_eval.lifter.lifter import Lifter
from lift_eval.memory.predict import predict
from lift_eval.prompts.contents.registry import CONTENTS, content_for
from lift_eval.recipe import Recipe, load_recipe
from lift_eval.synthesis.registry import STRATEGIES
from tests.pages import files_of, page
from tests.tiny_models import tiny_model, tiny_tokenizer

FILES = files_of(page("extending.md"))
LOG = Document("The lamp was lit at nine.\nThe boat came in at ten.\nThe storm rose at noon.", "Log")
HOURS = ("nine", "ten", "noon")


def part(file: str, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A class of the page, from a module that has nothing but the page's code."""
    path = folder / Path(file).name
    path.write_text(FILES[file])
    spec = importlib.util.spec_from_file_location(file.removesuffix(".py").replace("/", "."), path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return getattr(module, name)


@pytest.fixture
def scaled_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Recipe]:
    """Recipes whose adapter may be the page's."""
    scale = part("lift_eval/adapters/scale.py", "ScaleSettings", tmp_path, monkeypatch)
    adapter: Any = Annotated[Adapter | scale, Field(discriminator="type")]
    return create_model("ScaledRecipe", __base__=Recipe, adapter=(adapter, ...))


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strategy = part("lift_eval/synthesis/lines.py", "Lines", tmp_path, monkeypatch)
    monkeypatch.setitem(STRATEGIES, strategy.name, strategy())


@pytest.fixture
def mentions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = part("lift_eval/prompts/contents/mentions.py", "Mentions", tmp_path, monkeypatch)
    monkeypatch.setitem(CONTENTS, content.name, content)


def lifter(recipe: Recipe) -> Lifter:
    model = tiny_model()
    model.generation_config.eos_token_id = [257, *range(150, 200)]  # so that replies end soon
    return Lifter(model, tiny_tokenizer(), recipe)


@pytest.mark.parametrize("hidden", [True, False])
def test_a_new_adapter_learns_a_document_and_leaves_no_trace(
    scaled_recipe: type[Recipe], hidden: bool
) -> None:
    training = {"context_epochs": 3, "learning_rate": 0.05}
    adapter = {"type": "scale", "hidden": hidden}
    tool = lifter(scaled_recipe.model_validate({"adapter": adapter, "training": training}))
    before = {name: tensor.clone() for name, tensor in tool.model.state_dict().items()}

    def changed() -> set[str]:
        now = tool.model.state_dict()
        return {name for name in before.keys() | now.keys() if not torch.equal(before[name], now[name])}

    with tool.lift(LOG) as lifted:
        losses = lifted.record.losses
        assert losses[-1] < losses[0]
        assert changed()
        assert all("ia3" in name for name in changed())
        assert any("down_proj" in name for name in changed()) == hidden
    assert not changed()


@pytest.mark.usefixtures("lines")
def test_a_new_strategy_makes_pairs_that_are_trained() -> None:
    changes = {
        "adapter.rank": 4, "training.context_epochs": 0, "training.joint_epochs": 2,
        "training.joint_segments": False, "auxiliary.strategy": "lines", "auxiliary.max_tokens": 24,
    }  # fmt: skip
    recipe = load_recipe("lora", changes)
    with lifter(recipe).lift(LOG) as lifted:
        record = lifted.record
    assert record.pairs["asked"] == record.pairs["kept"] == len(HOURS)
    assert record.supervised_tokens == 2 * sum(map(len, HOURS))
    cpu = torch.device("cpu")
    predicted = predict(tiny_model().config, recipe, device=cpu, document_tokens=80, window=1000, free=2**33)
    assert "pairs" in {part.name for part in predicted.parts}


@pytest.mark.usefixtures("mentions")
@pytest.mark.parametrize(("question", "line"), [("When did the STORM rise?", 2), ("Who?", None)])
def test_a_new_content_fills_the_prompts(question: str, line: int | None) -> None:
    tool = lifter(load_recipe("icl", {"prompt.document": "mentions"}))
    shown = "" if line is None else LOG.text.splitlines()[line]
    prompt = tool.encoder.render(LOG, question)
    ids = content_for(LOG, tool.encoder).encode(prompt, 8).ids
    assert tool.tokenizer.decode(ids, skip_special_tokens=True) == prompt.with_document(shown).text
    with tool.lift(LOG) as lifted:
        lifted.answer([question])
        assert lifted.record.kept == pytest.approx(len(shown) / len(LOG.text))


def test_a_part_that_nobody_registered_is_none() -> None:
    with pytest.raises(RecipeError, match="'conversations' or 'summaries', got 'lines'"):
        load_recipe("lora", {"auxiliary.strategy": "lines"})
    with pytest.raises(RecipeError, match=r"'wrong' or 'shuffled', got 'mentions'"):
        load_recipe("icl", {"prompt.document": "mentions"})
