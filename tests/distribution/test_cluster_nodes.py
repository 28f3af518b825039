"""A Ray cluster of several nodes on this machine: nodes that join a run, and ``lift-eval run X.yaml --ray ADDRESS``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from lift_eval.distribution.cluster import Cluster, ClusterSettings, cluster_arguments
from lift_eval.errors import WorkerError
from tests.conftest import ROOT
from tests.distribution.test_cluster import groups


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A cluster whose first node has room for one worker; its other nodes are added by the tests."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'lift-eval[ray]'")
    from ray.cluster_utils import Cluster as Nodes

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(ROOT)  # of the nodes and so of the workers
    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    os.environ.pop("PYTHONPATH")
    if before is not None:
        os.environ["PYTHONPATH"] = before
    yield nodes
    nodes.shutdown()


def test_as_many_workers_as_the_cluster_has_cpus_where_it_has_no_gpus(nodes: Any) -> None:
    import ray

    expected = {"workers": 1, "workers.address": nodes.address, "workers.gpus": 0}
    assert cluster_arguments(nodes.address) == expected
    assert cluster_arguments(nodes.address, workers=7) == {**expected, "workers": 7}
    assert not ray.is_initialized()


def test_no_cluster_at_the_address_is_said(nodes: Any) -> None:
    with pytest.raises(WorkerError, match=r"^there is no Ray cluster at 'localhost:1' .*'ray start --head'"):
        cluster_arguments("localhost:1")


def test_a_node_that_joins_a_run_takes_part_in_it(nodes: Any, tmp_path: Path) -> None:
    """The last two documents each wait for the other to begin, so one worker alone would never finish them."""
    import ray

    from tests.distribution.cluster_models import Script

    settings = ClusterSettings(count=2, gpus=0, address=nodes.address)
    cluster = Cluster(settings, partial(Script, str(tmp_path)))
    finishing = cluster.outcomes(
        "generate_until", groups("fine", "wait-until 3", "wait-until 3"), [9, 1, 1], {}
    )
    try:
        outcomes = dict([next(finishing)])
        assert list(outcomes) == [0]
        nodes.add_node(num_cpus=1)
        outcomes.update(finishing)
    finally:
        cluster.close()
        ray.shutdown()
    assert sorted(outcomes) == [0, 1, 2]
    assert [outcome.record.failure for outcome in outcomes.values()] == ["", "", ""]


# lm-eval itself, with a small index of tasks: it takes the place of the module that is looked up first.
REAL = """
import runpy, sys
here = {here!r}
sys.path = [folder for folder in sys.path if folder != here]
del sys.modules["lm_eval"]
import lm_eval.tasks.manager
lm_eval.tasks.manager.__file__ = here + "/manager.py"
runpy.run_module("lm_eval", run_name="__main__", alter_sys=True)
"""


def test_an_experiment_runs_on_a_cluster(nodes: Any, tmp_path: Path) -> None:
    here = tmp_path / "program"
    (here / "lm_eval").mkdir(parents=True)
    (here / "lm_eval" / "__init__.py").touch()
    (here / "lm_eval" / "__main__.py").write_text(REAL.format(here=str(here)))
    experiment = {
        "title": "T",
        "baseline": "ICL",
        "model_args": {"store": "off"},
        "options": {"metadata": {"documents": 2}, "limit": 25, "device": "cpu"},
        "rows": [{"name": "ICL", "model_args": {"recipe": "tiny_icl"}}],
        "columns": [{"label": "A", "task": "lift_tiny_shortqa", "metric": "exact_match"}],
    }
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(experiment))
    ran = subprocess.run(
        [sys.executable, "-m", "lift_eval.cli", "run", "x.yaml", "--ray", nodes.address, "--workers", "2"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    [results] = (tmp_path / "results").rglob("results_*.json")
    config = json.loads(results.read_text())["config"]
    arguments = config["model_args"]
    assert arguments["workers.address"] == nodes.address
    assert (arguments["workers"], arguments["workers.gpus"]) == (2, 0)
    assert config["lift"]["totals"]["processes"] == 2
    assert (config["lift"]["totals"]["documents"], config["lift"]["totals"]["questions"]) == (2, 25)
    assert (tmp_path / "x" / "report.html").exists()
