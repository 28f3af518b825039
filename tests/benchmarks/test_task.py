"""The class of our tasks: metrics of some rows, and no warning that is ours to prevent."""

from __future__ import annotations

import logging
from pydoc import locate
from typing import Any

import datasets
import pytest
import yaml
from lm_eval.api.metrics import mean

from lift_eval._autoload import tasks_folder
from lift_eval.benchmarks.task import LiftTask

ROWS = [{"kind": kind, "question": "Who?", "answer": "Ann"} for kind in ("near", "far", "near", "")]


def score(row: dict[str, Any], results: list[str]) -> dict[str, Any]:
    right = float(results[0] == row.pop("answer"))
    return {"right": right, **({f"right_{row['kind']}": right} if row["kind"] else {})}


@pytest.fixture
def task(caplog: pytest.LogCaptureFixture) -> LiftTask:
    with caplog.at_level(logging.WARNING):
        made = LiftTask(
            {
                "class": LiftTask,
                "task": "mine",
                "custom_dataset": lambda **_: {"test": datasets.Dataset.from_list(ROWS)},
                "test_split": "test",
                "doc_to_text": "{{question}}",
                "doc_to_target": "{{answer}}",
                "process_results": score,
                "generation_kwargs": {"until": []},
                "metric_list": [
                    {"metric": name, "aggregation": "mean", "higher_is_better": True}
                    for name in ("right", "right_near")
                ],
            }
        )
    assert caplog.text == ""  # lm-eval advises to pass --metadata wherever rows come from a function
    return made


def test_a_metric_of_some_rows_has_a_value_in_each_and_is_the_mean_over_those_that_have_it(task):
    task.build_all_requests()
    answers = ["Ann", "Bob", "Bob", "Ann"]
    scores = [task.process_results(dict(row), [answer]) for row, answer in zip(ROWS, answers, strict=True)]
    columns = {name: [row[name] for row in scores] for name in scores[0]}
    assert columns == {
        "right": [1, 0, 0, 1],
        "right_near": [1, None, 0, None],
        "right_far": [None, 0, None, None],
    }
    aggregation = task.aggregation()
    assert {name: aggregation[name](values) for name, values in columns.items()} == {
        "right": 0.5,
        "right_near": 0.5,
        "right_far": 0,
    }
    assert aggregation["right"] is mean  # only of this one lm-eval knows the standard error


def test_a_run_without_a_kind_of_row_has_no_metric_of_it(task):
    task.build_all_requests(samples=[0, 2])
    assert set(task.process_results(dict(ROWS[0]), ["Ann"])) == {"right", "right_near"}


def test_all_of_our_tasks_are_of_this_class():
    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))
    for path in sorted(tasks_folder().rglob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        for name in (config := yaml.load(text, Loader)).get("include", "").split():
            config = yaml.load((path.parent / name).read_text(encoding="utf-8"), Loader) | config
        assert "group" in config or issubclass(locate(config.get("class", "")) or object, LiftTask), path
