"""SQuAD's articles as documents: from its JSON form and from the Hub's table, and the official scores."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lift_eval.benchmarks import squad
from lift_eval.benchmarks.data import even_sample
from lift_eval.errors import DocumentError, RecipeError
from tests.benchmarks.metrics.texts import WORDS

PROMPTS = {"squad": "{title}\n\n{context}\n\nQuestion: {question}\nAnswer:"}
FIRST, SECOND = "Ada was born in Oran in 1871.", "In Lyon she founded a yard."


def question(name: str, *answers: tuple[str, int], **more: Any) -> dict[str, Any]:
    found = [{"text": text, "answer_start": start} for text, start in answers]
    return {"id": name, "question": f"What about {name}?", "answers": found, **more}


ADA = {
    "title": "Ada_Lark",
    "paragraphs": [
        {"context": FIRST, "qas": [question("a", ("Oran", 16), ("in Oran", 13), ("Oran", 16))]},
        {"context": SECOND, "qas": [question("b", ("Lyon", 3)), question("c", ("a yard", 20))]},
    ],
}


def write(folder: Path, content: Any, name: str = "dev-v1.1.json") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


def rows(folder: Path, **metadata: object) -> list[dict[str, Any]]:
    return list(squad.load(prompts=PROMPTS, data_dir=str(folder), **metadata)["test"])


# ------------------------------------------------------------------------------------------------------------ forms


def test_an_article_is_one_document_with_all_its_questions(tmp_path: Path) -> None:
    found = rows(write(tmp_path, {"version": "1.1", "data": [ADA]}))
    assert {row["context"] for row in found} == {f"{FIRST}\n\n{SECOND}"}
    assert {row["title"] for row in found} == {"Ada Lark"}
    assert [row["question"] for row in found] == ["What about a?", "What about b?", "What about c?"]
    assert found[0]["answers"] == ["Oran", "in Oran"]


def test_depth_is_where_the_answer_begins_in_the_article(tmp_path: Path) -> None:
    for row in rows(write(tmp_path, {"data": [ADA]})):
        begins = round(row["depth"] * len(row["context"]))
        assert row["context"][begins:].startswith(row["answers"][0])


def test_the_hubs_table_gives_the_same_rows(tmp_path: Path) -> None:
    asked = [
        {"id": one["id"], "title": ADA["title"], "context": paragraph["context"], "question": one["question"]}
        | {"answers": {key: [a[key] for a in one["answers"]] for key in ("text", "answer_start")}}
        for paragraph in ADA["paragraphs"]
        for one in paragraph["qas"]
    ]
    table = tmp_path / "table" / "squad" / squad.TABLE
    table.parent.mkdir(parents=True)
    pd.DataFrame(asked).to_parquet(table)
    assert rows(tmp_path / "table") == rows(write(tmp_path / "json", {"data": [ADA]}))


def test_unanswerable_questions_are_left_out(tmp_path: Path) -> None:
    unanswerable = [question("d"), question("e", ("Oran", 16), is_impossible=True)]
    article = {
        "title": "Ada",
        "paragraphs": [{"context": FIRST, "qas": [*unanswerable, question("f", ("Oran", 16))]}],
    }
    assert [row["id"] for row in rows(write(tmp_path, {"data": [article]}))] == ["f"]


def test_all_files_of_the_folder_are_read_but_not_the_manifest(tmp_path: Path) -> None:
    write(tmp_path, {"data": [ADA]})
    other = {
        "title": "Ben",
        "paragraphs": [{"context": "Ben stayed.", "qas": [question("x", ("stayed", 4))]}],
    }
    write(tmp_path, {"data": [other]}, "more.json")
    write(tmp_path, {}, "fetched.json")
    assert [row["id"] for row in rows(tmp_path)] == ["a", "b", "c", "x"]


# ---------------------------------------------------------------------------------------------------------- options


def test_at_most_so_many_questions_are_an_even_sample_of_each_article(tmp_path: Path) -> None:
    def article(name: str) -> dict[str, Any]:
        asked = [question(f"{name}{number}", ("Oran", 16)) for number in range(9)]
        return {"title": name, "paragraphs": [{"context": FIRST, "qas": asked}]}

    articles = [article("x"), article("y")]
    found = rows(write(tmp_path, {"data": articles}), max_questions=3)
    assert [row["id"] for row in found] == ["x0", "x3", "x6", "y0", "y3", "y6"]
    with pytest.raises(RecipeError, match="max_questions"):
        rows(tmp_path, max_questions=0)


@given(st.integers(1, 200), st.none() | st.integers(1, 200))
def test_an_even_sample_leaves_gaps_that_differ_by_one_at_most(count: int, most: int | None) -> None:
    places = even_sample(count, most)
    assert len(places) == min(count, most or count)
    gaps = {after - before for before, after in zip(places, [*places[1:], count], strict=True)}
    assert max(gaps) - min(gaps) <= 1


# ----------------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "must be an object with 'data'"),
        ({}, "the row has no 'data'"),
        ({"data": [3]}, "'data' must be a list of objects, got a list"),
        ({"data": [{"title": "A"}]}, r"data\[0\]: the row has no 'paragraphs'"),
        ({"data": [{**ADA, "title": None}]}, r"data\[0\]: 'title' must be text, got null"),
        ({"data": [{"title": "A", "paragraphs": [{"context": ""}]}]}, r"paragraphs\[0\]: 'context' is empty"),
        ({"data": [ADA, ADA]}, r"data\[1\], paragraphs\[0\], qas\[0\]: id 'a' occurs twice"),
        ({"data": []}, "have no answerable question"),
    ],
)
def test_a_file_of_another_form_is_one_clear_error(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(DocumentError, match=message) as raised:
        rows(write(tmp_path, content))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"), [(b"{", "not JSON"), (b"\xff\xfe", "not UTF-8"), (b"[" * 200_000, "not JSON")]
)
def test_a_file_that_is_no_json_is_one_clear_error(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "dev.json").write_bytes(content)
    with pytest.raises(DocumentError, match=rf"dev.json: {message}"):
        rows(tmp_path)


def test_a_damaged_table_is_one_clear_error(tmp_path: Path) -> None:
    table = tmp_path / squad.TABLE
    table.parent.mkdir()
    table.write_bytes(b"PAR1 and no more")
    with pytest.raises(DocumentError, match="is not SQuAD's table") as raised:
        rows(tmp_path)
    assert "\n" not in str(raised.value)


def test_a_folder_without_squad_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"holds no dev-v1.1.json or .*`lift-eval data fetch squad --to"):
        rows(tmp_path)


# ----------------------------------------------------------------------------------------------------------- scores


@pytest.mark.parametrize(
    ("reply", "answers", "exact", "f1"),
    [
        ("In the 1060s.", ["1060s", "In the 1060s"], 1, 1),
        ("born in Oran", ["Lyon", "in Oran"], 0, 0.8),  # 2 of 3 words right, 2 of 2 found: 4 / 5
        ("", ["Oran"], 0, 0),
        ("the", ["a"], 1, 0),  # as the official script has it: equal, and no word in common
    ],
)
def test_scores_take_the_best_of_the_accepted_answers(
    reply: str, answers: list[str], exact: float, f1: float
) -> None:
    row = {"context": FIRST, "title": "Ada", "answers": answers}
    scores = squad.score(row, [reply])
    assert (scores["exact_match"], scores["token_f1"]) == (exact, pytest.approx(f1))
    assert row["context"].startswith("sha256:")


@given(WORDS, st.lists(WORDS, min_size=1, max_size=3))
def test_scores_lie_between_0_and_1_and_another_answer_never_lowers_them(
    reply: str, answers: list[str]
) -> None:
    def scores(answers: list[str]) -> tuple[float, float]:
        found = squad.score({"context": FIRST, "title": "", "answers": answers}, [reply])
        return found["exact_match"], found["token_f1"]

    for all_of_them, first in zip(scores(answers), scores(answers[:1]), strict=True):
        assert 0 <= first <= all_of_them <= 1


def test_real_articles_are_read() -> None:
    shared = Path(os.environ.get("LIFT_EVAL_SHARED", Path(__file__).parents[3] / "shared"))
    if not (shared / "data" / "squad").is_dir():
        pytest.skip("no articles of SQuAD are here; set LIFT_EVAL_SHARED to the folder that holds data/squad")
    found = rows(shared / "data" / "squad")
    assert len(found) == 738
    assert len({row["title"] for row in found}) == 7
    assert all(11_000 < len(row["context"]) < 26_000 for row in found)
    assert len(rows(shared / "data", max_questions=40)) == 280
