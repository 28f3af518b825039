from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lift_eval.benchmarks import loogle_v2
from lift_eval.benchmarks.data import Line
from lift_eval.document import Document
from lift_eval.errors import DocumentError
from tests.benchmarks.harness import DOCUMENT, loogle_v2_row

PROMPTS = {"loogle_v2": "{context}", "closed_book": "No text."}


def rows(*fields: dict[str, Any]) -> list[dict[str, Any]]:
    return list(loogle_v2.read_rows(Line(f"f, line {n}", row) for n, row in enumerate(fields, 1)))


def load(folder: Path, source: str = "law", **metadata: object) -> Any:
    return loogle_v2.load(prompts=PROMPTS, source=source, data_dir=str(folder), **metadata)["test"]


def scores(reply: str, source: str = "Law", **changes: object) -> dict[str, Any]:
    (row,) = rows(loogle_v2_row(source, **changes))
    return loogle_v2.score({**row, "prompt_style": "loogle_v2"}, [reply])


@pytest.mark.parametrize(
    ("reply", "value", "readable"),
    [
        ("The correct answer is A", 1, 1),
        ("So, the correct answer is: **(A)**.", 1, 1),
        ("The correct answer is B.", 0, 1),
        ("A", 0, 0),
    ],
)
def test_a_choice_is_the_letter_behind_the_official_words(reply: str, value: float, readable: float) -> None:
    found = scores(reply)
    assert (found["accuracy"], found["score"], found["readable"]) == (value, value, readable)


@pytest.mark.parametrize(
    ("source", "task", "answer", "reply", "value"),
    [
        ("Law", "Legal Case Retrieval", "CASE_12", "The correct answer is CASE_12.", 1),
        ("Law", "Legal Article Extraction", "LAW_3", "The correct answer is <LAW_30>", 0),
        (
            "Finance",
            "Trend Analysis",
            "2019-2021",
            "The correct answer is the years 2019-2021 or 2020-2022",
            1,
        ),
        ("Finance", "Metric Calculation", "1,000M", "The correct answer is $1,049M", 1),
        ("Finance", "Metric Calculation", "1,000M", "The correct answer is 1,050.5", 0),
        ("Finance", "Cross-Company Comparison", "12.5%", "The correct answer is 12.4 %", 1),
        ("Finance", "Other", "12.5%", "The correct answer is 12.4%", 0),
    ],
)
def test_names_ranges_and_numbers(source: str, task: str, answer: str, reply: str, value: float) -> None:
    assert scores(reply, source, task=task, answer=answer)["accuracy"] == value


@pytest.mark.parametrize("answer", [["a/b.py", "c.py"], "['a/b.py', 'c.py']"])
def test_a_set_of_files_is_scored_by_its_overlap(answer: object) -> None:
    task = {"task": "Version Control", "answer": answer}
    assert scores("a/b.py, then `c.py`", "Code", **task)["jaccard"] == 1
    assert scores("a/b.py and d.py", "Code", **task)["jaccard"] == pytest.approx(1 / 3)
    none = scores("I do not know", "Code", **task)
    assert (none["jaccard"], none["readable"]) == (0, 0)
    assert "accuracy" not in none


def test_a_rows_own_prompt_is_asked_with_and_without_its_text(tmp_path: Path) -> None:
    (tmp_path / "loogle_v2").mkdir()
    lines = [loogle_v2_row("Law"), loogle_v2_row("Code")]
    (tmp_path / "loogle_v2" / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    (row,) = load(tmp_path)
    asked = f"Read this.\n{DOCUMENT}\nWhere was Ada born?\nA. Oran\nB. Lyon\nSay 'The correct answer is'."
    assert loogle_v2.prompt(row) == asked
    (closed,) = load(tmp_path, prompt_style="closed_book")
    assert loogle_v2.prompt(closed) == asked.replace(DOCUMENT, "No text.")
    with pytest.raises(DocumentError, match="must have some of source 'game', got Code, Law"):
        load(tmp_path, source="game")


def test_the_text_is_not_logged_with_each_question() -> None:
    (row,) = rows(loogle_v2_row("Law"))
    loogle_v2.score(row, ["The correct answer is A"])
    assert row["context"] == f"sha256:{Document(DOCUMENT, '').digest}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context": ""}, "f, line 1: 'context' is empty"),
        ({"answer": None}, "'answer' must be text, got null"),
        (
            {"instruction": "{context} {other}"},
            "'instruction' must be a format string of context, .* got '{other}'",
        ),
        (
            {"instruction": "{context"},
            "'instruction' must be a format string of context, options and question",
        ),
        ({"task": "Version Control", "answer": "a.py"}, "'answer' must be a list of names"),
    ],
)
def test_a_row_that_cannot_be_used_is_one_clear_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        rows(loogle_v2_row("Law", **changes))
    with pytest.raises(DocumentError, match="f, line 2: id 'Law' occurs twice"):
        rows(loogle_v2_row("Law"), loogle_v2_row("Law"))


@given(st.dictionaries(st.sampled_from(loogle_v2.COLUMNS), st.none() | st.text() | st.lists(st.text())))
def test_any_row_is_read_or_refused(fields: dict[str, Any]) -> None:
    with contextlib.suppress(DocumentError):
        assert all(row["context"].strip() for row in rows({**loogle_v2_row("Law"), **fields}))


def test_a_folder_without_rows_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"holds no \.jsonl file; put LooGLE v2's there"):
        load(tmp_path)
