"""Experiments with task files of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lift_eval.errors import ResultsError
from lift_eval.reporting.experiment import load_experiment
from lift_eval.reporting.planning import missing_runs
from tests.reporting.helpers import rows, write_run


def write(folder: Path, task: str, **more: object) -> Path:
    content = {
        "title": "T",
        "baseline": "ICL",
        "rows": [{"name": "ICL", "model_args": {"recipe": "icl"}}],
        "columns": [{"label": "A", "task": task, "metric": "exact_match"}],
        **more,
    }
    path = folder / "x.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize(
    "content",
    [
        "task: another_name\ndoc_to_text: !function mine.ask\n",
        'include: base.yaml\ntask: "another_name" # of the file\n',
        "include: base.yaml\n",
    ],
)
def test_a_task_file_is_run_by_its_path_and_found_by_its_name(tmp_path: Path, content: str) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "mine.yaml").write_text(content)
    (tmp_path / "tasks" / "base.yaml").write_text("task: another_name\n")
    task_args = {"tasks/mine.yaml": {"document_field": "text"}}
    row = {"name": "ICL", "model_args": {"recipe": "icl"}, "task_args": task_args}
    experiment = load_experiment(write(tmp_path, "tasks/mine.yaml", rows=[row]))
    assert experiment.tasks == ("another_name",)
    (run,) = missing_runs(experiment)
    assert run.argv[run.argv.index("--tasks") + 1] == str(tmp_path / "tasks" / "mine.yaml")
    arguments = {"recipe": "icl", "document_field": "text"}
    write_run(tmp_path / "results", {"another_name": [1, 0]}, rows(1, 2), model_args=arguments)
    assert missing_runs(experiment) == []


def test_a_folder_of_tasks_is_handed_on(tmp_path: Path) -> None:
    (run,) = missing_runs(load_experiment(write(tmp_path, "mine", include_path="my_tasks")))
    assert run.argv[-2:] == ("--include_path", str(tmp_path / "my_tasks"))


@pytest.mark.parametrize("content", [None, "group: several\n", "include: mine.yaml\n", "task: [a, b]\n"])
def test_a_file_without_a_task_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "mine.yaml").write_text(content)
    with pytest.raises(ResultsError, match=r"task file '.*mine.yaml'"):
        load_experiment(write(tmp_path, "mine.yaml"))
