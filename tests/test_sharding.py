"""Documents shared out over processes: each is trained once, and the results are those of one process."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import textwrap
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lift_eval.distribution.schedule import assign, longest_first
from tests import line

ROOT = Path(__file__).parent.parent
SECONDS = 300
"""Most that any run here may take; a deadlock ends as a failure."""


def launch(count: int, *command: str, **variables: str) -> list[subprocess.CompletedProcess[str]]:
    """Start the processes of one run as torchrun does, without its restarts, and wait for all."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), **variables}
    processes = [
        subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    ended = []
    try:
        for process in processes:
            out, err = process.communicate(timeout=SECONDS)
            ended.append(subprocess.CompletedProcess(process.args, process.returncode, out, err))
    finally:
        for process in processes:
            process.kill()
    return ended


def results(folder: Path) -> dict[str, Any]:
    """What the run came to; only its first process has written it."""
    [file] = folder.glob("results-*.json")
    assert file.name == "results-0.json"
    done: dict[str, Any] = json.loads(file.read_text())
    return done


def trainings(done: dict[str, Any]) -> dict[str, Any]:
    """What is on the record of each document but how long it took and where it came from."""
    return {
        document["title"]: [
            document[key] for key in ("tokens", "questions", "losses", "kept", "incomplete_answers")
        ]
        for document in done["record"]["documents"]
    }


# --- who takes what ---------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 1000), max_size=60), st.integers(1, 9))
def test_every_document_has_one_worker_and_the_longest_go_first(weights: list[int], workers: int) -> None:
    shares = assign(weights, workers)
    assert len(shares) == workers
    assert sorted(place for share in shares for place in share) == list(range(len(weights)))
    assert all(
        [weights[p] for p in share] == sorted((weights[p] for p in share), reverse=True) for share in shares
    )
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
def one(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The same run in one process, over three documents and all kinds of requests."""
    done = line.run(line.prepare(tmp_path_factory.mktemp("one"), documents=3))
    assert done is not None
    return done


@pytest.mark.parametrize("count", [2, 4])  # with four, one has nothing to do
def test_results_are_those_of_one_process(count: int, one: dict[str, Any], tmp_path: Path) -> None:
    line.prepare(tmp_path, documents=3)
    ended = launch(count, "-m", "tests.line", str(tmp_path), LIFT_EVAL_STORE=str(tmp_path / "store"))
    assert [process.returncode for process in ended] == [0] * count, ended[0].stderr
    together = results(tmp_path)
    assert together["answers"] == one["answers"]
    assert together["scores"] == one["scores"]
    assert trainings(together) == trainings(one)
    totals = together["record"]["totals"]
    assert totals["processes"] == count
    assert totals["wall_seconds"] > 0
    assert len(list((tmp_path / "store" / "adapters").iterdir())) == 3


def test_a_process_that_dies_ends_the_run_and_the_next_one_goes_on(
    one: dict[str, Any], tmp_path: Path
) -> None:
    line.prepare(tmp_path, documents=3)
    store = str(tmp_path / "store")
    first, second = launch(2, "-m", "tests.line", str(tmp_path), LIFT_EVAL_STORE=store, DIES="1:1")
    assert second.returncode == -9
    assert first.returncode == 2
    assert "has failed or was killed" in first.stderr
    assert "the same command goes on from there" in first.stderr.splitlines()[-1]
    assert not list(tmp_path.glob("results-*"))
    done = line.run(tmp_path, store=store)
    assert done is not None
    assert done["answers"] == one["answers"]
    reused = [
        document["title"] for document in done["record"]["documents"] if "adapter" in document["reused"]
    ]
    assert len(reused) == 3  # the one killed after its first document; the other had done two


# --- what the processes tell each other ---------------------------------------------------------------------------


def test_processes_exchange_refuse_different_data_and_notice_that_one_is_gone() -> None:
    script = """
        import os
        from lift_eval.distribution.processes import Processes
        from lift_eval.errors import WorkerError

        processes = Processes()
        assert processes.gather(processes.rank) == [0, 1, 2]
        print(processes.label("documents", 7))
        print(processes.share("same", [5, 1, 7, 2]))
        try:
            processes.share(f"data of {processes.rank % 2}", [1])
        except WorkerError as error:
            print(error)
        if processes.rank == 1:
            os._exit(1)
        try:
            processes.gather("never")
        except WorkerError as error:
            print(error)
    """
    first, second, third = launch(3, "-c", textwrap.dedent(script))
    assert [process.returncode for process in (first, second, third)] == [0, 1, 0], first.stderr
    labels = [process.stdout.splitlines() for process in (first, third)]
    assert [said[:2] for said in labels] == [
        ["7 documents (process 1 of 3)", "[2]"],
        ["7 documents (process 3 of 3)", "[3, 1]"],
    ]
    assert all("must ask the same questions" in said[2] for said in labels)
    assert all("has failed or was killed" in said[3] for said in labels)


def test_a_process_of_its_own_exchanges_with_nobody() -> None:
    from lift_eval.distribution.processes import Processes

    alone = Processes()
    assert (alone.rank, alone.count, alone.gather("item")) == (0, 1, ["item"])
    assert alone.label("documents", 7) == "7 documents"
