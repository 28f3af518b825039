from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from lift_eval.benchmarks import longbench
from lift_eval.benchmarks.data import Line
from lift_eval.errors import DocumentError

PROMPTS = {"longbench": "{context}\nQuestion: {input}\nAnswer:"}
ROW = {
    "input": "Where?",
    "context": "Ada was born in Oran.",
    "answers": ["Oran", "in Oran"],
    "length": 5,
    "dataset": "musique",
    "language": "en",
    "all_classes": None,
    "_id": "a1",
}


def rows(*fields: dict[str, Any]) -> list[dict[str, Any]]:
    return list(
        longbench.read_rows((Line(f"f, line {n}", row) for n, row in enumerate(fields, 1)), "musique")
    )


def test_a_folder_or_its_zip_is_read(tmp_path: Path) -> None:
    content = json.dumps(ROW) + "\n" + json.dumps({**ROW, "_id": "a2"}) + "\n"
    for folder in ("plain", "plain/longbench", "zipped/longbench"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "plain/longbench/musique.jsonl").write_text(content)
    with zipfile.ZipFile(tmp_path / "zipped/longbench/data.zip", "w") as archive:
        archive.writestr("data/musique.jsonl", content)
    for folder in ("plain", "zipped"):
        data = longbench.load(subtask="musique", prompts=PROMPTS, data_dir=str(tmp_path / folder))["test"]
        assert data["_id"] == ["a1", "a2"]
        assert data[0]["answers"] == ["Oran", "in Oran"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context": ""}, "f, line 1: 'context' is empty"),
        ({"answers": "Oran"}, "'answers' must be a list of texts, got 'Oran'"),
        ({"answers": []}, "'answers' must be a list of texts"),
        ({"dataset": "qmsum"}, "the row belongs to 'qmsum', not to 'musique'"),
        ({"all_classes": "x"}, "'all_classes' must be a list of texts"),
        ({"_id": None}, "'_id' must be text, got null"),
    ],
)
def test_a_row_that_cannot_be_used_is_one_clear_error(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        rows({**ROW, **change})


def test_an_id_twice_is_refused() -> None:
    with pytest.raises(DocumentError, match="f, line 2: _id 'a1' stands twice"):
        rows(ROW, ROW)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(
        DocumentError, match=r"the row has no 'answers' .fields present: input, context, length"
    ):
        rows({name: value for name, value in ROW.items() if name != "answers"})


def test_an_empty_input_is_legal() -> None:
    assert rows({**ROW, "input": ""})[0]["input"] == ""  # gov_report asks no question


@pytest.mark.parametrize(
    ("score", "answers", "output", "expected"),
    [
        (longbench.score_qa, ["Oran", "in Oran"], "in Oran", 100),
        (longbench.score_qa, ["Oran"], "born in Oran", 50),  # 1 of 3 words right, 1 of 1 found: 2/4
        (longbench.score_summary, ["a b c d"], "a b x y", 50),
        (longbench.score_retrieval, ["Paragraph 3"], "Paragraph 3 or 4", 50),
        (longbench.score_classification, ["City"], "\n\nCity\nDate of the ship", 100),
        (longbench.score_qa, ["Oran"], "", 0),
    ],
)
def test_scores_are_times_100(score: Any, answers: list[str], output: str, expected: float) -> None:
    row = {**ROW, "answers": answers, "all_classes": ["City", "Date"]}
    assert score(row, [output])["score"] == pytest.approx(expected)
    assert row["context"].startswith("sha256:")
