"""Keys of a run: whatever decides an adapter, pairs or answers gives another key, and nothing else does."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch

from lift_eval.adapters.peft_method import PeftSettings
from lift_eval.adapters.registry import Adapter
from lift_eval.answering.cache.registry import CacheMethod
from lift_eval.document import Document
from lift_eval.lifter.lifter import Lifter
from lift_eval.recipe import (
    AuxiliarySettings,
    FolderSettings,
    Recipe,
    load_recipe,
    settings_keys,
)
from lift_eval.settings import Settings
from lift_eval.store import Store
from lift_eval.synthesis.passages import Passages
from tests.store.runs import DOCUMENTS, lifter
from tests.tiny_models import tiny_model, tiny_tokenizer

PAIRS = {"auxiliary__strategy": "passages", "training__joint_epochs": 1}
OF_QUESTIONS = (
    "decoding.",
    "prompt.document",
    "prompt.over_length",
    "prompt.passage",
    "prompt.embedder",
    "prompt.compressor",
)
"""Keys that say how questions are put and answered: they decide no adapter."""
NEEDED: dict[type, dict[str, Any]] = {PeftSettings: {"method": "IA3"}, FolderSettings: {"path": "adapters"}}
"""Keys of adapters that have no default."""
NEVER = ("name", "description", "reproduces", "compute.", "auxiliary.retries", "auxiliary.timeout_seconds")


@pytest.fixture
def store(tmp_path: Any) -> Store:
    return Store(tmp_path / "store")


def keys(tool: Lifter, document: Document = DOCUMENTS[0]) -> dict[str, str]:
    """The keys of a document's adapter and of its pairs."""
    with tool.session(document) as session:
        return {"adapters": session._entries.key, "pairs": tool.synthesizer.key(document, tool.recipe.seed)}


# --- the recipe ----------------------------------------------------------------------------------------------------


def recipes() -> dict[str, Recipe]:
    """A recipe that makes pairs, said in full, with each adapter and each way to keep keys and values."""
    usual = load_recipe("lora", {key.replace("__", "."): value for key, value in PAIRS.items()})
    usual = usual.model_copy(update={"auxiliary": usual.auxiliary.resolved})
    kinds = [kind(**NEEDED.get(kind, {})) for kind in get_args(get_args(Adapter)[0])]
    with_adapters = {kind.type: usual.model_copy(update={"adapter": kind}) for kind in kinds}
    caches = [kind() for kind in get_args(get_args(CacheMethod)[0])]
    with_caches = {
        kind.type: usual.model_copy(update={"decoding": usual.decoding.model_copy(update={"cache": kind})})
        for kind in caches
    }
    return with_adapters | with_caches


def another(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, dict):
        return {**value, "x": 1}
    return (*value, "x") if isinstance(value, tuple) else value + ("x" if isinstance(value, str) else 1)


def changed(recipe: Recipe, key: str) -> Recipe:
    """The recipe with another value of a key, whether or not it makes sense."""
    group, _, name = key.rpartition(".")
    if not group:
        return recipe.model_copy(update={key: another(getattr(recipe, key))})
    group, *path = group.split(".")
    inner = getattr(recipe, group)
    return recipe.model_copy(update={group: changed_within(inner, [*path, name])})


def changed_within(group: Settings, path: list[str]) -> Settings:
    """A group with another value of a key in it, or in a group within it."""
    name, *rest = path
    old = getattr(group, name)
    if rest:
        return group.model_copy(update={name: changed_within(old, rest)})
    return group.model_copy(update={name: "sentences" if name == "strategy" else another(old)})


def holds(recipe: Recipe, key: str) -> bool:
    """Whether a recipe's groups are of the types that have a key."""
    inner: Any = recipe
    for name in key.split("."):
        if name not in type(inner).model_fields:
            return False
        inner = getattr(inner, name)
    return True


@pytest.mark.parametrize("key", dict.fromkeys(settings_keys()))
def test_each_key_of_a_recipe_decides_what_it_should(key: str) -> None:
    recipe = next(one for one in recipes().values() if holds(one, key))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydantic's, of values that make no sense
        other = changed(recipe, key)
        assert (other.digest != recipe.digest) == (not key.startswith(NEVER))
        assert (other.training_digest != recipe.training_digest) == (not key.startswith(NEVER + OF_QUESTIONS))


