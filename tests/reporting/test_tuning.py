"""Tuning: the same grid for every method, on other documents, and what was chosen is what is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from lift_eval.errors import ResultsError
from lift_eval.recipe import load_recipe
from lift_eval.reporting.comparison import compare
from lift_eval.reporting.experiment import load_experiment
from lift_eval.reporting.planning import missing_runs
from lift_eval.reporting.tuning import (
    choose,
    trials_of,
    tuned_with,
    untuned_rows,
    write_chosen,
    write_trials,
)
from tests.reporting.helpers import rows, write_run

EXPERIMENT: dict[str, Any] = {
    "title": "T",
    "baseline": "ICL",
    "options": {"limit": 9},
    "rows": [
        {"name": "ICL", "model_args": {"recipe": "icl"}},
        {"name": "LIFT", "model_args": {"recipe": "lora", "training.context_epochs": 3}},
        {"name": "Theirs", "model": "hf"},
        {
            "name": "Closed",
            "model_args": {"recipe": "lora", "training.context_epochs": 3, "prompt.document": "none"},
        },
    ],
    "columns": [{"label": "A", "task": "task", "metric": "exact_match"}],
    "tune": {
        "column": "A",
        "options": {"metadata": {"split": "development"}},
        "rates": [1, 10],
        "epochs": [1, 2],
    },
}
RATE = load_recipe("lora").training.learning_rate


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "x.yaml"
    path.write_text(yaml.safe_dump({**EXPERIMENT, **changes}))
    return path


def test_every_method_that_trains_is_tried_with_the_same_grid(tmp_path: Path) -> None:
    trials = trials_of(load_experiment(written(tmp_path)))
    assert list(trials) == ["LIFT"]
    tried = [
        (values["training.learning_rate"], values["training.context_epochs"])
        for values in trials["LIFT"].values()
    ]
    assert tried == [(RATE, 3), (10 * RATE, 3), (RATE, 6)]


def test_trials_are_an_experiment_on_development_documents(tmp_path: Path) -> None:
    experiment = load_experiment(written(tmp_path))
    made = load_experiment(write_trials(experiment, trials_of(experiment)))
    assert made.options.metadata == {"split": "development"}
    assert made.options.limit == 9
    assert len(missing_runs(made)) == 4
    assert all(run.output.is_relative_to(tmp_path / "x" / "tuning") for run in missing_runs(made))


def test_trials_run_only_what_decides(tmp_path: Path) -> None:
    other = {"label": "B", "task": "other", "metric": "exact_match"}
    lift = {"name": "LIFT", "model_args": {"recipe": "lora"}, "task_args": {"other": {"recipe": "icl"}}}
    path = written(tmp_path, columns=[*EXPERIMENT["columns"], other], rows=[EXPERIMENT["rows"][0], lift])
    experiment = load_experiment(path)
    made = load_experiment(write_trials(experiment, trials_of(experiment)))
    assert made.tasks == ("task",)
    assert all(not row.task_args for row in made.rows)


def test_a_file_that_extends_a_tuned_one_runs_its_rows_with_what_was_selected(tmp_path: Path) -> None:
    written(
        tmp_path,
    )
    path = tmp_path / "more.yaml"
    columns = [{"label": "A", "task": "elsewhere", "metric": "exact_match"}]
    path.write_text(yaml.safe_dump({"extends": "x.yaml", "title": "More", "columns": columns}))
    experiment = load_experiment(path)
    assert experiment.tune is None
    assert experiment.tuned == tmp_path / "x" / "tuned.yaml"
    assert experiment.results_folder == tmp_path / "results"
    assert (experiment.tasks, experiment.options.limit) == (("elsewhere",), 9)

    keys = {"training.learning_rate": 7e-4}
    (tmp_path / "x").mkdir()
    write_chosen(load_experiment(tmp_path / "x.yaml"), {"LIFT": keys})
    lift = load_experiment(path).rows[1]
    assert lift.model_args == EXPERIMENT["rows"][1]["model_args"] | keys

    own = {"column": "A", "options": {"limit": 2}}
    path.write_text(yaml.safe_dump({"extends": "x.yaml", "title": "More", "columns": columns, "tune": own}))
    assert load_experiment(path).tuned == tmp_path / "more" / "tuned.yaml", "it is tuned on its own"


@pytest.mark.parametrize(
    ("extends", "fault"),
    [
        ("missing.yaml", "in the same folder, got 'missing.yaml'"),
        ("more.yaml", "'extends' must name an experiment file that extends none"),
        ("sub/x.yaml", "in the same folder"),
        ("", "in the same folder"),
    ],
)
def test_what_cannot_be_extended_is_one_line(tmp_path: Path, extends: str, fault: str) -> None:
    (tmp_path / "sub").mkdir()
    written(tmp_path / "sub")
    path = tmp_path / "more.yaml"
    path.write_text(yaml.safe_dump({"extends": extends, "title": "More"}))
    with pytest.raises(ResultsError, match=fault):
        load_experiment(path)


@pytest.mark.parametrize(("scores", "best"), [((0, 1, 0), 1), ((1, 0, 1), 0)])
def test_the_best_trial_is_chosen_and_of_equal_ones_the_first(
    tmp_path: Path, scores: tuple[int, ...], best: int
) -> None:
    experiment = load_experiment(written(tmp_path))
    trials = trials_of(experiment)
    made = load_experiment(write_trials(experiment, trials))
    by_name = {row.name: row for row in made.rows}
    for number, (name, score) in enumerate(zip(trials["LIFT"], scores, strict=True)):
        write_run(
            made.results_folder / str(number),
            {"task": [score]},
            rows(1, 1),
            model_args=by_name[name].model_args,
        )
    chosen = choose(compare(made), experiment, trials)
    assert chosen["LIFT"] == list(trials["LIFT"].values())[best]
    write_chosen(experiment, chosen)
    row = load_experiment(experiment.path).rows[1]
    assert row.model_args == {"recipe": "lora", **chosen["LIFT"]}
    assert chosen["Closed"] == chosen["LIFT"], "they share their adapters"
    assert trials_of(load_experiment(experiment.path, tuned=False)) == trials


def test_a_trial_without_a_score_chooses_nothing(tmp_path: Path) -> None:
    experiment = load_experiment(written(tmp_path))
    trials = trials_of(experiment)
    made = load_experiment(write_trials(experiment, trials))
    with pytest.raises(ResultsError, match=r"trial 'LIFT: rate .*' has no score 'A'"):
        choose(compare(made), experiment, trials)


def test_an_experiment_must_say_how_it_is_tuned(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="has no 'tune'"):
        trials_of(load_experiment(written(tmp_path, tune=None)))
    wrong = {**EXPERIMENT["tune"], "column": "B"}
    with pytest.raises(ResultsError, match=r"'tune\.column' must be a column, got 'B'"):
        load_experiment(written(tmp_path, tune=wrong))


def test_where_nothing_trains_there_is_nothing_to_tune(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"no row of '.*x\.yaml' trains anything"):
        trials_of(load_experiment(written(tmp_path, rows=EXPERIMENT["rows"][:1])))


@pytest.mark.parametrize("factor", [0, -1, float("inf"), float("nan"), "fast"])
def test_a_factor_is_a_finite_number_above_zero(tmp_path: Path, factor: object) -> None:
    for name in ("rates", "epochs"):
        with pytest.raises(ResultsError, match=rf"'tune\.{name}\.0' must be"):
            load_experiment(written(tmp_path, tune={**EXPERIMENT["tune"], name: [factor]}))


def test_factors_are_on_the_recipe_of_the_column_that_decides(tmp_path: Path) -> None:
    row = {"name": "LIFT", "task_args": {"task": {"recipe": "lora", "training.context_epochs": 7}}}
    trials = trials_of(load_experiment(written(tmp_path, rows=[EXPERIMENT["rows"][0], row])))
    assert [values["training.context_epochs"] for values in trials["LIFT"].values()] == [7, 7, 14]


def test_a_row_that_is_added_later_is_not_tuned(tmp_path: Path) -> None:
    path = written(tmp_path)
    assert untuned_rows(load_experiment(path)) == ["LIFT", "Closed"]
    (tmp_path / "x").mkdir()
    keys = {"training.learning_rate": 7e-4}
    write_chosen(load_experiment(path), {"LIFT": keys, "Closed": keys})
    assert untuned_rows(load_experiment(path)) == []
    written(tmp_path, rows=[*EXPERIMENT["rows"], {"name": "More", "model_args": {"recipe": "ddcd"}}])
    assert untuned_rows(load_experiment(path)) == ["More"]


def test_settings_that_were_selected_with_another_model_are_told(tmp_path: Path) -> None:
    experiment = load_experiment(written(tmp_path, model_args={"pretrained": "small"}))
    write_trials(experiment, trials_of(experiment))
    write_chosen(experiment, {})
    path = tmp_path / "more.yaml"
    path.write_text(yaml.safe_dump({"extends": "x.yaml", "title": "More"}))
    assert tuned_with(load_experiment(path)) is None
    path.write_text(
        yaml.safe_dump({"extends": "x.yaml", "title": "More", "model_args": {"pretrained": "large"}})
    )
    assert tuned_with(load_experiment(path)) == "small"
    assert tuned_with(experiment) is None
