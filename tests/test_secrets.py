"""Keys and tokens stand in nothing that a run writes or says, whatever goes wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lift_eval.cli import main
from lift_eval.errors import GeneratorError, JudgeError
from lift_eval.harness.exit_status import GIVEN_UP
from lift_eval.judging.judge import Judge, JudgedAnswer
from lift_eval.recipe import AuxiliarySettings
from lift_eval.synthesis.server import ServerGenerator
from tests.conftest import ROOT
from tests.synthesis.server import Reply, chat_server

KEY, TOKEN, PASSWORD = "sk-key-5b1f0c", "hf_token_77ab31", "password-e92d44"
SECRETS = (KEY, TOKEN, PASSWORD)

# Everything that has a logger says all it can, and lm-eval finds our tasks only.
PROGRAM = """
import logging, runpy, sys
logging.basicConfig(level=logging.DEBUG)
import lm_eval.tasks.manager
lm_eval.tasks.manager.__file__ = sys.argv.pop(1) + "/manager.py"
runpy.run_module("lm_eval", run_name="__main__", alter_sys=True)
"""


def answer(request: dict[str, Any], number: int) -> Reply | str:
    """Pairs for the generator, a verdict for the judge, and at first a refusal that repeats the key."""
    if "groundtruth" in request["messages"][0]["content"]:
        return "True"
    if number == 0:
        return Reply(f"Incorrect API key provided: {KEY}", status=401)
    return "Question: Where?\nAnswer: There."


def run(folder: Path) -> str:
    """A run with a generator, a judge and a store; returns all that it said."""
    arguments = [
        "run", "--model", "lift", "--tasks", "lift_tiny_shortqa", "--limit", "30", "--device", "cpu",
        "--metadata", json.dumps({"documents": 2, "words": 120}), "--output_path", "results", "--log_samples",
        "--model_args", "auxiliary.generator=openai:generator-model", "auxiliary.retries=0", "auxiliary.batch=1",
        "training.context_epochs=1", "training.joint_epochs=1", "store=./store",
    ]  # fmt: skip
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert ran.returncode == GIVEN_UP, ran.stderr[-3000:]
    return f"{ran.stdout}{ran.stderr}"


def texts(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(folder)), path.read_bytes()


@pytest.mark.parametrize("there", [True, False], ids=["server", "no server"])
def test_nothing_that_a_run_writes_or_says_holds_a_key(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any, capfd: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "OPENAI_API_KEY": KEY, "HF_TOKEN": TOKEN, "OPENAI_LOG": "debug", "LMEVAL_LOG_LEVEL": "DEBUG",
        "LIFT_EVAL_CACHE": str(tmp_path / "cache"), "LIFT_EVAL_JUDGE": "judge-model",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    caplog.set_level("DEBUG")
    with chat_server(answer) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url if there else "http://127.0.0.1:9/v1")
        said = run(tmp_path)
        assert main(["report", "results", "--out", "report"]) == 0
        if there:
            assert main(["judge", "results", "--model", "another-judge"]) == 0
            assert f"Bearer {KEY}" in server.keys  # it was in use
    printed = capfd.readouterr()
    said += f"{printed.out}{printed.err}{caplog.text}"
    files = dict(texts(tmp_path))
    written = {Path(name).parts[0] for name in files}
    assert written >= ({"results", "report", "store", "cache"} if there else {"results", "report"})
    assert "DEBUG" in said
    for secret in SECRETS:
        assert secret not in said
        assert [name for name, content in files.items() if secret.encode() in content] == []


@pytest.fixture
def password_in_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://user:{PASSWORD}@127.0.0.1:9/v1?key={KEY}")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.mark.usefixtures("password_in_the_address")
def test_a_password_in_the_address_is_refused_before_anybody_can_log_it(tmp_path: Path, caplog: Any) -> None:
    caplog.set_level("DEBUG")
    with pytest.raises(GeneratorError, match="must not contain a user or password") as generator:
        ServerGenerator("m", AuxiliarySettings(strategy="passages", generator="openai:m"))
    with pytest.raises(JudgeError, match="must not contain a user or password") as judge:
        Judge("m", tmp_path).judge([JudgedAnswer("q", "r", "p")])
    for text in (str(generator.value), str(judge.value), caplog.text):
        assert not any(secret in text for secret in SECRETS)


def test_a_judge_that_refuses_is_named_by_its_host_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with chat_server(lambda *_: Reply(f"Incorrect API key provided: {KEY}", status=401)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}?key={PASSWORD}")
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        with pytest.raises(JudgeError, match=r"the judge 'm' at 127\.0\.0\.1:\d+ refuses") as refused:
            Judge("m", tmp_path).judge([JudgedAnswer("q", "r", "p")])
    assert not any(secret in str(refused.value) for secret in SECRETS)
