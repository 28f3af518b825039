"""``lift-eval ask``: a document of one's own and questions about it, on the bundled model."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from lift_eval.cli import main
from tests.benchmarks.test_own_documents import pdf

TEXT = (
    "The ship Silver Heron was built in 1842. Nobody spoke about the fog near the quay. The first cargo of the ship "
    "Silver Heron was salt. A dark mist came over the cliff that dusk. Otto Larkley was born in Kirmoor. There was "
    "little to see at the church but dust."
)
SHIP, OTTO = "When was the ship Silver Heron built?", "Where was Otto Larkley born?"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(os.environ, "LIFT_EVAL_STORE", str(tmp_path / "store"))
    path = tmp_path / "Notes from Kirmoor.txt"
    path.write_text(TEXT)
    return str(path)


def test_questions_are_answered_and_the_next_ones_from_the_store(
    file: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["ask", file, SHIP, OTTO]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [SHIP, "  1842", OTTO, "  Kirmoor"]
    assert "steps, loss" in said.err
    assert "adapter from the store" not in said.err
    assert "no --model is given, so the bundled model answers" in said.err
    # Typed questions, of the adapter that is kept; an empty line asks nothing.
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{OTTO}\n\n{SHIP}\n"))
    assert main(["ask", file]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [OTTO, "  Kirmoor", SHIP, "  1842"]
    assert "adapter from the store" in said.err


def test_a_page_and_a_pdf_are_learned_as_their_text_is(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Closed-book, so that the answers come from the adapter; the three texts are one document of the store."""
    closed = Path(file).with_name("closed.yaml")
    closed.write_text("extends: tiny\nprompt: {document: none}\n")
    page = (
        f"<html><head><title>A site</title><script>track(1)</script></head><body><p>{TEXT}</p></body></html>"
    )
    files = {file: TEXT.encode(), "page.html": page.encode(), "paper.pdf": pdf(TEXT)}
    for place, (name, content) in enumerate(files.items()):
        path = Path(file).with_suffix(Path(name).suffix)
        path.write_bytes(content)
        assert main(["ask", str(path), SHIP, OTTO, "--recipe", str(closed)]) == 0
        said = capsys.readouterr()
        assert said.out.splitlines() == [SHIP, "  1842", OTTO, "  Kirmoor"]
        assert ("from the store" in said.err) == (place > 0), name


def test_a_pdf_without_its_reader_ends_in_the_line_that_names_the_extra(
    file: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pypdf", None)
    paper = Path(file).with_suffix(".pdf")
    paper.write_bytes(pdf(TEXT))
    assert main(["ask", str(paper), SHIP]) == 2
    error = capsys.readouterr().err
    assert "pip install 'lift-eval[pdf]'" in error
    assert error.count("\n") == 1


def test_the_model_alone_stands_beside_with_what_fits_of_the_document(
    file: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    # Closed-book, so that LIFT answers from its adapter; with a window for a part of the document.
    recipe = tmp_path / "closed.yaml"
    recipe.write_text("extends: tiny\nprompt: {document: none, max_tokens: 60}\n")
    assert main(["ask", file, SHIP, "--recipe", str(recipe), "--compare"]) == 0
    said = capsys.readouterr()
    question, lift, alone = said.out.splitlines()
    assert (question, lift) == (SHIP, "  LIFT         1842")
    assert alone.startswith("  model alone  ")
    share = int(said.err.partition("model alone: ")[2].partition("%")[0])
    assert 0 < share < 100
    assert (
        "1 question, 0% of the document in the prompt" in said.err
    )  # the comparison is not on LIFT's record


def test_a_recipe_without_an_adapter_is_not_called_lift(
    file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ask", file, SHIP, "--recipe", "tiny_icl", "--compare"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == ["tiny_icl", "model"]


def test_a_typed_question_that_is_no_text_ends_in_one_line(
    file: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\n"), encoding="utf-8"))
    assert main(["ask", file, "--recipe", "tiny_icl"]) == 2
    assert "a question must be text in UTF-8, got byte 0xff" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.txt", SHIP], "missing.txt"),
        (["-"], "give them after '-'"),
        (["{file}", SHIP, "--recipe", "lara"], "did you mean 'lora'?"),
        (["{file}", SHIP, "--model", "./nowhere"], "nowhere"),
        (["{file}", SHIP, "--gguf-file", "x.gguf"], "name that with --model"),
        (["{file}", SHIP, " "], "question 2 must contain at least one word, got ' '"),
    ],
)
def test_a_fault_ends_in_one_line(
    arguments: list[str], said: str, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ask", *(argument.format(file=file) for argument in arguments)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("lift-eval: error: ")
    assert said in error
    assert error.count("\n") == 1
