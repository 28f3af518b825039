"""Reading runs: what is refused, and that a question is the same question in every run."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from lift_eval.document import Document
from lift_eval.errors import ResultsError
from lift_eval.results.reading import read_run, read_runs
from lift_eval.results.samples import compact_samples
from tests.reporting.helpers import DATE, LOREM, digest, document_record, rows, write_run


def test_reads_a_run(tmp_path: Path) -> None:
    data = rows(2, 3)
    write_run(tmp_path / "model", {"task": [1, 0, 1, 0, 0, 1]}, data, seed=3, model_args={"recipe": "lora"})
    (run,) = read_runs([tmp_path])
    task = run.tasks["task"]
    assert (run.model, run.seed, run.date) == ("lift", 3, "2026-03-01 10:00 UTC")
    assert task.aggregates["exact_match", "none"] == (0.5, None)
    assert task.questions == 6
    samples = task.samples["none"]
    assert [sample.scores["exact_match"] for sample in samples] == [(v, 1) for v in (1, 0, 1, 0, 0, 1)]
    assert samples[0].question == "What is number 0 of 0?"
    assert samples[0].document == samples[1].document == digest("doc0")
    assert samples[0].document != samples[3].document


def test_a_row_without_a_score_of_its_own_is_not_counted(tmp_path: Path) -> None:
    """Our tasks write null for the scores of other types of question."""
    path = write_run(tmp_path, {"task": [0, 1]}, rows(1, 2))
    samples = path.with_name(path.name.replace("results", "samples_task") + "l")
    first, second = samples.read_text().splitlines()
    samples.write_text(first.replace('"exact_match": 0', '"exact_match": null') + "\n" + second + "\n")
    scores = [sample.scores for sample in read_run(path).tasks["task"].samples["none"]]
    assert scores == [{}, {"exact_match": (1, 1)}]


def test_reads_what_the_run_recorded_of_its_documents(tmp_path: Path) -> None:
    lost = document_record("doc0", failure="OutOfMemoryError", lost_questions=3)
    (run, other) = (
        read_run(write_run(tmp_path / model, {"task": [1.0]}, rows(1, 1), model=model, documents=[lost]))
        for model in ("lift", "hf")
    )
    (document,) = run.documents
    assert (document.digest, document.failure, document.seconds["answer"]) == (
        digest("doc0"),
        "OutOfMemoryError",
        1,
    )
    assert (run.totals.failed_documents, run.totals.lost_questions) == (1, 3)
    assert (other.documents, other.totals.failed_documents) == ([], 0)


def test_arguments_of_an_older_lm_eval_are_a_text(tmp_path: Path) -> None:
    path = write_run(
        tmp_path,
        {"task": [1.0]},
        rows(1, 1),
        config={"model": "hf", "model_args": "pretrained=gpt2,dtype=float32"},
    )
    assert read_run(path).model_args == {"pretrained": "gpt2", "dtype": "float32"}


# ------------------------------------------------------------------------------------------------------- bad input


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="holds no results of lm-eval"):
        read_runs([tmp_path])


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="neither a folder nor a file"):
        read_runs([tmp_path / "nowhere"])


def test_half_written_json_is_refused_by_name(tmp_path: Path) -> None:
    path = write_run(tmp_path, {"task": [1.0]}, rows(1, 1))
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ResultsError, match=rf"{path.name}.*incomplete JSON.*delete the file"):
        read_runs([tmp_path])


def test_results_of_another_form_name_their_version(tmp_path: Path) -> None:
    write_run(tmp_path, {"task": [1.0]}, rows(1, 1), configs=None, lm_eval_version="0.3.0")
    with pytest.raises(ResultsError, match=r"has no 'configs'.*lm_eval_version: 0\.3\.0"):
        read_runs([tmp_path])


def test_json_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    (tmp_path / f"results_{DATE}.json").write_text("[1, 2]")
    with pytest.raises(ResultsError, match="has no results"):
        read_runs([tmp_path])


def test_samples_without_results_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path, {"task": [1.0]}, rows(1, 1)).unlink()
    with pytest.raises(
        ResultsError, match=rf"samples without results; results_{DATE}.json must be beside it"
    ):
        read_runs([tmp_path])


def test_half_written_samples_are_refused(tmp_path: Path) -> None:
    path = write_run(tmp_path, {"task": [1, 0, 1, 0]}, rows(2, 2))
    samples = path.with_name(f"samples_task_{DATE}.jsonl")
    whole = samples.read_text()
    samples.write_text(whole[:-30])
    with pytest.raises(ResultsError, match="line 4 is incomplete JSON"):
        _ = read_run(path).tasks["task"].samples
    samples.write_text("".join(whole.splitlines(keepends=True)[:3]))
    with pytest.raises(ResultsError, match="holds 3 of 4 samples"):
        _ = read_run(path).tasks["task"].samples


def test_a_cut_off_archive_of_samples_is_refused(tmp_path: Path) -> None:
    path = write_run(tmp_path, {"task": [1, 0, 1, 0]}, rows(2, 2))
    compact_samples(tmp_path)
    samples = path.with_name(f"samples_task_{DATE}.jsonl.gz")
    samples.write_bytes(samples.read_bytes()[:-40])
    with pytest.raises(ResultsError, match="ends too early"):
        _ = read_run(path).tasks["task"].samples


def test_lines_that_are_no_samples_are_refused(tmp_path: Path) -> None:
    path = write_run(tmp_path, {"task": [1.0]}, rows(1, 1))
    path.with_name(f"samples_task_{DATE}.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(ResultsError, match="not a sample of lm-eval"):
        _ = read_run(path).tasks["task"].samples


# ------------------------------------------------------------------------------------------- the same question


def foreign_rows() -> list[dict[str, object]]:
    """Rows of a task of lm-eval: the whole document, under a name of its own."""
    return [
        {
            "passage": f"{LOREM * 5} Version {document}.",
            "question": f"Why {number}?",
            "answer": "so",
            "idx": number,
        }
        for document in range(2)
        for number in range(2)
    ]


def write_foreign(folder: Path) -> Path:
    data = foreign_rows()
    path = write_run(folder, {"task": [1, 0, 1, 0]}, data, model="hf")
    samples = path.with_name(f"samples_task_{DATE}.jsonl")
    records = [json.loads(line) for line in samples.read_text().splitlines()]
    for record in records:
        record["arguments"] = {
            "gen_args_0": {"arg_0": f"{record['doc']['passage']}\n{record['doc']['question']}"}
        }
    samples.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_the_document_of_a_foreign_row_is_found_in_its_prompt(tmp_path: Path) -> None:
    samples = read_run(write_foreign(tmp_path)).tasks["task"].samples["none"]
    assert samples[0].document == samples[1].document != samples[2].document
    assert samples[0].question == "Why 0?"
    assert len({sample.key for sample in samples}) == 4


def test_a_withheld_document_is_the_same_as_its_text(tmp_path: Path) -> None:
    from lift_eval.document import Document

    text = LOREM * 5
    (withheld,) = rows(1, 1)
    withheld["context"] = f"sha256:{Document(text, withheld['title']).digest}"
    whole = {**withheld, "context": text}
    ours = read_run(write_run(tmp_path / "ours", {"task": [1.0]}, [withheld])).tasks["task"].samples["none"]
    theirs = (
        read_run(write_run(tmp_path / "hf", {"task": [1.0]}, [whole], model="hf"))
        .tasks["task"]
        .samples["none"]
    )
    assert ours[0].key == theirs[0].key


def test_prompt_style_and_judge_are_no_part_of_the_question(tmp_path: Path) -> None:
    data = rows(1, 2)
    other = [{**row, "prompt_style": "closed_book", "prompt_template": "?", "judge": "gpt"} for row in data]
    keys = [
        [
            s.key
            for s in read_run(write_run(tmp_path / str(i), {"task": [1, 0]}, some))
            .tasks["task"]
            .samples["none"]
        ]
        for i, some in enumerate((data, other))
    ]
    assert keys[0] == keys[1]


def test_a_question_that_stands_twice_is_two_questions(tmp_path: Path) -> None:
    (row,) = rows(1, 1)
    samples = read_run(write_run(tmp_path, {"task": [1, 0]}, [row, dict(row)])).tasks["task"].samples["none"]
    assert len({sample.key for sample in samples}) == 2


def test_a_row_without_document_is_a_document_of_its_own(tmp_path: Path) -> None:
    data = [{"question": f"1 + {number}?", "answer": str(number)} for number in range(3)]
    samples = (
        read_run(write_run(tmp_path, {"task": [1, 0, 1]}, data, model="hf")).tasks["task"].samples["none"]
    )
    assert len({sample.document for sample in samples}) == 3


def test_a_document_is_known_by_its_mark_in_the_logged_prompt(tmp_path: Path) -> None:
    """In another field than ``context`` nothing else tells which text the document was."""
    row = {"passage": "A ship was built. " * 20, "notes": "Nobody came. " * 40, "question": "When?"}
    path = write_run(tmp_path, {"task": [1.0]}, [row])
    samples = path.with_name(f"samples_task_{DATE}.jsonl")
    record = json.loads(samples.read_text())
    record["arguments"] = {"gen_args_0": {"arg_0": f"{Document(row['passage']).mark}\n{row['notes']}\nWhen?"}}
    samples.write_text(json.dumps(record) + "\n")
    (sample,) = read_run(path).tasks["task"].samples["none"]
    assert (sample.document, sample.question) == (Document(row["passage"]).digest, "When?")


def test_the_likeliest_choice_is_the_answer(tmp_path: Path) -> None:
    path = write_run(tmp_path, {"task": [1.0]}, rows(1, 1))
    samples = path.with_name(f"samples_task_{DATE}.jsonl")
    record = json.loads(samples.read_text())
    record["filtered_resps"] = [["-3.5", "False"], ["-1.25", "True"]]
    record["arguments"] = {
        f"gen_args_{i}": {"arg_0": "prompt", "arg_1": f" choice {name}"} for i, name in enumerate("AB")
    }
    samples.write_text(json.dumps(record) + "\n")
    assert read_run(path).tasks["task"].samples["none"][0].answer == "choice B"


def test_prompts_answers_and_evidence_are_read_for_people(tmp_path: Path) -> None:
    """Without the document's text, without white space around an answer, and no evidence where there is none."""
    data = [{**row, "evidence": []} for row in rows(1, 2)]
    data[1]["context"] = LOREM * 40
    path = write_run(tmp_path, {"task": [1, 1]}, data, answer=lambda row, _: f"\n {row['answer']} \n")
    samples = read_run(path).tasks["task"].samples["none"]
    assert [sample.prompt for sample in samples] == [f"[the document] {row['question']}" for row in data]
    assert [sample.answer for sample in samples] == ["answer 0", "answer 1"]
    assert [sample.evidence for sample in samples] == [(), ()]
    data[1]["question"] = "Who? " * 1000
    long = read_run(write_run(tmp_path, {"task": [1, 1]}, data)).tasks["task"].samples["none"][1].prompt
    assert long.startswith("[the document] Who? ")
    assert "[... 3,015 characters ...]" in long
    assert len(long) < 2100


@pytest.mark.parametrize("foreign", [False, True])
def test_compact_samples_say_the_same_without_documents(tmp_path: Path, foreign: bool) -> None:
    path = write_foreign(tmp_path) if foreign else write_run(tmp_path, {"task": [1, 0, 1, 0]}, rows(2, 2))
    before = read_run(path).tasks["task"].samples
    assert compact_samples(tmp_path) > 0
    assert read_run(path).tasks["task"].samples == before
    packed = path.with_name(f"samples_task_{DATE}.jsonl.gz")
    text = gzip.decompress(packed.read_bytes()).decode()
    assert "arguments" not in text
    assert LOREM not in text
    first = packed.read_bytes()
    assert compact_samples(tmp_path) == 0
    assert packed.read_bytes() == first
