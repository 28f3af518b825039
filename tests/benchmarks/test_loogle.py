from __future__ import annotations

import contextlib
import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lift_eval.benchmarks import loogle
from lift_eval.benchmarks.data import Line
from lift_eval.document import Document
from lift_eval.errors import DocumentError

PROMPTS = {"loogle": "{context}\nQuestion: {question}\nAnswer: "}
DOCUMENT = "Ada was born in Oran. She moved to Lyon. In 1901 she founded a yard. It built nine ships."
NEW = {
    "doc_id": "d1",
    "id": "q1",
    "title": "Ada",
    "context": DOCUMENT,
    "question": "Where?",
    "answer": "Oran",
}
OLD = {
    "input": DOCUMENT,
    "title": "Ada",
    "qa_pairs": "[{'Q': \"Where was Ada's birth?\", 'A': 'Oran', 'S': 'Ada was born in Oran.'}]",
    "output": "none",
}


def rows(*fields: dict[str, Any], subset: str = "shortdep_qa") -> list[dict[str, Any]]:
    return list(loogle.read_rows((Line(f"f, line {n}", row) for n, row in enumerate(fields, 1)), subset))


def write(folder: Path, name: str, *fields: dict[str, Any]) -> Path:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in fields), encoding="utf-8")
    return folder


# ------------------------------------------------------------------------------------------------------------ forms


def test_both_forms_give_the_same_row() -> None:
    (new,) = rows({**NEW, "question": "Where was Ada's birth?", "evidence": ["Ada was born in Oran."]})
    (old,) = rows(OLD)
    same = ("title", "context", "question", "answer", "evidence", "type", "depth")
    assert {name: new[name] for name in same} == {name: old[name] for name in same}
    assert (old["doc_id"], old["id"]) == ("0", "0")
    assert (new["doc_id"], new["id"]) == ("d1", "q1")


def test_qa_pairs_may_be_json_a_literal_or_a_list() -> None:
    pairs = [{"Q": "Where?", "A": "Oran", "S": None}]
    for value in (json.dumps(pairs), repr(pairs), pairs):
        assert rows({**OLD, "qa_pairs": value})[0]["answer"] == "Oran"


@pytest.mark.parametrize("column", ["type", "task", "category"])
def test_the_type_is_found_under_any_of_its_names(column: str) -> None:
    for written in ("timeline_reorder", "Timeline reorder"):
        (row,) = rows({**NEW, column: written}, subset="longdep_qa")
        assert row["type"] == "timeline_reorder"


def test_a_task_column_with_the_subsets_name_is_no_type() -> None:
    (row,) = rows(
        {**NEW, "task": "longdep_qa", "category": "Multiple information retrieval"}, subset="longdep_qa"
    )
    assert row["type"] == "multiple_information_retrieval"


def test_cloze_answers_become_json() -> None:
    for answer in ({"<mask-0>": "Ada"}, "{'<mask-0>': 'Ada'}", '{"<mask-0>": "Ada"}'):
        (row,) = rows({**NEW, "answer": answer}, subset="shortdep_cloze")
        assert json.loads(row["answer"]) == {"<mask-0>": "Ada"}


def test_summaries_have_no_question() -> None:
    old = {
        "input": DOCUMENT,
        "title": "2201.00447",
        "qa_pairs": "none",
        "question": "none",
        "output": "A yard.",
    }
    new = {"doc_id": "d1", "id": "1", "title": "2201.00447", "context": DOCUMENT, "answer": "A yard."}
    for form in (old, new):
        (row,) = rows(form, subset="summarization")
        assert (row["question"], row["answer"], row["context"]) == ("", "A yard.", DOCUMENT)


# ---------------------------------------------------------------------------------------------------------- bad rows


