"""Experiment files: their faults, and which runs they ask for."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from lift_eval.errors import ResultsError
from lift_eval.recipe import load_recipe, shipped_recipes
from lift_eval.reporting.experiment import Experiment, load_experiment
from lift_eval.reporting.inference import infer_experiment
from lift_eval.reporting.planning import identity, missing_runs, runs_of_rows
from lift_eval.reporting.provenance import command
from lift_eval.reporting.published import published_rows
from lift_eval.results.reading import read_runs
from tests.conftest import ROOT
from tests.reporting.helpers import rows, write_run

REPORTS = ROOT / "reports"
SHIPPED = sorted(path for path in REPORTS.glob("*.yaml") if path.name != "published.yaml")

BASIC: dict[str, Any] = {
    "title": "T",
    "baseline": "ICL",
    "rows": [
        {"name": "ICL", "model_args": {"recipe": "icl"}},
        {"name": "LIFT", "model_args": {"recipe": "lora"}},
    ],
    "columns": [{"label": "A", "task": "task", "metric": "exact_match"}],
}


def write_experiment(folder: Path, **changes: Any) -> Path:
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump({**BASIC, **changes}))
    return path


# ---------------------------------------------------------------------------------------------------- shipped files


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_experiments_ask_for_recipes_and_tasks_that_exist(path: Path) -> None:
    experiment = load_experiment(path)
    tasks = {task.stem for task in (ROOT / "tasks").rglob("*.yaml")}
    tasks |= {f"lift_longbench_{name}" for name in tasks}
    assert set(experiment.tasks) <= tasks
    for row in experiment.rows:
        for task in experiment.tasks:
            recipe = experiment.arguments(row, task).get("recipe")
            assert row.results or row.model != "lift" or recipe in shipped_recipes()
    published_rows(experiment)


def test_the_named_experiments_are_shipped() -> None:
    assert {"demo", "loogle", "longbench", "longbench_all", "ablations", "niah"} <= {
        path.stem for path in SHIPPED
    }


# ----------------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"basline": "ICL"}, r"unknown key 'basline' \(value 'ICL'\); did you mean 'baseline'\?"),
        ({"baseline": "IKL"}, r"'baseline' must be the name of a row, got 'IKL'; did you mean 'ICL'\?"),
        ({"rows": []}, "'rows'"),
        ({"rows": [{"name": "ICL"}, {"name": "ICL"}]}, "'rows' must have different names, got 'ICL' twice"),
        (
            {"rows": [{"name": "ICL", "modle": "hf"}]},
            r"'rows.0.modle' .*; did you mean 'rows.0.model'\?",
        ),
        ({"columns": [{"label": "A", "metric": "x"}]}, "'columns.0.task' is missing"),
        (
            {"published": [{"table": "loogle", "columns": {"B": "shortqa"}}]},
            "'published.columns' must name columns, got 'B'",
        ),
        (
            {"rows": [{"name": "ICL", "task_args": {"tusk": {"recipe": "x"}}}]},
            r"'task_args' of row 'ICL' must name tasks of the columns, got 'tusk'; did you mean 'task'\?",
        ),
    ],
)
def test_faults_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ResultsError, match=message):
        load_experiment(write_experiment(tmp_path, **changes))


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"one.*two"):
        load_experiment(write_experiment(tmp_path, one=1, two=2))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "is not YAML"),
        ("- a", "must be a mapping"),
        ("\xff", "must be a mapping"),
        ("x" * 1_000_001, "at most"),
        ("a: " + "[" * 100_000, "nested at most 16 deep"),
        ("a: " + "{b: " * 20_000, "nested at most 16 deep"),
        ("a: &x {b: 1}\nc: *x\n", "aliases are not allowed"),
        ("a: !!python/object/apply:os.system ['true']\n", "is not YAML"),
        ("a: 1\na: 2\n", "given twice"),
    ],
    ids=lambda value: value[:20],
)
def test_files_that_are_no_experiment_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_text(text)
    with pytest.raises(ResultsError, match=message):
        load_experiment(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="cannot be read"):
        load_experiment(tmp_path / "nothing.yaml")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"table": "logle"}, r"no table 'logle'; did you mean 'loogle'\?"),
        ({"columns": {"A": "shortqq"}}, r"no column 'shortqq'; did you mean 'shortqa'\?"),
        ({"models": ["GPT-9"]}, r"no model 'GPT-9'; did you mean 'GPT-3.5'\?"),
        ({"file": "nothing.yaml"}, "cannot be read"),
    ],
)
def test_published_figures_that_are_not_there_are_named(
    tmp_path: Path, asked: dict[str, Any], message: str
) -> None:
    published = {
        "file": str(REPORTS / "published.yaml"),
        "table": "loogle",
        "columns": {"A": "shortqa"},
        **asked,
    }
    experiment = load_experiment(write_experiment(tmp_path, published=[published]))
    with pytest.raises(ResultsError, match=message):
        published_rows(experiment)


# -------------------------------------------------------------------------------------------------- rows and runs


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ({"training.learning_rate": 5e-4}, {"training.learning_rate": "5e-4"}, True),
        ({"prompt.chat_template": True}, {"prompt.chat_template": "true"}, True),
        ({"recipe": "lora", "seed": 1, "compute.answer_batch": 2, "device": "cpu"}, {"recipe": "lora"}, True),
        ({"training.betas": (0.9, 5e-4)}, {"training.betas": ["0.9", "5e-4"]}, True),
        ({"training.betas": (0.9, 5e-4)}, {"training.betas": [0.9, 5e-3]}, False),
        ({"recipe": "lora"}, {"recipe": "icl"}, False),
        ({"recipe": "lora", "training.learning_rate": 1e-3}, {"recipe": "lora"}, False),
    ],
)
def test_a_method_is_its_arguments_however_they_are_written(
    left: dict[str, Any], right: dict[str, Any], same: bool
) -> None:
    assert (identity("lift", left) == identity("lift", right)) is same


def test_runs_find_their_rows_wherever_they_lie(tmp_path: Path) -> None:
    write_run(tmp_path / "results" / "x" / "y", {"task": [1.0]}, rows(1, 1), model_args={"recipe": "lora"})
    write_run(
        tmp_path / "results" / "z", {"task": [1.0]}, rows(1, 1), model="hf", model_args={"recipe": "lora"}
    )
    runs = runs_of_rows(load_experiment(write_experiment(tmp_path)))
    assert [len(runs[name]) for name in ("ICL", "LIFT")] == [0, 1]


def test_a_row_may_name_runs_made_elsewhere(tmp_path: Path) -> None:
    write_run(
        tmp_path / "elsewhere", {"task": [1.0]}, rows(1, 1), model="vllm", model_args={"pretrained": "x"}
    )
    changes = {"rows": [{"name": "ICL"}, {"name": "vLLM", "results": "elsewhere"}]}
    experiment = load_experiment(write_experiment(tmp_path, **changes))
    assert len(runs_of_rows(experiment)["vLLM"]) == 1
    assert [planned.row for planned in missing_runs(experiment)] == ["ICL"]


@pytest.mark.parametrize(
    ("option", "recorded"),
    [
        ({"apply_chat_template": True}, {"chat_template": "{{ messages }}"}),
        ({"system_instruction": "Be brief."}, {"system_instruction": "Be brief."}),
        ({"metadata": {"prompt_style": "lift_v1"}}, {"configs": {"task": {"metadata": {"prompt_style": "lift_v1"}}}}),
    ],
)  # fmt: skip
def test_rows_may_differ_in_an_option_of_lm_eval_alone(
    tmp_path: Path, option: dict[str, Any], recorded: dict[str, Any]
) -> None:
    arguments = {"recipe": "lora"}
    some = [
        {"name": "ICL", "model_args": {"recipe": "lora"}},
        {"name": "LIFT", "model_args": {"recipe": "lora"}, "options": option},
    ]
    write_run(tmp_path / "results" / "a", {"task": [0.0]}, rows(1, 1), model_args=arguments)
    write_run(tmp_path / "results" / "b", {"task": [1.0]}, rows(1, 1), model_args=arguments, **recorded)
    runs = runs_of_rows(load_experiment(write_experiment(tmp_path, rows=some)))
    assert [[run.path.parent.name for run in runs[name]] for name in ("ICL", "LIFT")] == [["a"], ["b"]]


def parsed(argv: tuple[str, ...]) -> argparse.Namespace:
    """The command as lm-eval itself reads it."""
    from lm_eval._cli.harness import HarnessCLI

    assert argv[:3] == (sys.executable, "-m", "lm_eval")
    return HarnessCLI()._parser.parse_args(argv[3:])


def test_a_run_of_a_recipe_file_that_was_changed_since_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("extends: lora\ntraining: {learning_rate: 1.0e-4}\n")
    arguments = {"recipe": str(file), "adapter.rank": "8"}
    ran = load_recipe(file, {"adapter.rank": 8, "seed": 1, "prompt.chat_template": True})
    row = {"name": "ICL", "model_args": arguments}
    experiment = load_experiment(write_experiment(tmp_path, rows=[row], seeds=[1]))
    recipe = ran.model_dump(mode="json")
    write_run(tmp_path / "results", {"task": [1]}, rows(1, 1), model_args=arguments, recipe=recipe, seed=1)
    assert missing_runs(experiment) == []
    file.write_text("extends: lora\ntraining: {learning_rate: 2.0e-4}\n")
    assert [run.row for run in missing_runs(experiment)] == ["ICL"]
    file.unlink()
    assert missing_runs(experiment) == [], "what nobody can read was not changed"


def test_missing_runs_are_commands_that_lm_eval_understands(tmp_path: Path) -> None:
    changes = {
        "seeds": [0, 1],
        "model_args": {"pretrained": "a model, with a comma"},
        "options": {"metadata": {"documents": 3}, "limit": 5, "device": "cpu"},
    }
    path = write_experiment(tmp_path, **changes)
    experiment = load_experiment(path)
    arguments = {"pretrained": "a model, with a comma", "recipe": "icl"}
    write_run(tmp_path / "results", {"task": [1.0]}, rows(1, 1), model_args=arguments)
    planned = missing_runs(experiment)
    assert [(run.row, run.seed, run.tasks) for run in planned] == [
        ("ICL", 1, ("task",)),
        ("LIFT", 0, ("task",)),
        ("LIFT", 1, ("task",)),
    ]
    options = parsed(planned[1].argv)
    assert options.model == "lift"
    assert options.model_args == {"pretrained": "a model, with a comma", "recipe": "lora", "seed": 0}
    assert options.metadata == {"documents": 3}
    assert (options.limit, options.device, options.log_samples) == (5.0, "cpu", True)
    assert len({run.output for run in planned}) == 3


def test_the_command_of_a_run_asks_as_the_run_did(tmp_path: Path) -> None:
    recorded = {"chat_template": "{{ messages }}", "system_instruction": "Be brief.", "n-shot": {"task": 3}}
    path = write_run(tmp_path, {"task": [1.0]}, rows(1, 1), model_args={"recipe": "lora"}, **recorded)
    options = parsed((sys.executable, *shlex.split(command(*read_runs([path])))[1:]))
    assert options.model_args == {"recipe": "lora"}
    assert (options.apply_chat_template, options.system_instruction) == (True, "Be brief.")
    assert options.num_fewshot == 3


def test_a_planned_run_fills_its_cell(tmp_path: Path) -> None:
    listed = {"recipe": "lora", "adapter.targets": ["q_proj", "v_proj"], "training.betas": [0.9, 1e-3]}
    row = {"name": "Two projections", "model_args": listed}
    experiment = load_experiment(write_experiment(tmp_path, rows=[*BASIC["rows"], row]))
    for planned in missing_runs(experiment):
        options = parsed(planned.argv)
        write_run(Path(options.output_path), {"task": [1.0]}, rows(1, 1), model_args=options.model_args)
    assert missing_runs(experiment) == []


@pytest.mark.parametrize(
    "name", ["../../outside", "/etc/passwd", "..", "a\0b", "a/../../b", "~root", "C:\\x"]
)
def test_no_name_of_a_row_leads_out_of_the_results_folder(tmp_path: Path, name: str) -> None:
    changes = {"rows": [{"name": name}], "baseline": name}
    experiment = load_experiment(write_experiment(tmp_path, **changes))
    (planned,) = missing_runs(experiment)
    assert planned.output.resolve().parent == experiment.results_folder.resolve()
    assert "\0" not in str(planned.output)


def test_other_model_classes_get_their_seed_from_lm_eval(tmp_path: Path) -> None:
    changes = {"rows": [{"name": "ICL", "model": "hf", "model_args": {"pretrained": "m"}, "seeds": 7}]}
    (planned,) = missing_runs(load_experiment(write_experiment(tmp_path, **changes)))
    assert parsed(planned.argv).seed[0] == 7
    assert "seed" not in parsed(planned.argv).model_args


def test_tasks_may_have_recipes_of_their_own(tmp_path: Path) -> None:
    changes = {
        "rows": [
            {"name": "ICL", "model_args": {"recipe": "icl"}},
            {"name": "LIFT", "task_args": {"task": {"recipe": "a"}, "other": {"recipe": "b"}}},
        ],
        "columns": [
            {"label": "A", "task": "task", "metric": "exact_match"},
            {"label": "B", "task": "other", "metric": "exact_match"},
        ],
    }
    experiment = load_experiment(write_experiment(tmp_path, **changes))
    assert [(run.row, run.tasks) for run in missing_runs(experiment)] == [
        ("ICL", ("task", "other")),
        ("LIFT", ("task",)),
        ("LIFT", ("other",)),
    ]
    # A run of task A with the recipe of task B is not the run that the row asks for.
    write_run(tmp_path / "results", {"task": [1.0]}, rows(1, 1), model_args={"recipe": "b"})
    assert len(missing_runs(experiment)) == 3


# -------------------------------------------------------------------------------------------------------- inferred


def inferred(folder: Path) -> Experiment:
    return infer_experiment(read_runs([folder]), "T", folder / "experiment.yaml")


def test_rows_are_named_by_their_recipes_and_icl_is_the_baseline(tmp_path: Path) -> None:
    lora = {"name": "lora", "adapter": {"type": "lora"}}
    write_run(tmp_path / "1", {"task": [1.0]}, rows(1, 1), model_args={"recipe": "lora"}, recipe=lora)
    write_run(tmp_path / "2", {"task": [1.0]}, rows(1, 1), model_args={"recipe": "icl"})
    experiment = inferred(tmp_path)
    assert [row.name for row in experiment.rows] == ["icl", "lora"]
    assert experiment.baseline == "icl"
    assert [(column.task, column.metric) for column in experiment.columns] == [(("task",), "exact_match")]


def test_equal_names_are_told_apart_by_their_arguments(tmp_path: Path) -> None:
    lora = {"name": "lora", "adapter": {"type": "lora"}}
    for rate in (1e-3, 1e-4):
        write_run(
            tmp_path / str(rate),
            {"task": [1.0]},
            rows(1, 1),
            model_args={"recipe": "lora", "training.learning_rate": rate},
            recipe=lora,
        )
    names = {row.name for row in inferred(tmp_path).rows}
    assert names == {"lora, training.learning_rate=0.001", "lora, training.learning_rate=0.0001"}


@pytest.mark.parametrize(
    ("answers", "metric"),
    [
        (["in 1842", "at the mill beside the river"], "exact_match"),
        (["it was built there in 1842", "at the mill beside the river"], "token_f1"),
        (['["1842", "it was built there in 1842"]', '["it was the river that froze", "ice"]'], "exact_match"),
    ],
)
def test_sentences_are_not_matched_word_for_word(tmp_path: Path, answers: list[str], metric: str) -> None:
    """The third has accepted answers of one word beside the sentences."""
    data = [{**row, "answer": answer} for row, answer in zip(rows(1, 2), answers, strict=True)]
    write_run(
        tmp_path,
        {"task": [1.0, 0.0]},
        data,
        results={"task": {"exact_match,none": 0.5, "token_f1,none": 0.5, "rouge_l,none": 0.5}},
        higher_is_better={"task": dict.fromkeys(("exact_match", "token_f1", "rouge_l"), True)},
    )
    assert [column.metric for column in inferred(tmp_path).columns] == [metric]
    (asked,) = infer_experiment(read_runs([tmp_path]), "T", tmp_path / "e.yaml", "rouge_l").columns
    assert asked.metric == "rouge_l"
    with pytest.raises(
        ResultsError, match="--metric must be a score of the results, got 'rouge_1'; did you mean"
    ):
        infer_experiment(read_runs([tmp_path]), "T", tmp_path / "e.yaml", "rouge_1")


def test_counts_are_no_scores(tmp_path: Path) -> None:
    write_run(
        tmp_path,
        {"task": [1.0]},
        rows(1, 1),
        metric="documents",
        higher_is_better={"task": {"documents": None}},
    )
    with pytest.raises(ResultsError, match="no score"):
        inferred(tmp_path)
