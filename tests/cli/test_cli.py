"""The command line, as a person types it."""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import get_args

import pytest
import torch

from lift_eval.cli import main
from lift_eval.cli.stores import read_size
from lift_eval.errors import StoreError
from lift_eval.prompts.contents.registry import CONTENTS
from lift_eval.recipe import DecodingSettings, TrainingSettings, shipped_recipes
from lift_eval.store import Store, entry_key
from lift_eval.store.entries import Pairs, Training
from lift_eval.synthesis.registry import STRATEGIES


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_recipes_are_listed_by_purpose_and_wrapped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["recipes"]) == 0
    shown = lines(capsys)
    assert max(map(len, shown)) <= 60
    purposes = [line for line in shown if re.match(r"\S", line)]
    parts = shown.index("Values of adapter.type")
    assert sorted(line.split()[0] for line in shown[:parts] if re.match(r"  \S", line)) == shipped_recipes()
    reading = shown[shown.index(purposes[1]) : shown.index(purposes[2])]
    assert any(line.startswith("  tiny_icl ") for line in reading)
    assert not any(line.startswith("  tiny ") for line in reading)


def test_the_parts_of_recipes_are_listed_with_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    shown = "\n".join(lines(capsys)).partition("Values of adapter.type")[2]
    values = [
        get_args(settings.model_fields[key].annotation)
        for settings, key in (
            (TrainingSettings, "samples"),
            (TrainingSettings, "objective"),
            (DecodingSettings, "adapter"),
        )
    ]
    for name in (*CONTENTS, *STRATEGIES, *chain(*values), "lora", "cartridge", "weights", "snapkv"):
        assert re.search(rf"^  {name} +\w.*\w", shown, re.MULTILINE), name


@pytest.mark.parametrize("no_colour", ["", "1"])
def test_a_terminal_has_colour_unless_no_color_is_set(no_colour: str) -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "lift_eval.cli", "recipes"]
    env = {**os.environ, "NO_COLOR": no_colour, "TERM": "xterm"}
    shown = b""
    with subprocess.Popen(command, stdout=theirs, env=env), os.fdopen(ours, "rb", buffering=0) as screen:
        os.close(theirs)
        with suppress(OSError):  # how Linux says that the other side is closed
            while part := screen.read(4096):
                shown += part
    assert b"tiny_icl" in shown
    assert (b"\x1b[1m" in shown) == (not no_colour)


def test_recipes_show_prints_a_recipe_that_can_be_loaded_again(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["recipes", "show", "lora"]) == 0
    printed = capsys.readouterr().out
    assert "rank: 128" in printed
    copy = tmp_path / "copy.yaml"
    copy.write_text(printed)
    assert main(["recipes", "diff", "lora", str(copy)]) == 0
    assert lines(capsys) == ["no difference"]


def test_recipes_diff_names_what_differs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "diff", "llama3_loogle", "llama3_loogle_qa30"]) == 0
    assert lines(capsys) == ["auxiliary.pairs: 10 -> 30"]


