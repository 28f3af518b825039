"""``lift-eval compare``: documents and questions of one's own, on the bundled model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lift_eval.cli import main
from lift_eval.reporting.experiment import load_experiment
from tests.cli.test_ask import OTTO, SHIP, TEXT

FILES = {"documents": "document.txt", "questions": "questions.jsonl"}
QUESTIONS = {SHIP: "1842", OTTO: "Kirmoor", "What was the first cargo of the ship Silver Heron?": "salt"}


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a document, questions about it, and two recipes that ask them without the document."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "document.txt").write_text(TEXT)
    lines = [{"question": question, "answer": answer} for question, answer in QUESTIONS.items()]
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    for name, base in (("alone", "tiny_icl"), ("lifted", "tiny")):
        (tmp_path / f"{name}.yaml").write_text(f"extends: {base}\nprompt: {{document: none}}\n")
    return tmp_path


def results(folder: Path) -> list[Path]:
    return sorted((folder / "comparison" / "results").rglob("results_*.json"))


@pytest.mark.usefixtures("_runs_in_this_process")
def test_a_comparison_ends_in_a_verdict_and_is_not_run_again(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["compare", "document.txt", "questions.jsonl", "--recipes", "alone.yaml,lifted.yaml"]
    assert main(arguments) == 0
    *_, verdict, cost, report = capsys.readouterr().out.splitlines()
    assert verdict == (
        "verdict: lifted answers better than alone: contained answer 100.0 against 0.0, difference +100.0, 95 % "
        "interval [100.0, 100.0] over the 3 questions about this document; it says nothing about other documents"
    )
    assert cost.startswith("cost of lifted: ")
    assert report == "report: comparison/report/report.html"
    assert (own / "comparison" / "report" / "report.html").is_file()
    done = results(own)
    assert len(done) == 2
    assert main(arguments) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-3:] == [verdict, cost, report]
    assert not any(line.startswith("run ") for line in said)
    assert results(own) == done


def test_changed_questions_are_another_comparison(
    own: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = plan(own, capsys, monkeypatch).rows[0].options.metadata
    (own / "questions.jsonl").write_text('{"question": "Who?", "answer": "nobody"}')
    second = plan(own, capsys, monkeypatch).rows[0].options.metadata
    assert first.pop("digest") != second.pop("digest")
    assert first == second == {name: str(own / file) for name, file in FILES.items()}


def plan(
    own: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *options: str
) -> Any:
    """The experiment of a comparison whose runs all fail at once."""
    monkeypatch.setattr("lift_eval.cli.runs.run_command", lambda *_: 1)
    assert main(["compare", "document.txt", "questions.jsonl", *options]) == 2
    assert "ended with status 1" in capsys.readouterr().err
    return load_experiment(own / "comparison" / "report.yaml")


def test_each_recipe_decides_how_its_questions_are_asked_unless_the_chat_template_is_turned_off(
    own: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = own / "mine.yaml"
    recipe.write_text(
        "extends: lora\nprompt: {chat_template: true, system: Be brief.}\ndecoding: {max_new_tokens: 30}\n"
    )
    made = plan(own, capsys, monkeypatch, "--model", "some/model", "--recipes", "mine.yaml,icl")
    assert made.baseline == "icl"
    assert [row.name for row in made.rows] == ["mine", "icl"]
    for row in made.rows:
        assert not {"apply_chat_template", "system_instruction"} & row.options.model_fields_set
    assert made.rows[0].options.gen_kwargs == {"max_gen_toks": 30}
    arguments = {"pretrained": "some/model", "recipe": str(recipe)}
    assert made.arguments(made.rows[0], "lift_own") == arguments
    plain = plan(
        own, capsys, monkeypatch, "--model", "some/model", "--recipes", "mine.yaml,icl", "--no-chat-template"
    )
    assert plain.arguments(plain.rows[0], "lift_own") == {**arguments, "prompt.chat_template": False}


def test_the_score_that_decides_is_named_or_the_judges(
    own: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert plan(own, capsys, monkeypatch, "--metric", "exact_match").columns[0].label == "exact match"
    monkeypatch.setenv("LIFT_EVAL_JUDGE", "some-judge")
    columns = plan(own, capsys, monkeypatch).columns
    assert columns[0].label == "judge accuracy"
    assert len(columns) == 5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--metric", "token_f2"], "did you mean 'token_f1'?"),
        (["--metric", "judge_accuracy"], "set LIFT_EVAL_JUDGE"),
        (["--recipes", "tiny,lara"], "did you mean 'lora'?"),
        (["--out", "document.txt"], "'document.txt' cannot be used (File exists)"),
    ],
)
def test_a_fault_is_told_before_anything_runs(
    own: Path, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "document.txt", "questions.jsonl", *options]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (own / "comparison").exists()


@pytest.mark.parametrize("names", ["tiny", "tiny,tiny", "tiny,", ","])
def test_fewer_than_two_recipes_are_no_comparison(names: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["compare", "document.txt", "questions.jsonl", "--recipes", names])
    assert f"must be two or more names, separated by commas, got '{names}'" in capsys.readouterr().err


def test_standard_input_cannot_be_compared(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "-", "questions.jsonl"]) == 2
    assert "documents must be a file or a folder" in capsys.readouterr().err
