"""Workers of a Ray cluster on this machine: equal results, and workers that die, hang or never start."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lift_eval.distribution.cluster import Cluster, ClusterSettings, cluster_settings
from lift_eval.distribution.groups import Group, Outcome, Request
from lift_eval.document import Document
from lift_eval.errors import CheckpointError, DocumentError, RecipeError, WorkerError
from tests import line

ROOT = Path(__file__).parents[2]
DOCUMENTS = int(os.environ.get("LIFT_EVAL_CLUSTER_DOCUMENTS", "3"))


# --- settings, without Ray ------------------------------------------------------------------------------------------


def test_arguments_of_workers_are_taken_out_of_the_others() -> None:
    arguments = {"workers.gpus": 0.5, "workers.timeout": 60, "adapter.rank": 4}
    assert cluster_settings(3, arguments) == ClusterSettings(count=3, gpus=0.5, timeout=60)
    assert arguments == {"adapter.rank": 4}
    assert cluster_settings(None, arguments) is None


@pytest.mark.parametrize(
    ("workers", "arguments", "said"),
    [
        (0, {}, "'workers' must be greater than or equal to 1, got 0"),
        ("many", {}, "'workers' must be a valid integer, got 'many'"),
        (
            2,
            {"workers.gpu": 1, "workers.timeout": -1},
            "unknown key 'workers.gpu' .value 1.; did you mean 'workers.gpus'.*'workers.timeout' must be",
        ),
        (
            None,
            {"workers.gpus": 1},
            "'workers.gpus' describes workers, but their number is missing; add workers=N",
        ),
    ],
)
def test_wrong_arguments_are_named(workers: Any, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        cluster_settings(workers, arguments)


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(WorkerError, match=r"pip install 'lift-eval\[ray\]'"):
        Cluster(ClusterSettings(count=1), dict)


# --- workers --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def _ray() -> Iterator[None]:
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'lift-eval[ray]'")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"env_vars": {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}},
    )
    yield
    ray.shutdown()


def groups(*texts: str) -> list[Group]:
    """One document for each text, with two requests each."""
    return [
        Group(
            Document(text, f"document {place}"),
            (2 * place, 2 * place + 1),
            tuple(Request("task", row, ("prompt",)) for row in (2 * place, 2 * place + 1)),
        )
        for place, text in enumerate(texts)
    ]


def worked(folder: Path, *texts: str, workers: int = 1, timeout: float = 120) -> dict[int, Outcome]:
    from tests.distribution.cluster_models import Script

    settings = ClusterSettings(count=workers, gpus=0, timeout=timeout)
    cluster = Cluster(settings, partial(Script, str(folder)))
    weights = [len(text) for text in texts]
    try:
        return dict(cluster.outcomes("generate_until", groups(*texts), weights, {}))
    finally:
        cluster.close()


@pytest.mark.usefixtures("_ray")
def test_the_longest_document_first_and_workers_that_die_or_hang_lose_nothing(tmp_path: Path) -> None:
    outcomes = worked(
        tmp_path, "short", "die-once in the middle", "hang-once and then longer", "long " * 9, timeout=5
    )
    assert sorted(outcomes) == [0, 1, 2, 3]
    for place, outcome in outcomes.items():
        assert outcome.results == (f"generate_until {2 * place}", f"generate_until {2 * place + 1}")
        assert outcome.record.failure == ""
    begun = (tmp_path / "begun.txt").read_text().splitlines()
    assert begun == [f"document {place}" for place in (3, 2, 2, 1, 1, 0)]


@pytest.mark.usefixtures("_ray")
def test_a_document_that_kills_every_worker_is_given_up(tmp_path: Path) -> None:
    outcomes = worked(tmp_path, "die each time", "fine")
    assert outcomes[1].results == ("generate_until 2", "generate_until 3")
    assert outcomes[0].results == ()
    assert "3 workers died or hung over it" in outcomes[0].record.failure
    assert outcomes[0].record.lost_questions == 2


@pytest.mark.usefixtures("_ray")
def test_what_a_user_can_mend_arrives_as_it_was_raised(tmp_path: Path) -> None:
    from tests.distribution.cluster_models import Script

    with pytest.raises(DocumentError, match=r"^row 7: the question is too long$"):
        worked(tmp_path, "refuse the question is too long")
    never = Cluster(ClusterSettings(count=1, gpus=0), partial(Script, str(tmp_path), loads=False))
    with pytest.raises(CheckpointError, match=r"^there is no such checkpoint$"):
        dict(never.outcomes("generate_until", groups("fine"), [1], {}))
    never.close()


@pytest.mark.usefixtures("_ray")
def test_a_run_with_workers_equals_one_in_this_process_though_a_worker_is_killed(tmp_path: Path) -> None:
    from tests.distribution.cluster_mortal import MortalLM

    line.prepare(tmp_path, documents=DOCUMENTS)
    one = line.run(tmp_path, store="off")
    assert one is not None
    arguments = {"store": str(tmp_path / "store"), "workers": 2, "workers.gpus": 0}
    together = line.run(tmp_path, model=MortalLM, **arguments)
    assert together is not None
    assert (tmp_path / "killed").exists()
    assert together["answers"] == one["answers"]
    assert together["scores"] == one["scores"]
    assert line.trainings(together) == line.trainings(one)
    assert together["record"]["totals"]["processes"] == 2
    assert together["record"]["totals"]["failed_documents"] == 0
    assert len(list((tmp_path / "store" / "adapters").iterdir())) == DOCUMENTS