def test_doctor_names_device_precision_and_versions(capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    assert main(["doctor"]) == 0
    report = capsys.readouterr().out
    for subject in ("python", "torch", "lm-eval", "device", "precision", "Hub", "judge"):
        assert subject in report
    assert torch.get_num_threads() == threads
    assert gc.isenabled()
    assert gc.get_freeze_count(), "what was imported is not looked at again when the process ends"
    assert re.search(r"ok +LIFT +\d+ steps, loss .*'When was the ship Silver Heron built\?' '1842'", report)


def test_the_first_lines_of_doctor_do_not_wait_for_torch() -> None:
    script = """
import sys
from itertools import takewhile
from lift_eval.cli.doctor import examine

first = [finding.subject for finding in takewhile(lambda found: found.subject != "ray", examine())]
assert {"python", "torch", "lm-eval", "gguf"} <= set(first)
assert not {"torch", "transformers"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["recipes", "show", "lara"], "did you mean 'lora'?"),
        (["recipes", "show", "missing.yaml"], "the file does not exist"),
        (["report", "missing.yaml"], "missing.yaml"),
        (["report", "missing-folder"], "missing-folder"),
        (["report", "a.yaml", "b"], "one experiment file"),
        (["judge", "missing-folder", "--model", "m"], "missing-folder"),
        (["data", "fetch", "nothing", "--to", "x"], "nothing"),
        (["store", "prune", "--max-size", "lots"], "'lots'"),
        (["store", "ls"], "the store is off"),
    ],
)
def test_a_fault_ends_in_one_line_and_status_2(
    arguments: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    if arguments[:2] == ["store", "prune"]:
        arguments = ["store", "--store", str(tmp_path / "store"), *arguments[1:]]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("lift-eval: error: ")
    assert said in error
    assert error.count("\n") == 1


def test_store_lists_shows_verifies_and_prunes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = str(tmp_path / "store")
    key = entry_key("pairs", document="0")
    Store(folder).save(key, Pairs(pairs=[]), {"document": "Otters"})
    assert main(["store", "--store", folder, "ls"]) == 0
    assert lines(capsys)[0].split()[:2] == ["pairs", key[:16]]
    assert main(["store", "--store", folder, "show", key[:8]]) == 0
    assert json.loads(capsys.readouterr().out)["key"] == key
    assert main(["store", "--store", folder, "verify"]) == 0
    assert lines(capsys) == ["1 entries, 0 faulty"]
    assert main(["store", "--store", folder, "prune", "--max-size", "0"]) == 0
    assert lines(capsys)[0].startswith("1 entries deleted")
    assert Store(folder).entries() == []


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [("20GB", 20 * 10**9), ("1.5 mb", 1_500_000), ("7", 7), ("0B", 0), ("2TB", 2 * 10**12)],
)
def test_sizes_are_read(text: str, bytes_: int) -> None:
    assert read_size(text) == bytes_


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "1PB", "1e3"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(StoreError, match="must be a number"):
        read_size(text)


def test_tiny_writes_documents_of_the_length_asked_for(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["tiny", "write", "--documents", "2", "--words", "1500", "--out", str(tmp_path)]) == 0
    rows = [json.loads(line) for line in (tmp_path / "shortdep_qa.jsonl").read_text().splitlines()]
    assert len(rows) == 2
    assert all(1400 <= len(row["input"].split()) <= 1700 for row in rows)


def test_run_without_an_experiment_file_is_lm_evals_own(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", "--tasks"])
    assert ended.value.code == 2
    assert "lm-eval run" in capsys.readouterr().err


def test_ctrl_c_ends_a_report_in_one_line(tmp_path: Path) -> None:
    experiment = tmp_path / "never_written.yaml"
    os.mkfifo(experiment)
    process = subprocess.Popen(
        [sys.executable, "-m", "lift_eval.cli", "report", str(experiment)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with experiment.open("w"):  # opens when the report does
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    assert (process.returncode, said) == (130, "lift-eval: interrupted; run the same command again\n")


def test_store_ls_names_document_recipe_and_model(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder, key = str(tmp_path / "store"), entry_key("pairs", document="0")
    about = {"document": "Otters \x1b[2J", "recipe": "lora", "model": "some/model"}
    Store(folder).save(key, Pairs(pairs=[]), about)
    assert main(["store", "--store", folder, "ls"]) == 0
    assert lines(capsys)[0].endswith("  Otters ?[2J  lora  some/model")
    assert main(["store", "--store", folder, "ls", "--json"]) == 0
    (entry,) = map(json.loads, lines(capsys))
    assert entry.pop("used") > 0
    assert entry.pop("bytes") > 0
    assert entry == {
        "kind": "pairs",
        "key": key,
        "document": "Otters ?[2J",
        "recipe": "lora",
        "model": "some/model",
    }


def test_store_ls_reads_no_tensors(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder, key = tmp_path / "store", entry_key("adapters", document="0")
    training = Training(losses=[], trained_tokens=0, supervised_tokens=0, pairs={}, seconds={})
    Store(folder).save_tensors(key, training, {"a": torch.zeros(1000)}, {"document": "Otters"})
    path = folder / "adapters" / f"{key}.safetensors"
    path.write_bytes(path.read_bytes()[:-4000])  # the header alone
    assert main(["store", "--store", str(folder), "ls"]) == 0
    assert "Otters" in lines(capsys)[0]
