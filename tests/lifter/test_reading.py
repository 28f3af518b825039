"""What of a document is read by whom, and what is kept of it: `decoding.cache` and `decoding.adapter` of a recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from lift_eval.adapters.registry import NoAdapter
from lift_eval.document import Document
from lift_eval.errors import CheckpointError, RecipeError
from lift_eval.lifter.lifter import Lifter
from lift_eval.recipe import Recipe, load_recipe
from tests.tiny_models import tiny_model, tiny_tokenizer

TEXT = "The lamp was lit at nine, and the boat came in at ten. The storm rose at noon. " * 3
QUESTIONS = ["When was the lamp lit?", "What came in?", "When did the storm rise?"]


def recipe(name: str = "full_icl", **overrides: object) -> Recipe:
    changes = {key.replace("__", "."): value for key, value in overrides.items()}
    return load_recipe(name, {"precision.dtype": "float32", "decoding.max_new_tokens": 12, **changes})


def lora(**overrides: object) -> Recipe:
    small = {
        "training.segment_tokens": 64, "training.stride_tokens": 64, "training.context_epochs": 4,
        "training__learning_rate": 0.05, "adapter.rank": 4, "prompt__document": "full",
    }  # fmt: skip
    return recipe("lora", **{**small, **overrides})


def answers(settings: Recipe, store: Path | None = None) -> list[str]:
    tool = Lifter(tiny_model(), tiny_tokenizer(), settings, store=store)
    with tool.lift(Document(TEXT)) as lifted:
        return lifted.answer(QUESTIONS)


@pytest.mark.parametrize("settings", [recipe(), recipe(decoding__cache={"type": "streaming", "window": 50})])
def test_the_whole_document_is_read_once_for_all_its_questions(settings):
    tool = Lifter(tiny_model(), tiny_tokenizer(), settings)
    read: list[int] = []
    tool.model.get_input_embeddings().register_forward_pre_hook(lambda _, ids: read.append(ids[0].numel()))
    with tool.lift(Document(TEXT)) as lifted:
        lifted.answer(QUESTIONS)
    assert sum(tokens >= len(TEXT) for tokens in read) == 1
    assert sum(tokens for tokens in read if tokens < len(TEXT)) < len(TEXT)


def test_what_is_kept_decides_the_answers_and_the_store_knows_it(tmp_path):
    whole = answers(recipe(), tmp_path)
    narrow = answers(recipe(decoding__cache={"type": "streaming", "window": 20}), tmp_path)
    wider = answers(recipe(decoding__cache={"type": "streaming", "window": 120}), tmp_path)
    assert len({str(whole), str(narrow), str(wider)}) == 3
    assert answers(recipe(decoding__cache={"type": "streaming", "window": 20}), tmp_path) == narrow
    assert answers(recipe(decoding__cache={"type": "snapkv", "tokens": 1.0}), tmp_path) == whole


def test_the_base_reads_and_the_store_knows_it(tmp_path):
    always, decoding_only = (
        answers(lora(), tmp_path),
        answers(lora(decoding__adapter="decoding_only"), tmp_path),
    )
    assert decoding_only not in (always, answers(recipe()))
    assert answers(lora(decoding__adapter="decoding_only")) == decoding_only  # trained anew, not taken up


def test_the_base_is_compared_as_it_is():
    tool = Lifter(tiny_model(), tiny_tokenizer(), lora(decoding__adapter="decoding_only"))
    with tool.lift(Document(TEXT)) as lifted, lifted.base_model() as base:
        assert base.answer(QUESTIONS) == answers(recipe())


@pytest.mark.parametrize("method", ["streaming", "snapkv", "expected_attention"])
@pytest.mark.parametrize("adapter", ["lora", "gated_memory", "cartridge"])
def test_each_method_goes_with_each_adapter(method, adapter):
    kind = {"type": adapter, **({"tokens": 8} if adapter == "cartridge" else {})}
    cache = {"type": method, **({"window": 60} if method == "streaming" else {"tokens": 60})}
    settings = lora(training__learning_rate=1e-3).model_dump(exclude={"adapter", "name"}) | {"adapter": kind}
    settings["decoding"]["cache"] = cache
    found = answers(Recipe(**settings))
    settings["decoding"]["cache"] = {"type": "none"}
    assert len(found) == 3
    assert found != answers(Recipe(**settings))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"decoding__cache": {"type": "streaming"}, "decoding__temperature": 0.7}, "needs greedy .*, got 0.7"),
        ({"decoding__cache": {"type": "snapkv", "kernel": 4}}, "'decoding.cache.kernel' must be odd"),
        ({"decoding__cache": {"type": "snapkv", "windw": 4}}, "windw"),
        ({"decoding__cache": {"type": "expected_attention", "tokens": 1.5}}, "decoding.cache.tokens"),
        ({"decoding__adapter": "decoding_only"}, "needs an adapter .*, got 'adapter.type: none'"),
        (
            {"decoding__adapter": "decoding_only", "adapter": {"type": "cartridge"}, "training.context_epochs": 1},
            "got 'adapter.type: cartridge'",
        ),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_are_refused(change, told):
    with pytest.raises(RecipeError, match=told):
        recipe(**change)


@pytest.mark.parametrize("method", ["streaming", "snapkv", "expected_attention"])
def test_a_cache_that_cannot_be_cut_is_refused(method):
    settings = recipe(decoding__cache={"type": method})
    with pytest.raises(
        CheckpointError, match=f"'decoding.cache.type: {method}' needs attention to all earlier tokens"
    ):
        Lifter(tiny_model("mistral"), tiny_tokenizer(), settings)


def test_a_checkpoint_that_asks_for_more_than_greedy_decoding_is_refused():
    model = tiny_model()
    model.generation_config.repetition_penalty = 1.1
    with pytest.raises(RecipeError, match=r"needs greedy decoding, got repetition_penalty=1\.1"):
        Lifter(model, tiny_tokenizer(), recipe("streaming_cache"))


def test_a_recipe_of_its_own_reads_as_it_says():
    settings = load_recipe("streaming_cache")
    assert (settings.decoding.cache.sinks, settings.decoding.cache.window) == (4, 1020)
    assert settings.prompt.document == "full"
    assert settings.adapter == NoAdapter()
    assert load_recipe("qttt").decoding.adapter == "decoding_only"
