"""One's own questions: what is read, what is refused and how; and the task that asks them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lift_eval.benchmarks.own import METRICS, TASK
from lift_eval.benchmarks.own_questions import OwnRow, own_digest, read_own_rows, suited_metric
from lift_eval.errors import DocumentError, RecipeError
from lift_eval.recipe import load_recipe
from tests.benchmarks.harness import manager

MILL = "The mill at Kirmoor was built in 1842. Otto Larkley owned it. It burnt in the dry summer of 1860."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "documents"
    made.mkdir()
    (made / "mill.txt").write_text(MILL)
    (made / "ship.md").write_text("The Silver Heron carried salt.")
    return made


def write(folder: Path, content: str, name: str = "questions.jsonl") -> Path:
    path = folder.parent / name
    path.write_text(content)
    return path


def asked(rows: list[OwnRow]) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(row.document.title, row.asked.question, row.asked.answers) for row in rows]


def test_json_lines_and_csv_say_the_same(folder: Path) -> None:
    lines = [
        {"question": "Built when?", "answer": 1842, "document": "mill.txt", "note": "other columns pass"},
        {
            "question": "Who owned it?",
            "answers": ["Otto Larkley", "Larkley"],
            "document": "mill",
            "type": "who",
        },
        {"question": "Carried what?", "answers": "salt", "document": "ship", "evidence": ["carried salt"]},
    ]
    expected = read_own_rows(folder, write(folder, "\n".join(map(json.dumps, lines)) + "\n\n"))
    assert asked(expected) == [
        ("mill", "Built when?", ("1842",)),
        ("mill", "Who owned it?", ("Otto Larkley", "Larkley")),
        ("ship", "Carried what?", ("salt",)),
    ]
    assert expected[1].asked.type == "who"
    assert expected[2].asked.evidence == ("carried salt",)
    table = [
        ["question", "answers", "document", "type", "evidence"],
        ["Built when?", "1842", "mill.txt", "", ""],
        ["Who owned it?", "Otto Larkley | Larkley", "mill", "who", ""],
        ["Carried what?", "salt", "ship", "", "carried salt"],
    ]
    for delimiter in ",;\t":  # as spreadsheets of different countries write it
        text = "\ufeff" + "".join(delimiter.join(cells) + "\r\n" for cells in table)
        assert read_own_rows(folder, write(folder, text, "questions.csv")) == expected


def test_the_document_need_not_be_named_where_there_is_one(folder: Path) -> None:
    questions = write(folder, '{"question": "Built when?", "answer": "1842"}')
    assert asked(read_own_rows(folder / "mill.txt", questions))[0][0] == "mill"


def test_all_faults_are_told_each_on_its_line(folder: Path) -> None:
    questions = write(
        folder,
        "\n".join(
            [
                '{"question": "Built when?", "answer": "1842", "document": "mill"}',
                '{"question": "Built when?", "answer": "1843", "document": "mill.txt"}',
                '{"question": " ", "answer": "", "document": "mill"}',
                '{"qestion": "Who?", "answer": "Otto", "document": "mill"}',
                '{"question": "Who?", "answer": "Otto", "answers": ["Otto"], "document": "mill"}',
                '{"question": "Who?", "answer": true, "document": "mill"}',
                '{"question": "Who?", "answer": "Otto"}',
                '{"question": "Who?", "answer": "Otto", "document": "mil.txt"}',
                '{"question": "Who?"',
                "[1]",
            ]
        ),
    )
    with pytest.raises(DocumentError) as refused:
        read_own_rows(folder, questions)
    first, *faults = str(refused.value).splitlines()
    assert first == f"{questions}: 10 faults"
    assert [
        fault.partition(": ")[0] for fault in sorted(faults, key=lambda fault: int(fault.split()[1][:-1]))
    ] == [f"line {number}" for number in (2, 3, 3, 4, 5, 6, 7, 8, 9, 10)]
    for said in (
        "repeats the question of line 1",
        "'question' must be a text of 1 or more characters, got ' '",
        "'answers' is missing",
        "did you mean 'question'?",
        "'answer' and 'answers' must not both be given",
        "got True",
        "'document' must name one of the 2 documents",
        "got 'mil.txt'; did you mean 'mill.txt'?",
        "not JSON",
        "must be a JSON object",
    ):
        assert sum(said in fault for fault in faults) == 1, said


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "q.csv",
            "q,a\nWho?,Otto\n",
            "line 1: must name the columns 'question' and 'answer' or 'answers', got q, a",
        ),
        ("q.csv", "question,answer\nWho?\n", "line 2: must have 2 cells"),
        ("q.csv", "question,answer,answer\nWho?,Otto,Ann\n", "line 1: names the column 'answer' twice"),
        ("q.csv", 'question,answer\n"Who" is it?,"Ot"to\n', "is not CSV"),
        ("q.csv", "question,answer\n", "has no questions"),
        ("q.jsonl", "", "has no questions"),
    ],
)
def test_one_fault_is_one_line(folder: Path, name: str, content: str, said: str) -> None:
    with pytest.raises(DocumentError) as refused:
        read_own_rows(folder / "mill.txt", write(folder, content, name))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_two_files_of_one_name_are_told_apart_by_their_endings(folder: Path) -> None:
    (folder / "mill.md").write_text("Another mill.")
    with pytest.raises(DocumentError, match=r"name one of mill.md, mill.txt"):
        read_own_rows(folder, write(folder, '{"question": "Who?", "answer": "Otto", "document": "mill"}'))


def test_the_metric_suits_the_answers(folder: Path) -> None:
    def metric(*answers: str) -> str:
        lines = [json.dumps({"question": f"{n}?", "answer": answer}) for n, answer in enumerate(answers)]
        return suited_metric(read_own_rows(folder / "mill.txt", write(folder, "\n".join(lines))))

    assert metric("1842", "Otto Larkley", "It burnt in the dry summer of 1860.") == "contained"
    assert (
        metric("It burnt in the dry summer of 1860.", "Otto Larkley owned it until it burnt.")
        == "rouge_l_recall"
    )


def load(**metadata: Any) -> Any:
    """The task as a run of these model arguments and metadata has it."""
    return manager(**metadata).load([TASK])["tasks"][TASK]


def test_the_task_asks_in_the_words_of_the_recipe(folder: Path) -> None:
    questions = write(folder, '{"question": "Who owned it?", "answer": "Otto Larkley"}')
    places = {"documents": str(folder / "mill.txt"), "questions": str(questions)}

    def asked(**metadata: Any) -> str:
        task = load(**places, **metadata)
        return str(task.doc_to_text(next(iter(task.eval_docs))))

    usual = load_recipe("lora").prompt.template.replace("{{ title }}", "mill").replace("{{ document }}", MILL)
    assert asked(pretrained="M") == usual.replace("{{ question }}", "Who owned it?")
    bundled = f"mill\n{MILL}\nQuestion: Who owned it?\nAnswer:"
    assert asked() == asked(recipe="tiny", pretrained="M") == bundled
    assert asked(prompt_style="closed_book") == "mill\nQuestion: Who owned it?\nAnswer:"
    assert asked(**{"prompt.template": "{{ document }} {{ question }}"}) == f"{MILL} Who owned it?"


def test_a_reply_is_scored_by_the_best_of_the_answers(folder: Path) -> None:
    line = {
        "question": "Who owned it?",
        "answers": ["Otto Larkley", "Larkley"],
        "evidence": "Otto Larkley owned it.",
    }
    questions = write(folder, json.dumps(line))
    task = load(documents=str(folder / "mill.txt"), questions=str(questions))
    row = dict(next(iter(task.eval_docs)))
    assert row["depth"] == MILL.index("Otto") / len(MILL)
    scores = task.process_results(row, ["It was Larkley."])
    expected = {"contained": 1, "exact_match": 0, "token_f1": 2 / 4, "rouge_l_recall": 1, "documents": "mill"}
    assert scores == {name: pytest.approx(value) for name, value in expected.items()}
    assert set(METRICS) < set(scores)
    assert row["context"].startswith("sha256:")  # the log of samples does not repeat the document


def test_a_judge_is_asked_about_the_fullest_answer(folder: Path) -> None:
    questions = write(folder, '{"question": "Who owned it?", "answers": ["Otto Larkley", "Larkley"]}')
    task = load(documents=str(folder / "mill.txt"), questions=str(questions), judge="some-judge")
    scores = task.process_results(dict(next(iter(task.eval_docs))), ["Otto."])
    assert scores["judge_accuracy"] == ["some-judge", "Who owned it?", "Otto Larkley", "Otto.", "answer"]


def test_a_run_that_names_a_digest_refuses_other_content(folder: Path) -> None:
    questions = write(folder, '{"question": "Who owned it?", "answer": "Otto"}')
    places = {"documents": str(folder / "mill.txt"), "questions": str(questions)}
    digest = own_digest(read_own_rows(folder / "mill.txt", questions))
    assert len(load(**places, digest=digest).eval_docs) == 1
    (folder / "mill.txt").write_text(f"{MILL} It was built again.")
    with pytest.raises(DocumentError, match="have changed"):
        load(**places, digest=digest)


def test_without_documents_and_questions_both_are_named() -> None:
    with pytest.raises(RecipeError, match=r"'documents' is missing; 'questions' is missing"):
        load()
