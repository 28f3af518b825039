"""`lift-eval samples`: what a document is trained on and asked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lift_eval.cli import main
from lift_eval.document import Document, document_seed
from lift_eval.lifter.lifter import Lifter
from lift_eval.tiny import world
from tests.tiny_models import tiny_tokenizer, write_gguf

SHORT = {"documents": 2, "words": 200}
PAIRS = [{"question": "Who built it?", "answer": "Otto Larkley"}, {"question": "When?", "answer": "1842"}]


@pytest.fixture(autouse=True)
def _no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFT_EVAL_STORE", "off")


def write_lines(path: Path, objects: list[dict[str, Any]]) -> str:
    path.write_text("".join(f"{json.dumps(one)}\n" for one in objects))
    return str(path)


def run(*arguments: str, metadata: dict[str, Any] = SHORT, task: str = "lift_tiny_shortqa") -> int:
    return main(["samples", task, "--metadata", json.dumps(metadata), *arguments])


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str, **options: Any) -> list[dict[str, Any]]:
    assert run("--json", *arguments, **options) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def kinds(samples: list[dict[str, Any]]) -> list[str]:
    return [one["kind"] for one in samples]


def decode(one: dict[str, Any]) -> str:
    from lift_eval.models.loading import BUNDLED, load_tokenizer

    return str(load_tokenizer(str(BUNDLED)).decode(one["ids"]))


def test_segments_pairs_and_both_ways_of_asking_are_printed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = run_json(capsys, "--pairs", write_lines(tmp_path / "pairs.jsonl", PAIRS))
    segments = [one for one in found if one["kind"] == "segment"]
    assert [one["segment"][0] for one in segments] == [128 * number for number in range(len(segments))]
    assert all(one["labels"] == one["ids"] for one in segments)
    pairs = [one for one in found if one["kind"] == "pair"]
    assert [one["index"] for one in pairs] == [0, 0, 1, 1]  # closed-book and with the document
    assert all(decode(one).endswith(" Otto Larkley</s>") for one in pairs[:2])
    prompts = [one for one in found if one["kind"] == "test_prompt"]
    assert [one["index"] for one in prompts] == list(range(len(prompts)))
    assert all(one["labels"] is None for one in prompts)
    assert [len(one["ids"]) > 100 for one in prompts] == [True, False] * (len(prompts) // 2)


def test_a_gguf_file_is_named_by_its_path_or_by_folder_and_name(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    recipe = ("--recipe", "icl")
    by_path = run_json(capsys, "--model", str(path), *recipe)
    assert by_path == run_json(capsys, "--model", str(tmp_path), "--gguf-file", "tiny.gguf", *recipe)
    assert tiny_tokenizer().decode(by_path[0]["ids"]).count("Question")


def test_text_marks_what_is_learned(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run("--pairs", write_lines(tmp_path / "pairs.jsonl", PAIRS), "--document", "1") == 0
    printed = capsys.readouterr().out
    title = list(world.documents("test", 2, words=200))[1].article.title
    assert printed.startswith(f"document 1 of lift_tiny_shortqa: {title}, ")
    assert "segment 0: segment 0-192, 192 tokens, 192 supervised" in printed
    assert "Question: Who built it?" in printed
    assert "⟦ Otto Larkley</s>⟧" in printed
    assert "characters ...]" in printed


def test_pairs_come_from_the_store(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LIFT_EVAL_STORE", str(tmp_path / "store"))
    row = next(iter(world.documents("test", 1, words=200))).shortqa
    document = Document(row["input"], row["title"])
    lifter = Lifter.from_pretrained(recipe="tiny", store=str(tmp_path / "store"))
    made = lifter.synthesizer.begin(document, document_seed(0, document)).result().pairs
    asked = {decode(one) for one in run_json(capsys) if one["kind"] == "pair"}
    assert made
    assert all(any(pair.question in text for text in asked) for pair in made)


def test_without_pairs_they_are_left_out_and_that_is_said(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert "pair" not in kinds(run_json(capsys))
    assert "--pairs" in caplog.text


def test_a_tokenizer_alone_will_do(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    tiny_tokenizer().save_pretrained(tmp_path / "tokenizer")
    found = run_json(capsys, "--model", str(tmp_path / "tokenizer"), "--recipe", "icl")
    assert set(kinds(found)) == {"test_prompt"}


def test_questions_are_put_in_the_prompt_that_the_recipe_names(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    questions = [{"Q": "What fell?", "A": "rain"}]
    row = {"input": "It rained. " * 40, "title": "Rain", "qa_pairs": questions, "output": ""}
    write_lines(tmp_path / "shortdep_qa.jsonl", [row])
    tiny_tokenizer().save_pretrained(tmp_path / "tokenizer")

    def asked(recipe: str, **metadata: str) -> str:
        arguments = ["--recipe", recipe, "--model", str(tmp_path / "tokenizer")]
        options = {"metadata": {"data_dir": str(tmp_path), **metadata}, "task": "loogle_shortqa"}
        (found,) = run_json(capsys, *arguments, **options)
        return str(tiny_tokenizer().decode(found["ids"]))

    assert asked("loogle_icl").startswith("The article Rain: \nIt rained.")
    assert asked("loogle_icl", prompt_style="loogle").startswith(
        "Please answer the question based on the long texts"
    )
    assert asked("icl").endswith(asked("loogle_icl", prompt_style="loogle"))  # a token begins it


def test_a_recipe_that_asks_closed_book_alone_is_asked_once(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    recipe = tmp_path / "closed.yaml"
    recipe.write_text("extends: tiny\nprompt: {document: none}\n")
    prompts = [one for one in run_json(capsys, "--recipe", str(recipe)) if one["kind"] == "test_prompt"]
    assert len(prompts) == len({decode(one) for one in prompts})
    assert all(len(one["ids"]) < 100 for one in prompts)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--document", "2"], "the task has 2 documents, counted from 0, got 2"),
        (["--recipe", "lara"], "did you mean 'lora'?"),
        (["--model", "./missing"], "pretrained='./missing' is not a folder"),
        (["--pairs", "missing.jsonl"], "missing.jsonl is not a file"),
    ],
)
def test_what_a_user_can_mend_is_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    printed = capsys.readouterr()
    assert said in printed.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"front": [0, 5]}, "the row has no 'back'"),
        ({"front": [0, 5], "back": [1, "2"]}, "'back' must be a range of tokens, such as"),
    ],
)
def test_a_line_of_windows_that_is_none_is_named(
    line: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run("--windows", write_lines(tmp_path / "windows.jsonl", [line])) == 2
    assert f"windows.jsonl, line 1: {said}" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_ends_it_quietly() -> None:
    command = [sys.executable, "-m", "lift_eval.cli", "samples", "lift_tiny_shortqa", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["kind"] == "segment"
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()
