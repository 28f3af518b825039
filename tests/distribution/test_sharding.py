"""Documents shared out over processes: each is trained once, and the results are those of one process."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lift_eval.distribution.processes import Processes
from lift_eval.distribution.schedule import assign, longest_first
from tests.conftest import ROOT, untraced
from tests.line import trainings

# --- who takes what ---------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 1000), max_size=60), st.integers(1, 9))
def test_every_document_has_one_worker_and_the_longest_go_first(weights: list[int], workers: int) -> None:
    shares = assign(weights, workers)
    assert len(shares) == workers
    assert sorted(place for share in shares for place in share) == list(range(len(weights)))
    for share in shares:
        assert [weights[p] for p in share] == sorted((weights[p] for p in share), reverse=True)
    assert assign(weights, workers) == shares


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=60), st.integers(1, 9))
def test_the_last_worker_is_done_within_the_bound_of_the_rule(weights: list[int], workers: int) -> None:
    greatest = max(sum(weights[place] for place in share) for share in assign(weights, workers))
    least_possible = max(Fraction(sum(weights), workers), max(weights))
    # Against the mean load the bound is weaker than Graham's, which is against the best schedule.
    assert greatest <= least_possible * (2 - Fraction(1, workers))


def test_two_workers_and_documents_of_known_lengths() -> None:
    assert assign([3, 9, 4, 5, 3], 2) == [[1, 0], [3, 2, 4]]
    assert assign([7], 3) == [[0], [], []]
    assert longest_first([1, 3, 3]) == [1, 2, 0]


# --- whole runs -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def runs(folder: Path) -> dict[str, Any]:
    """What `tests.distribution.sharded_runs` prints, by the names of its runs."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.distribution.sharded_runs", str(folder)],
        cwd=ROOT,
        env=untraced(),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    printed = (json.loads(line) for line in ran.stdout.splitlines())
    return {run["name"]: run for run in printed}


def test_the_same_command_twice_gives_the_same_bytes(runs: dict[str, Any]) -> None:
    [first], [second] = runs["one"]["done"], runs["again"]["done"]
    assert json.dumps(first["answers"]) == json.dumps(second["answers"])
    assert json.dumps(first["scores"]) == json.dumps(second["scores"])
    assert trainings(first) == trainings(second)
    assert all(document["reused"] == [] for document in second["record"]["documents"])


@pytest.mark.parametrize(("name", "count"), [("two", 2), ("four", 4)])
def test_results_are_those_of_one_process(name: str, count: int, runs: dict[str, Any], folder: Path) -> None:
    run, [one] = runs[name], runs["one"]["done"]
    assert run["statuses"] == [0] * count, run["said"]
    together, *others = run["done"]
    assert others == [None] * (count - 1)  # one process scores and writes
    assert json.dumps(together["answers"]) == json.dumps(one["answers"])
    assert json.dumps(together["scores"]) == json.dumps(one["scores"])
    assert trainings(together) == trainings(one)
    totals = together["record"]["totals"]
    assert totals["processes"] == count
    assert totals["trained_tokens"] == one["record"]["totals"]["trained_tokens"]
    assert totals["wall_seconds"] > 0
    assert len(list((folder / f"store-{count}" / "adapters").iterdir())) == 3


def test_a_process_that_dies_ends_the_run_with_a_clear_message(runs: dict[str, Any]) -> None:
    run = runs["dies"]
    assert run["statuses"] == [2, -9]
    [said] = run["said"][0]
    assert "another process of the run that has failed or was killed" in said
    assert said.endswith("the same command continues from there")
    assert run["done"] == [None, None]


def test_the_next_run_goes_on_where_the_dead_process_left_it(runs: dict[str, Any]) -> None:
    run, [one] = runs["resumed"], runs["one"]["done"]
    assert run["statuses"] == [0, 0], run["said"]
    done = run["done"][0]
    assert done["answers"] == one["answers"]
    assert done["scores"] == one["scores"]
    reused = [
        document["title"] for document in done["record"]["documents"] if "adapter" in document["reused"]
    ]
    # Two processes share three documents as 1 + 2: the one that died had finished the first of its two or its only
    # one, the other all of its share.
    assert len(reused) >= 2
    assert trainings(done) == trainings(one)


def test_processes_with_different_data_are_refused(runs: dict[str, Any]) -> None:
    run = runs["differ"]
    assert run["statuses"] == [2, 2]
    assert all("must ask the same questions" in said for [said] in run["said"])


def test_a_process_of_its_own_exchanges_with_nobody() -> None:
    alone = Processes()
    assert (alone.rank, alone.count, alone.gather("item")) == (0, 1, ["item"])
    assert alone.label("documents", 7) == "7 documents"
