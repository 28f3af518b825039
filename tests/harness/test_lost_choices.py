"""Multiple choice about a document that was given up is wrong by every metric, whichever choice is right."""

from __future__ import annotations

import math
from typing import Any, cast

import pytest
from datasets import Dataset
from lm_eval.api.task import ConfigurableTask, MultipleChoiceTask

from lift_eval.harness.lost_choices import LostScore, count_as_wrong

CHOICES = ["Ann", "Bob", "Christopher"]
METRICS = ("acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match", "f1")
HEALTHY = [(-3.0, False), (-1.0, True), (-2.0, False)]


def task(target: Any, metrics: tuple[str, ...] = METRICS) -> ConfigurableTask:
    return ConfigurableTask(
        config={
            "task": "choices",
            "custom_dataset": lambda **_: {
                "test": Dataset.from_list([{"question": "Who?", "right": target}])
            },
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "{{question}}",
            "doc_to_choice": CHOICES,
            "doc_to_target": "right",
            "metric_list": [{"metric": metric} for metric in metrics],
        }
    )


def right(scores: dict[str, Any]) -> dict[str, bool]:
    """Whether each metric counts the answer as right."""
    return {
        name: value[0] == value[1] if isinstance(value, tuple) else bool(value)
        for name, value in scores.items()
    }


@pytest.mark.parametrize("target", [0, 1, 2])
def test_lost_choices_are_wrong_whichever_is_right(target: int) -> None:
    count_as_wrong()
    asked = task(target)
    lost = [LostScore()] * 2 * len(CHOICES)  # with and without the question
    assert right(asked.process_results({"right": target}, lost)) == dict.fromkeys(METRICS, False)


def test_with_several_right_choices_the_wrong_one_is_taken() -> None:
    count_as_wrong()
    asked = task([0, 1], ("acc", "acc_norm"))
    assert asked.process_results({"right": [0, 1]}, [LostScore()] * 3) == {"acc": 0, "acc_norm": 0}


@pytest.mark.parametrize("target", [0, 1, 2])
def test_tasks_that_score_themselves_are_no_exception(target: int) -> None:
    count_as_wrong()
    row = {"choices": CHOICES, "gold": target}
    scores = MultipleChoiceTask.process_results(cast("MultipleChoiceTask", None), row, [LostScore()] * 3)
    assert scores == {"acc": 0, "acc_norm": 0}


def test_scores_that_a_model_gave_count_as_ever() -> None:
    metrics = ("acc", "acc_norm", "exact_match")
    before = [task(target, metrics).process_results({"right": target}, HEALTHY) for target in range(3)]
    count_as_wrong()
    count_as_wrong()
    after = [task(target, metrics).process_results({"right": target}, HEALTHY) for target in range(3)]
    assert after == before
    assert [scores["acc"] for scores in after] == [0, 1, 0]
    # Also minus infinity, where a model gave it.
    hopeless = [(-math.inf, False)] * 3
    assert task(0, ("acc",)).process_results({"right": 0}, hopeless) == {"acc": 1}
