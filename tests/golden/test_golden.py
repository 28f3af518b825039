"""Every token sequence of the published implementations, rebuilt by ``lift-eval samples`` and compared.

The sequences are counts and hashes in a folder ``golden`` of data that several projects share. They were made by
running the published code on documents of LooGLE that stand beside them. What differs: docs/deviations.md.
"""

from __future__ import annotations

import ast
import hashlib
import json
import lzma
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy
import pytest

from lift_eval.cli import main

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("LIFT_EVAL_SHARED") or ROOT.parent / "shared")
GOLDEN = {path.stem: path for path in sorted((SHARED / "golden").glob("*.json"))}
TOKENIZER = Path(__file__).parent / "tokenizer"
RECIPES = {"lora": "lora_4bit"}
"""Recipes of settings that have another name: `lora` is the published quick start in a model's chat template."""
TASKS = {"shortdep_qa.jsonl": "loogle_shortqa", "longdep_qa.jsonl": "loogle_longqa"}

pytestmark = pytest.mark.skipif(
    not GOLDEN,
    reason="the published sequences are not here; set LIFT_EVAL_SHARED to the folder that holds golden/",
)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def hash_of(ids: list[int]) -> str:
    return sha256(numpy.asarray(ids, dtype="<i4").tobytes())


@cache
def golden(setting: str) -> dict[str, Any]:
    return dict(json.loads(GOLDEN[setting].read_text()))


def cases() -> Iterator[tuple[str, str, int]]:
    """Recipe, setting, and number of the document; recipes that have the same tokens are tried on one document."""
    for setting in GOLDEN:
        for number in range(len(golden(setting)["documents"])):
            yield RECIPES.get(setting, setting), setting, number
        yield from ((recipe, setting, 0) for recipe in golden(setting).get("same_tokens", ()))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the tokenizer that the sequences were made with."""
    folder = tmp_path_factory.mktemp("tokenizer")
    for packed in TOKENIZER.iterdir():
        data = packed.read_bytes()
        if packed.suffix == ".xz":
            data = lzma.decompress(data)
        (folder / packed.name.removesuffix(".xz")).write_bytes(data)
    return folder


def loogle_row(document: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """A row of a LooGLE file, and its questions."""
    lines = (SHARED / "data" / "loogle" / document["file"]).read_text(encoding="utf-8").splitlines()
    row = json.loads(lines[document["line"]])
    return row, ast.literal_eval(row["qa_pairs"]) if isinstance(row["qa_pairs"], str) else row["qa_pairs"]


def text_of(document: dict[str, Any]) -> str:
    text = str(loogle_row(document)[0]["input"])
    if "ranges" in document:
        parts = (
            document["prefix"].format(number=number) + text[start:stop]
            for number, (start, stop) in enumerate(document["ranges"], start=1)
        )
        text = document["separator"].join(parts)
    assert sha256(text.encode()) == document["sha256"]
    return text


def write_lines(path: Path, objects: list[dict[str, Any]]) -> Path:
    path.write_text("".join(f"{json.dumps(one)}\n" for one in objects), encoding="utf-8")
    return path


def write_longbench(folder: Path, entry: dict[str, Any]) -> str:
    """A document in LongBench's form with the questions that its test prompts ask; the name of its task."""
    document, subtask = entry["document"], entry["subtask"]
    questions = loogle_row(document)[1]
    asked = [item["question"] for item in entry["items"] if item["kind"] == "test_prompt"]
    inputs = ["" if number is None else questions[number]["Q"] for number in asked]
    rows = [
        {
            "_id": str(number), "dataset": subtask, "input": question, "context": text_of(document),
            "answers": ["Paragraph 1"], "length": 1, "language": "en", "all_classes": None,
        }
        for number, question in enumerate(inputs)
    ]  # fmt: skip
    write_lines(folder / f"{subtask}.jsonl", rows)
    return f"lift_longbench_{subtask}"


def write_pairs(path: Path, entry: dict[str, Any]) -> Path:
    questions = loogle_row(entry["document"])[1]
    pairs = []
    for pair in entry["pairs"]:
        question = questions[pair["index"]]
        answer = f"Paragraph {pair['paragraph']}" if "paragraph" in pair else question["A"]
        assert sha256(f"{question['Q']}\n{answer}".encode()) == pair["sha256"]
        pairs.append({"question": question["Q"], "answer": answer})
    return write_lines(path, pairs)


def is_tail(item: dict[str, Any], items: list[dict[str, Any]]) -> bool:
    """Whether a segment holds no token that an earlier one does not hold (docs/deviations.md: tail segments)."""
    earlier = items[: items.index(item)]
    return "segment" in item and any(
        one["segment"][1] == item["segment"][1] for one in earlier if one["kind"] == item["kind"]
    )


@pytest.mark.parametrize(("recipe", "setting", "number"), list(cases()))
def test_samples_and_prompts_are_the_published_ones(
    recipe: str,
    setting: str,
    number: int,
    tokenizer: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, digest in golden(setting)["tokenizer"]["sha256"].items():
        assert sha256((tokenizer / name).read_bytes()) == digest
    entry = golden(setting)["documents"][number]
    items = entry["items"]
    if "subtask" in entry:
        task, data, place = write_longbench(tmp_path, entry), tmp_path, 0
    else:
        task = TASKS[entry["document"]["file"]]
        data, place = SHARED / "data" / "loogle", entry["document"]["line"]
    arguments = [
        "samples", task, "--recipe", recipe, "--model", str(tokenizer), "--document", str(place), "--json",
        "--metadata", json.dumps({"data_dir": str(data)}),
    ]  # fmt: skip
    if entry["pairs"]:
        arguments += ["--pairs", str(write_pairs(tmp_path / "pairs.jsonl", entry))]
    windows = [{"front": item["front"], "back": item["back"]} for item in items if "front" in item]
    if windows:
        arguments += ["--windows", str(write_lines(tmp_path / "windows.jsonl", windows))]
    assert main(arguments) == 0

    ours = {(one["kind"], one["index"]): one for one in map(json.loads, capsys.readouterr().out.splitlines())}
    for item in items:
        key = (item["kind"], item["index"])
        if is_tail(item, items) or (recipe == "llama3_loogle_qa0" and item["kind"] == "pair"):
            assert key not in ours
            continue
        made = ours[key]
        assert (len(made["ids"]), hash_of(made["ids"])) == (item["n_tokens"], item["ids_sha256"]), item
        for name in ("segment", "front", "back"):
            assert made.get(name) == item.get(name)
        if item["labels_sha256"] is None:
            assert made["labels"] is None
        else:
            assert hash_of(made["labels"]) == item["labels_sha256"], item
            assert len(made["labels"]) - made["labels"].count(-100) == item["n_supervised"]
