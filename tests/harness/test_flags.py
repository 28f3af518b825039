"""Flags that lm-eval does not hand its model class: what they decide here."""

from __future__ import annotations

import lm_eval.evaluator
import pytest

from lift_eval import _autoload
from lift_eval.document import Document
from lift_eval.errors import CheckpointError, RecipeError
from lift_eval.harness.flags import Flags, noted_flags, noting
from lift_eval.harness.model import LiftLM

UNSAID = {
    "random_seed": 0, "numpy_random_seed": 1234, "torch_random_seed": 1234, "fewshot_random_seed": 1234,
}  # fmt: skip


def seeds(*values: int | None) -> dict[str, int | None]:
    return dict(zip(UNSAID, values, strict=True))


def test_the_seed_is_that_of_the_flag_unless_the_arguments_have_one(caplog):
    with noting(seeds(7, 7, 7, 7)):
        lm = LiftLM(recipe="tiny_icl", device="cpu", store="off")
        told = LiftLM(recipe="tiny_icl", device="cpu", store="off", seed=3)
    assert (lm.recipe.seed, told.recipe.seed) == (7, 3)
    assert caplog.text.count("--seed sets the recipe's seed to 7") == 1


@pytest.mark.parametrize(
    ("given", "seed"),
    [(UNSAID, None), (seeds(42, 42, 42, 42), 42), (seeds(0, 1, 2, 3), 2), (seeds(0, 1, None, 3), None), ({}, None)],
)  # fmt: skip
def test_of_several_seeds_torchs_counts_and_lm_evals_own_are_nobodys_choice(given, seed):
    assert Flags.of(given).seed == seed


def test_the_system_message_of_the_questions_is_that_of_the_pairs_too():
    with noting({"system_instruction": "Be brief."}):
        lm = LiftLM(recipe="tiny", device="cpu", store="off")
        with pytest.raises(
            RecipeError, match=r"must not differ; leave one of them out, or use auxiliary\.system"
        ):
            LiftLM(recipe="tiny", device="cpu", store="off", **{"prompt.system": "Be long."})
    document = Document("Ann lit the lamp.", "Lamp")
    assert lm.lifter.encoder.render(document, "Who?").text.startswith("Be brief.Lamp\nAnn lit the lamp.")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"torch_random_seed": 2**32}, "--seed must be from 0 to 4294967295, got 4294967296"),
        ({"random_seed": -1}, "--seed must be from 0 to 4294967295, got -1"),
        ({"gen_kwargs": {"stop": ["a"]}}, "--gen_kwargs: 'stop' cannot be set: use until"),
        ({"gen_kwargs": "max_gen_toks=0"}, "--gen_kwargs: 'max_gen_toks' must be greater than or equal to 1, got 0"),
        ({"apply_chat_template": "rag"}, "--apply_chat_template takes no name, got 'rag'"),
        ({"check_integrity": True}, "--check_integrity runs tests that are not part of lm-eval's package"),
        ({"num_fewshot": -1}, "--num_fewshot must be 0 or more, got -1"),
        ({"limit": -0.5}, "--limit must be more than 0, got -0.5"),
        ({"verbosity": "LOUD"}, "--verbosity must be DEBUG, INFO, WARNING, ERROR or CRITICAL, got 'LOUD'"),
        ({"cache_requests": True}, "--cache_requests would reuse a task's prompts"),
    ],
)  # fmt: skip
def test_a_flag_that_cannot_be_honoured_is_refused_before_lm_eval_begins(given, told):
    _autoload.register()
    with pytest.raises(RecipeError) as caught:
        lm_eval.evaluator.simple_evaluate(
            model="lift", model_args="pretrained=/no/such", tasks=["x"], **given
        )
    assert told in str(caught.value)


def test_flags_are_noted_while_lm_eval_runs_and_not_for_other_models(monkeypatch):
    _autoload.register()
    seen = []
    monkeypatch.setattr(lm_eval.evaluator.random, "seed", lambda _: seen.append(noted_flags().gen_kwargs))
    for model in ("lift", "dummy"):
        with pytest.raises(ValueError, match="No tasks"):
            lm_eval.evaluator.simple_evaluate(model=model, tasks=[], gen_kwargs={"top_k": 3})
    assert seen == [{"top_k": 3}, {}]
    assert noted_flags() == Flags()


@pytest.mark.parametrize("given", ["true", "True", True])
def test_a_chat_template_may_be_asked_for_by_the_word_true(given):
    assert Flags.of({"apply_chat_template": given}).chat_template is True


def test_the_flag_holds_for_pairs_too_unless_the_arguments_say_otherwise():
    flags = Flags(chat_template=True)
    assert flags.as_arguments({}) == {"prompt.chat_template": True}
    assert flags.as_arguments({"prompt.chat_template": False}) == {}


def test_a_chat_template_that_is_not_there_is_told_before_the_weights_are_loaded(monkeypatch):
    monkeypatch.setattr(LiftLM, "_create_model", None)  # calling it would fail
    with (
        noting({"apply_chat_template": True}),
        pytest.raises(CheckpointError, match="the bundled model has none"),
    ):
        LiftLM(recipe="tiny_icl", device="cpu", store="off")


def test_a_chat_template_that_is_not_there_is_told_by_a_model_that_was_made_before():
    with pytest.raises(CheckpointError, match="--apply_chat_template needs a chat template"):
        LiftLM(recipe="tiny_icl", device="cpu", store="off").chat_template(True)