def without(row: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != name}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (without(NEW, "question"), "f, line 1: the row has no 'question'"),
        (
            without(NEW, "context"),
            "f, line 1: the row has no 'context' .fields present: doc_id, id, title, question",
        ),
        (without(NEW, "answer"), "the row has no 'answer'"),
        ({**NEW, "answer": None}, "the answer must be text, got null"),
        ({**NEW, "context": ""}, "'context' is empty"),
        ({**NEW, "context": None}, "'context' must be text, got null"),
        ({**NEW, "question": 3.5, "answer": ["a"]}, "the answer must be text, got a list"),
        ({**NEW, "answer": True}, "the answer must be text, got true or false"),
        ({**NEW, "evidence": 7}, "the evidence must be text or a list of texts, got 7"),
        ({**OLD, "input": " \n"}, "'input' is empty"),
        (without(OLD, "qa_pairs"), "the row has no 'qa_pairs'"),
        ({**OLD, "qa_pairs": "[{'Q': open('x')}]"}, "'qa_pairs' is neither JSON nor a Python literal"),
        ({**OLD, "qa_pairs": "[{'Q': "}, "'qa_pairs' is neither JSON nor a Python literal"),
        ({**OLD, "qa_pairs": "[" * 5000}, "'qa_pairs' is neither JSON nor a Python literal"),
        ({**OLD, "qa_pairs": "none"}, "'qa_pairs' is neither JSON nor a Python literal"),
        ({**OLD, "qa_pairs": []}, "'qa_pairs' must be a list of questions"),
        ({**OLD, "qa_pairs": ["Where?"]}, r"'qa_pairs' \[0\] must be an object, got 'Where\?'"),
        ({**OLD, "qa_pairs": [{"A": "Oran"}]}, r"f, line 1, qa_pairs \[0\]: the row has no 'Q'"),
        (
            {**OLD, "qa_pairs": [{"Q": "Where?", "A": None}]},
            r"qa_pairs \[0\]: the answer must be text, got null",
        ),
    ],
)
def test_a_row_that_cannot_be_used_is_one_clear_error(row: dict[str, Any], message: str) -> None:
    with pytest.raises(DocumentError, match=message) as raised:
        rows(row)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("answer", ["Ada", "{'<mask-0>': 3}", {}, None, "{'<mask-0>': open('x')}"])
def test_a_cloze_without_a_mapping_is_one_clear_error(answer: object) -> None:
    with pytest.raises(DocumentError, match="the answer of a cloze must map masks to names"):
        rows({**NEW, "answer": answer}, subset="shortdep_cloze")


def test_a_question_twice_under_one_id_is_refused() -> None:
    with pytest.raises(DocumentError, match="f, line 2: id 'q1' asks the same question twice"):
        rows(NEW, NEW)
    assert len(rows(NEW, {**NEW, "id": "q2"})) == 2


def test_one_doc_id_for_two_documents_is_refused() -> None:
    with pytest.raises(DocumentError, match="f, line 2: doc_id 'd1' identifies two documents"):
        rows(NEW, {**NEW, "id": "q2", "context": "Another text."})


@given(
    st.dictionaries(st.sampled_from([*NEW, *OLD, "type", "evidence"]), st.none() | st.text() | st.integers())
)
def test_any_row_is_read_or_refused(fields: dict[str, Any]) -> None:
    for subset in loogle.FILES:
        with contextlib.suppress(DocumentError):
            assert all(row["context"].strip() for row in rows(fields, subset=subset))


# ------------------------------------------------------------------------------------------------------------ depth


def test_depth_is_where_the_first_found_evidence_begins() -> None:
    assert loogle.evidence_depth("0123456789", ["345"]) == 0.3
    assert loogle.evidence_depth("a b\n c d", ["not there", "c d"]) == pytest.approx(5 / 8)
    assert loogle.evidence_depth("one  two\nthree", ["two three"]) == pytest.approx(
        5 / 14
    )  # white space may differ
    assert loogle.evidence_depth("one two", ["three", " ", ""]) is None
    assert loogle.evidence_depth("one two", []) is None


def test_a_depth_that_the_row_gives_is_kept() -> None:
    (row,) = rows({**OLD, "qa_pairs": [{"Q": "Where?", "A": "Oran", "S": [], "depth": 0.25}]})
    assert row["depth"] == 0.25


# ----------------------------------------------------------------------------------------------------------- loading


def test_a_folder_of_either_form_is_read(tmp_path: Path) -> None:
    write(tmp_path, "shortdep_qa.jsonl", NEW)
    write(tmp_path, "longdep_summarization.jsonl", {**OLD, "output": "A yard."})
    short = loogle.load(subset="shortdep_qa", prompts=PROMPTS, data_dir=str(tmp_path), pretrained="M")["test"]
    assert short[0]["answer"] == "Oran"
    summary = loogle.load(subset="summarization", prompts=PROMPTS, data_dir=str(tmp_path))["test"]
    assert summary[0]["answer"] == "A yard."


