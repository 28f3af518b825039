"""A new adapter and a new strategy for pairs are one class and one line each, and everything works with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import pytest
import torch
from peft import IA3Config, PeftConfig, TaskType
from pydantic import Field

from lift_eval.adapters.base import AdapterSettings
from lift_eval.adapters.registry import Adapter
from lift_eval.document import Document
from lift_eval.errors import RecipeError
from lift_eval.lifter.lifter import Lifter
from lift_eval.memory.predict import predict
from lift_eval.recipe import AuxiliarySettings, Recipe, load_recipe
from lift_eval.synthesis.base import Passage, Strategy
from lift_eval.synthesis.registry import STRATEGIES
from tests.tiny_models import tiny_model, tiny_tokenizer

LOG = Document("The lamp was lit at nine.\nThe boat came in at ten.\nThe storm rose at noon.", "Log")
HOURS = ("nine", "ten", "noon")


class Scale(AdapterSettings):
    """Learned scales of keys, values and hidden units (IA3), by peft."""

    type: Literal["scale"] = "scale"

    def peft_config(self, model: Any) -> PeftConfig:
        """Those of the projections that all tiny models of the tests have."""
        return IA3Config(
            task_type=TaskType.CAUSAL_LM,
            target_modules=["k_proj", "v_proj", "down_proj"],
            feedforward_modules=["down_proj"],
        )


class ScaledRecipe(Recipe):
    adapter: Annotated[Adapter | Scale, Field(discriminator="type")]


class Lines(Strategy):
    """A question about each line, whose answer is its last word."""

    name = "lines"
    request = "Ask about: {{ passage }}"
    reply = "text"

    def choose(
        self, document: Document, settings: AuxiliarySettings, generator: torch.Generator
    ) -> Iterator[Passage]:
        for line in document.text.splitlines():
            yield Passage.of(document, settings, line, answer=line.split()[-1].strip("."))

    def passage_tokens(self, settings: AuxiliarySettings) -> int:
        return 8


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STRATEGIES, Lines.name, Lines())


def lifter(recipe: Recipe) -> Lifter:
    model = tiny_model()
    model.generation_config.eos_token_id = [257, *range(150, 200)]  # so that replies end soon
    return Lifter(model, tiny_tokenizer(), recipe)


def test_a_new_adapter_learns_a_document_and_leaves_no_trace() -> None:
    training = {"context_epochs": 3, "learning_rate": 0.05}
    tool = lifter(ScaledRecipe.model_validate({"adapter": {"type": "scale"}, "training": training}))
    before = {name: tensor.clone() for name, tensor in tool.model.state_dict().items()}

    def changed() -> set[str]:
        now = tool.model.state_dict()
        return {name for name in before.keys() | now.keys() if not torch.equal(before[name], now[name])}

    with tool.lift(LOG) as lifted:
        losses = lifted.record.losses
        assert losses[-1] < losses[0]
        assert changed()
        assert all("ia3" in name for name in changed())
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


def test_a_strategy_that_nobody_registered_is_no_strategy() -> None:
    with pytest.raises(RecipeError, match="'none', 'passages', 'sentences' or 'paragraphs', got 'lines'"):
        load_recipe("lora", {"auxiliary.strategy": "lines"})