@pytest.mark.parametrize(
    ("change", "which"),
    [
        ({"seed": 1}, "adapters pairs"),
        ({"training__learning_rate": 0.1}, "adapters"),
        ({"auxiliary__template": "{{ question }}"}, "adapters"),
        ({"auxiliary__pairs": 3}, "adapters pairs"),
        ({"auxiliary__request": "Ask about {{ passage }}"}, "adapters pairs"),
        ({"auxiliary__request": Passages.request}, ""),
        ({"auxiliary__reply": "labels", "auxiliary__evidence": True}, ""),
        ({"auxiliary__retries": 9}, ""),
        ({"prompt__document": "none"}, ""),
        ({"compute__answer_batch": 1}, ""),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_pairs_outlive_changes_of_training(change: dict[str, Any], which: str, store: Store) -> None:
    before, after = keys(lifter(store, **PAIRS)), keys(lifter(store, **{**PAIRS, **change}))
    assert {kind for kind in before if after[kind] != before[kind]} == set(which.split())


@pytest.mark.parametrize(
    "rule", ["request", "request_template", "reply_format", "needs_evidence", "reply_tokens"]
)
def test_other_defaults_of_a_strategy_are_other_pairs(
    rule: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same recipe asks for other pairs after an update of the package, or reads other pairs out of replies."""
    before = keys(lifter(store, **PAIRS))
    if rule == "request":
        monkeypatch.setattr(Passages, rule, "Ask about {{ passage }}")
    else:
        was = getattr(recipes()["lora"].auxiliary, rule)
        other = {"reply_format": "json"}.get(rule, another(was))
        monkeypatch.setattr(AuxiliarySettings, rule, property(lambda _: other))
    after = keys(lifter(store, **PAIRS))
    assert {kind for kind in before if after[kind] != before[kind]} == {"adapters", "pairs"}


# --- the rest ------------------------------------------------------------------------------------------------------


def weight(model: Any, tokenizer: Any) -> None:
    with torch.no_grad():
        model.lm_head.weight[3, 5] += 1


def configuration(model: Any, tokenizer: Any) -> None:
    model.config.rms_norm_eps *= 2


def generation(model: Any, tokenizer: Any) -> None:
    model.generation_config.repetition_penalty = 1.1


def template(model: Any, tokenizer: Any) -> None:
    tokenizer.chat_template = "{{ messages[0]['content'] }}"


def decoding(model: Any, tokenizer: Any) -> None:
    tokenizer.clean_up_tokenization_spaces = not tokenizer.clean_up_tokenization_spaces


@pytest.mark.parametrize("change", [weight, configuration, generation, template, decoding])
def test_model_and_tokenizer_decide_all(change: Callable[[Any, Any], None], store: Store) -> None:
    model, tokenizer = tiny_model(), tiny_tokenizer()
    change(model, tokenizer)
    usual = lifter(store, **PAIRS)
    other = Lifter(model, tokenizer, usual.recipe, store=store)
    before, after = keys(usual), keys(other)
    assert all(after[kind] != before[kind] for kind in before)


def test_window_title_and_text_decide_all(store: Store) -> None:
    usual = lifter(store, **PAIRS)
    shorter = Lifter(tiny_model(), tiny_tokenizer(), usual.recipe, window=300, store=store)
    text, title = DOCUMENTS[0].text, DOCUMENTS[0].title
    found = [
        keys(usual),
        keys(usual, Document(text, "Another title")),
        keys(usual, Document(f"{text} Amen.", title)),
        keys(shorter),
    ]
    assert len({each["adapters"] for each in found}) == len({each["pairs"] for each in found}) == len(found)


def test_the_code_decides_all(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys(lifter(store, **PAIRS))
    monkeypatch.setattr("lift_eval.store.identity.code_identity", lambda module: f"{module} of tomorrow")
    after = keys(lifter(store, **PAIRS))
    assert all(after[kind] != before[kind] for kind in before)


def test_a_lifter_takes_nothing_else_that_could_decide() -> None:
    """What is added here belongs into `Lifter.identity` and the tests above."""
    taken = {"self", "model", "tokenizer", "recipe", "window", "store"}
    assert set(inspect.signature(Lifter.__init__).parameters) == taken


def test_where_a_model_came_from_decides_nothing(store: Store) -> None:
    model = tiny_model()
    model.config._name_or_path = "/elsewhere"
    usual = lifter(store, **PAIRS)
    assert keys(Lifter(model, tiny_tokenizer(), usual.recipe, store=store)) == keys(usual)