def test_a_folder_without_the_file_says_what_is_there(tmp_path: Path) -> None:
    write(tmp_path, "shortdep_qa.jsonl", NEW)
    with pytest.raises(DocumentError, match=r"holds no longdep_qa.jsonl; it holds shortdep_qa.jsonl"):
        loogle.load(subset="longdep_qa", prompts=PROMPTS, data_dir=str(tmp_path))


def test_missing_types_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, "longdep_qa.jsonl", NEW)
    with caplog.at_level(logging.WARNING):
        loogle.load(subset="longdep_qa", prompts=PROMPTS, data_dir=str(tmp_path))
    assert "no row has a question type" in caplog.text


def test_the_real_files(loogle_dir: Path) -> None:
    counts = {"shortdep_qa": 39, "longdep_qa": 26, "shortdep_cloze": 57, "summarization": 3}
    for subset, count in counts.items():
        data = loogle.load(subset=subset, prompts=PROMPTS, data_dir=str(loogle_dir))["test"]
        assert len(data) == count
        assert len(set(data["doc_id"])) == 3
        if subset == "longdep_qa":
            assert set(Counter(data["type"])) == set(loogle.LOOGLE_TYPES)
        depths = [depth for depth in data["depth"] if depth is not None]
        assert all(0 <= depth <= 1 for depth in depths)
        assert subset not in ("shortdep_qa", "longdep_qa") or len(depths) > len(data) / 2


# ----------------------------------------------------------------------------------------------------------- scores


def scored_row(**changes: Any) -> dict[str, Any]:
    (row,) = rows(NEW)
    return {**row, "prompt_style": "loogle", "prompt_template": "{context}", "judge": "", **changes}


def test_a_scored_row_holds_the_documents_digest_instead_of_its_text() -> None:
    row = scored_row()
    assert loogle.score_answer(row, ["Oran"])["exact_match"] == 1
    assert row["context"] == f"sha256:{Document(DOCUMENT, 'Ada').digest}"
    assert row["title"] == "Ada"


def test_typed_answers_are_scored_under_their_type_too() -> None:
    scores = loogle.score_typed_answer(scored_row(type="computation"), ["in Oran"])
    assert scores["token_f1_computation"] == scores["token_f1"] == pytest.approx(2 / 3)
    assert scores["questions_computation"] == 1
    assert scores["questions_timeline_reorder"] == 0
    assert not any(name.startswith(("token_f1_timeline", "timeline", "choice")) for name in scores)


def test_timelines_get_their_distances_and_words_the_worst() -> None:
    question = "Reorder:\n1. one\n2. two\n3. three"
    row = {"type": "timeline_reorder", "answer": "2,1,3", "question": question}
    right = loogle.score_typed_answer(scored_row(**row), ["2,1,3"])
    assert (right["timeline_exact"], right["timeline_readable"], right["timeline_lsd_standard"]) == (1, 1, 0)
    words = loogle.score_typed_answer(scored_row(**row), ["first two, then one"])
    assert (words["timeline_exact"], words["timeline_readable"]) == (0, 0)
    assert words["timeline_lsd_standard"] == pytest.approx(8 / 3)  # the reversal 3,2,1: (4 + 0 + 4) / 3
    assert "choice_accuracy" not in words
    other = loogle.score_typed_answer(scored_row(**row | {"answer": "Oran"}), ["2,1,3"])
    assert "timeline_exact" not in other


def test_multiple_choice_is_scored_as_such() -> None:
    row = scored_row(type="computation", question="How many?\n1. seven\n2. six", answer="2")
    assert loogle.score_typed_answer(row, ["The answer is 2."])["choice_accuracy"] == 1


def test_clozes_are_pairs_of_hits_and_masks() -> None:
    row = scored_row(answer='{"<mask-0>": "Ada Byron", "<mask-1>": "Oran"}')
    scores = loogle.score_cloze(row, ["{'<mask-0>': 'Ada', '<mask-1>': 'Oran'}"])
    assert (scores["cloze_exact"], scores["cloze_partial"], scores["cloze_readable"]) == ((1, 2), (2, 2), 1)
