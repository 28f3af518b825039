"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

# Set before any test imports transformers or datasets: no test ever asks the network.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Threads of tiny models only get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# No test writes to the user's store; those of the store make one of their own.
os.environ["LIFT_EVAL_STORE"] = "off"

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True, scope="session")  # before the models that a module's tests share
def _computes_alike_on_every_processor() -> Iterator[None]:
    """``precision.dtype: auto`` is float32, whatever the processor multiplies in hardware."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.cpu.get_capabilities", dict, raising=False)
        yield


@pytest.fixture(autouse=True, scope="session")
def _asks_once_about_this_machine() -> Iterator[None]:
    """For every results file lm-eval asks pip, compilers and drivers, which takes longer than most runs of tests."""
    from torch.utils import collect_env

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collect_env, "get_pretty_env_info", cache(collect_env.get_pretty_env_info))
        yield


def untraced() -> dict[str, str]:
    """The environment of a process that coverage does not watch: one that is killed or forks could tell it nothing."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COV")}


@pytest.fixture(scope="session")
def loogle_dir() -> Path:
    """The folder of real LooGLE files; the project does not ship them."""
    folder = Path(os.environ.get("LIFT_EVAL_LOOGLE_DIR", ROOT.parent / "shared" / "data" / "loogle"))
    if not (folder / "shortdep_qa.jsonl").is_file():
        pytest.skip("real LooGLE files are not here; set LIFT_EVAL_LOOGLE_DIR to their folder")
    return folder
