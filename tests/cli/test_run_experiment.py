"""``lift-eval run X.yaml``: every run in a process of its own, signals and statuses, and runs on a cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.reporting.helpers import rows, write_run

# Stands in for lm_eval: it notes its arguments, and does what `orders` says of the run of that number.
STAND_IN = """
import json, os, pathlib, signal, sys, time
here = pathlib.Path(__file__).parent
place = {name: os.environ.get(name) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT")}
with (here / "places.txt").open("a") as log:
    log.write(json.dumps(place) + chr(10))
with (here / "argv.txt").open("a") as log:
    log.write(json.dumps(sys.argv[1:]) + chr(10))
order = json.loads((here / "orders.json").read_text())[len((here / "argv.txt").read_text().splitlines()) - 1]
if order == "wait":
    def ended(number, frame):
        sys.exit(128 + number)
    signal.signal(signal.SIGINT, ended)
    signal.signal(signal.SIGTERM, ended)
    (here / "waits").touch()
    time.sleep(60)
if order == "die":
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.raise_signal(signal.SIGTERM)
sys.exit(order)
"""
ROWS: list[dict[str, Any]] = [
    {"name": "ICL", "model_args": {"recipe": "icl"}},
    {"name": "LIFT", "model_args": {"recipe": "lora"}},
]


class Program:
    """The program in a folder of its own, with a stand-in for lm_eval."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "lm_eval").mkdir()
        (folder / "lm_eval" / "__init__.py").touch()
        (folder / "lm_eval" / "__main__.py").write_text(STAND_IN)
        experiment = {
            "title": "T",
            "baseline": "ICL",
            "rows": [*ROWS, {"name": "Theirs", "model": "hf"}],
            "columns": [{"label": "A", "task": "task", "metric": "exact_match"}],
        }
        (folder / "x.yaml").write_text(yaml.safe_dump(experiment))

    def start(
        self, *orders: int | str, options: tuple[str, ...] = (), command: str = "run"
    ) -> subprocess.Popen[str]:
        (self.folder / "lm_eval" / "orders.json").write_text(json.dumps(orders))
        return subprocess.Popen(
            [sys.executable, "-m", "lift_eval.cli", command, "x.yaml", *options],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": f"{self.folder}{os.pathsep}{ROOT}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a terminal of its own, as far as signals go
        )

    def end(self, process: subprocess.Popen[str]) -> tuple[int, str, str]:
        out, error = process.communicate(timeout=60)
        return process.returncode, out, error

    def wait_until_it_runs(self) -> None:
        while not (self.folder / "lm_eval" / "waits").exists():
            time.sleep(0.02)

    @property
    def places(self) -> list[dict[str, str | None]]:
        """What each process was told of its place among those of its run."""
        return [
            json.loads(line) for line in (self.folder / "lm_eval" / "places.txt").read_text().splitlines()
        ]

    @property
    def commands(self) -> list[list[str]]:
        """The command line of each run."""
        return [json.loads(line) for line in (self.folder / "lm_eval" / "argv.txt").read_text().splitlines()]

    @property
    def ran(self) -> list[dict[str, str]]:
        """The options of each run, by name."""
        return [dict(zip(argv[1::2], argv[2::2], strict=False)) for argv in self.commands]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


@pytest.mark.parametrize(
    ("stop", "status"),
    [
        (
            lambda process: os.killpg(process.pid, signal.SIGINT),
            130,
        ),  # Ctrl-C goes to all that a terminal runs
        (lambda process: process.terminate(), 143),  # batch systems end one process
    ],
    ids=["Ctrl-C", "TERM"],
)
def test_a_signal_ends_the_run_and_then_the_experiment(
    program: Program, stop: Callable[[subprocess.Popen[str]], None], status: int
) -> None:
    process = program.start("wait", 0, 0)
    program.wait_until_it_runs()
    stop(process)
    ended, _, error = program.end(process)
    assert ended == status
    assert error.splitlines() == [
        "lift-eval: stopped in run 1 of 3; run the same command to continue: finished runs are not repeated"
    ]
    assert len(program.ran) == 1


def test_a_run_that_a_signal_ended_before_it_could_answer_ends_the_experiment_too(program: Program) -> None:
    status, _, error = program.end(program.start(0, "die", 0))
    assert (status, len(program.ran)) == (143, 2)
    assert "stopped in run 2 of 3" in error


def test_a_later_run_that_fails_lets_the_others_go_on(program: Program) -> None:
    status, _, error = program.end(program.start(0, 1, 0))
    assert (status, len(program.ran)) == (2, 3)
    told, last = error.splitlines()
    assert told == "lift-eval: the run of 'LIFT' ended with status 1; the others go on"
    assert last.startswith(
        "lift-eval: error: 1 run of 3 failed: 'LIFT'; fix the errors above and start again"
    )
    assert (program.folder / "x" / "report.html").is_file()


def test_the_first_run_that_fails_ends_the_experiment_with_what_to_do(program: Program) -> None:
    status, _, error = program.end(program.start(1, 0, 0))
    assert (status, len(program.ran)) == (2, 1)
    assert error.startswith("lift-eval: error: the run of 'ICL' ended with status 1; fix the error above")


def test_documents_given_up_do_not_end_it_but_are_its_status(program: Program) -> None:
    for row in ROWS:
        made = program.folder / "results" / row["name"]
        write_run(made, {"task": [1.0, 0.0]}, rows(1, 2), model_args=row["model_args"])
    status, _, _ = program.end(program.start(3))
    assert (status, len(program.ran)) == (3, 1)


def test_processes_of_a_run_share_it_and_other_models_run_as_ever(program: Program) -> None:
    status, _, error = program.end(program.start(3, 3, 0, 0, 0, options=("--processes", "2")))
    assert (status, error) == (3, "")
    places = program.places
    assert [place["WORLD_SIZE"] for place in places] == ["2"] * 4 + [None]
    assert [sorted(place["RANK"] for place in places[first : first + 2]) for first in (0, 2)] == [
        ["0", "1"]
    ] * 2
    assert places[0]["MASTER_PORT"] == places[1]["MASTER_PORT"]


def test_one_process_that_fails_ends_the_others(program: Program) -> None:
    status, _, error = program.end(program.start("wait", 1, options=("--processes", "2")))
    assert (status, len(program.ran)) == (2, 2)
    assert error.startswith("lift-eval: error: the run of 'ICL' ended with status 1; fix the error above")


def test_processes_are_not_workers(program: Program) -> None:
    status, _, error = program.end(program.start(options=("--processes", "2", "--ray", "auto")))
    assert status == 2
    assert "use one of the two" in error


def test_every_run_is_told_where_the_data_lie_and_keeps_its_other_metadata(program: Program) -> None:
    experiment = yaml.safe_load((program.folder / "x.yaml").read_text())
    experiment["options"] = {"metadata": {"split": "report"}}
    experiment["rows"][1]["options"] = {"metadata": {"split": "development"}}
    (program.folder / "x.yaml").write_text(yaml.safe_dump(experiment))
    data = program.folder / "data"
    data.mkdir()
    status, _, error = program.end(program.start(0, 0, 0, options=("--data-dir", "data")))
    assert (status, error) == (0, "")
    metadata = [json.loads(argv[argv.index("--metadata") + 1]) for argv in program.commands]
    assert metadata == [
        {"split": split, "data_dir": str(data)} for split in ("report", "development", "report")
    ]


def test_a_data_folder_that_is_missing_is_one_line(program: Program) -> None:
    status, _, error = program.end(program.start(options=("--data-dir", "nowhere")))
    assert (status, error.count("\n")) == (2, 1)
    assert "--data-dir must be a folder with the tasks' data, got 'nowhere'" in error


def test_a_recipe_that_cannot_be_used_is_told_before_the_runs_of_other_rows(program: Program) -> None:
    experiment = yaml.safe_load((program.folder / "x.yaml").read_text())
    experiment["rows"][1]["model_args"]["training.rate"] = 3
    (program.folder / "x.yaml").write_text(yaml.safe_dump(experiment))
    status, _, error = program.end(program.start())
    assert (status, error.count("\n")) == (2, 1)
    assert "row 'LIFT' of 'x.yaml': recipe 'lora': unknown key 'training.rate'" in error


def test_a_tuning_is_told_where_the_data_lie(program: Program) -> None:
    experiment = yaml.safe_load((program.folder / "x.yaml").read_text())
    experiment["tune"] = {"column": "A", "options": {"metadata": {"split": "development"}}, "rates": [1]}
    (program.folder / "x.yaml").write_text(yaml.safe_dump(experiment))
    (program.folder / "data").mkdir()
    assert program.end(program.start())[0] == 2
    status, _, _ = program.end(program.start(1, options=("--data-dir", "data"), command="tune"))
    assert status == 2
    (argv,) = program.commands
    place = str(program.folder / "data")
    assert json.loads(argv[argv.index("--metadata") + 1]) == {"split": "development", "data_dir": place}


def test_workers_need_a_cluster(program: Program) -> None:
    status, _, error = program.end(program.start(options=("--workers", "2")))
    assert status == 2
    assert "--workers needs --ray ADDRESS" in error


def test_a_task_whose_results_carry_another_name_is_told_and_not_run_for_ever(program: Program) -> None:
    """As a group's do, which carry the names of its tasks."""
    output = program.folder / "results" / "icl-seed0"
    write_run(output, {"task_of_the_group": [1]}, rows(1, 1), model_args={"recipe": "icl"})
    status, _, error = program.end(program.start(0, 0, 0))
    assert status == 2
    assert "has results of task_of_the_group, but not of task; name the former in 'task'" in error
