"""Judging in a run of lm-eval, and judging what a run saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lm_eval
import pytest
from lm_eval.loggers import EvaluationTracker

from lift_eval.errors import JudgeError, ResultsError
from lift_eval.judging.judge import Judge
from lift_eval.judging.saved import agreements, judge_saved, summary_lines
from lift_eval.results.full_sizes import LOOGLE_TYPES
from lift_eval.results.reading import read_runs
from lift_eval.results.samples import compact_samples
from tests.benchmarks.harness import Echo, manager
from tests.judging.judge_server import JudgeServer

ANSWERS = ["Lyon", "Oran", "Lyon", "Oran"]


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four questions, one of each type, two of them answered with Lyon."""
    monkeypatch.setenv("LIFT_EVAL_CACHE", str(tmp_path / "cache"))
    rows = [
        {
            "doc_id": "d",
            "id": n,
            "title": "Ada",
            "context": "Ada went.",
            "question": f"Question {n}?",
            "answer": answer,
        }
        for n, answer in enumerate(ANSWERS)
    ]
    rows = [row | {"type": name} for row, name in zip(rows, LOOGLE_TYPES, strict=True)]
    (tmp_path / "longdep_qa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    cloze = {**rows[0], "answer": {"<mask-0>": "Ada"}}
    (tmp_path / "shortdep_cloze.jsonl").write_text(json.dumps(cloze))
    return tmp_path


def same_as_reference(user: str) -> str:
    lines = user.splitlines()
    return str(
        json.loads(lines[2].removeprefix("predict_answer = ")) == lines[1].removeprefix("groudtruth = ")
    )


def run(data_dir: Path, task: str = "loogle_longqa", **metadata: object) -> dict[str, Any]:
    done = lm_eval.simple_evaluate(
        model=Echo("Lyon"),
        tasks=[task],
        task_manager=manager(data_dir=str(data_dir), **metadata),
        log_samples=True,
        bootstrap_iters=0,
    )
    assert done is not None
    return done


def save(done: dict[str, Any], folder: Path) -> Path:
    """Write a run's results and samples as lm-eval does."""
    tracker = EvaluationTracker(output_path=str(folder))
    tracker.general_config_tracker.model_name_sanitized = "model"
    samples = done.pop("samples")
    tracker.save_results_aggregated(results=done, samples=samples)
    for task, of_task in samples.items():
        tracker.save_results_samples(task_name=task, samples=of_task)
    return folder


# --------------------------------------------------------------------------------------------------------- in a run


def test_a_run_without_a_judge_has_no_judges_metrics(data_dir: Path) -> None:
    results = run(data_dir)["results"]["loogle_longqa"]
    assert not [name for name in results if name.startswith("judge")]


@pytest.mark.parametrize("by_environment", [True, False])
def test_a_run_with_a_judge_has_its_accuracy_by_type(
    data_dir: Path, server: JudgeServer, monkeypatch: pytest.MonkeyPatch, by_environment: bool
) -> None:
    if by_environment:
        monkeypatch.setenv("LIFT_EVAL_JUDGE", "m")
    server.reply = same_as_reference
    results = run(data_dir, **({} if by_environment else {"judge": "m"}))["results"]["loogle_longqa"]
    assert results["judge_accuracy,none"] == 0.5
    assert results["judge_accuracy_comprehension_and_reasoning,none"] == 1
    assert results["judge_accuracy_timeline_reorder,none"] == 0
    assert (results["judge_unclear,none"], results["judge_failed,none"]) == (0, 0)
    assert len(server.chats) == 4


def test_a_run_whose_judge_fails_has_no_accuracy(data_dir: Path, server: JudgeServer) -> None:
    server.reply = lambda user: 400 if "Question 3" in user else "nonsense"
    results = run(data_dir, judge="m")["results"]["loogle_longqa"]
    assert results["judge_accuracy,none"] is None
    assert (results["judge_unclear,none"], results["judge_failed,none"]) == (3, 1)
    assert results["judge_accuracy_timeline_reorder,none"] is None
    assert results["judge_accuracy_computation,none"] == 0
    assert lm_eval.utils.make_table({"results": {"t": results}, "versions": {}, "n-shot": {}})


# --------------------------------------------------------------------------------------------------- on saved answers


def test_saved_answers_are_judged_without_a_model(data_dir: Path, server: JudgeServer) -> None:
    folder = save(run(data_dir), data_dir / "out")
    server.reply = same_as_reference
    (task,) = judge_saved(folder, Judge("m"))
    assert (task.task, task.judge, task.questions, task.score) == ("loogle_longqa", "m", 4, 0.5)
    assert task.by_type["computation"] == 1
    assert task.values == {"0": 1, "1": 0, "2": 1, "3": 0}
    (written,) = (folder / "model").glob("judged_*.json")
    assert json.loads(written.read_text())["score"] == 0.5
    assert list(summary_lines([task])) == ["loogle_longqa: 0.5000 by m over 4 answers"]


def test_a_file_of_samples_or_results_may_be_named(data_dir: Path, server: JudgeServer) -> None:
    folder = save(run(data_dir), data_dir / "out") / "model"
    for pattern in ("results_*", "samples_*"):
        assert len(judge_saved(next(folder.glob(pattern)), Judge("m"))) == 1


@pytest.mark.parametrize("compacted", [False, True])
def test_reports_read_the_verdicts_as_if_the_run_had_had_the_judge(
    data_dir: Path, server: JudgeServer, compacted: bool
) -> None:
    folder = save(run(data_dir), data_dir / "out")
    if compacted:
        compact_samples(folder)
    server.reply = lambda user: same_as_reference(user) if "Question 3" not in user else "nonsense"
    judge_saved(folder, Judge("m"))
    (read,) = read_runs([folder])
    task = read.tasks["loogle_longqa"]
    assert task.aggregates["judge_accuracy", "none"] == (0.5, None)
    assert task.aggregates["judge_accuracy_computation", "none"] == (1, None)
    assert task.aggregates["judge_unclear", "none"] == (1, None)
    assert task.higher_is_better["judge_accuracy"] is True
    samples = task.samples["none"]
    assert [sample.scores["judge_accuracy"] for sample in samples] == [(1, 1), (0, 1), (1, 1), (0, 1)]
    assert {sample.judge for sample in samples} == {"m"}
    assert samples[2].scores["judge_accuracy_computation"] == (1, 1)


def test_a_run_with_a_judge_logs_the_same_verdicts(data_dir: Path, server: JudgeServer) -> None:
    server.reply = same_as_reference
    during = read_runs([save(run(data_dir, judge="m"), data_dir / "during")])[0].tasks["loogle_longqa"]
    after_folder = save(run(data_dir), data_dir / "after")
    judge_saved(after_folder, Judge("m"))
    after = read_runs([after_folder])[0].tasks["loogle_longqa"]
    assert during.aggregates == after.aggregates
    assert [sample.scores for sample in during.samples["none"]] == [s.scores for s in after.samples["none"]]


def test_an_incomplete_judgement_gives_reports_no_score(data_dir: Path, server: JudgeServer) -> None:
    folder = save(run(data_dir), data_dir / "out")
    server.reply = lambda user: 400 if "Question 3" in user else "True"
    judge_saved(folder, Judge("m"))
    task = read_runs([folder])[0].tasks["loogle_longqa"]
    assert ("judge_accuracy", "none") not in task.aggregates
    assert task.aggregates["judge_failed", "none"] == (1, None)


def test_an_incomplete_judgement_says_so_and_is_completed_later(data_dir: Path, server: JudgeServer) -> None:
    folder = save(run(data_dir), data_dir / "out")
    server.reply = lambda user: 400 if "Question 3" in user else "nonsense"
    tasks = judge_saved(folder, Judge("m"))
    (line,) = summary_lines(tasks)
    assert line == (
        "loogle_longqa: no score by m over 4 answers; 3 unclear replies counted as wrong; INCOMPLETE: 1 without a "
        "verdict: HTTP 400 (1); run the same command again to request these"
    )
    server.reply = lambda user: "True"
    server.chats.clear()
    assert judge_saved(folder, Judge("m"))[0].score == 0.25
    assert len(server.chats) == 1


def test_two_judges_are_compared(data_dir: Path, server: JudgeServer) -> None:
    folder = save(run(data_dir), data_dir / "out")
    server.reply = same_as_reference
    judge_saved(folder, Judge("one"))
    assert agreements(folder) == []
    server.reply = lambda user: str("Question 0" in user)
    judge_saved(folder, Judge("two"))
    (agreement,) = agreements(folder)
    assert (set(agreement.judges), agreement.questions) == ({"one", "two"}, 4)
    # one: 1 0 1 0, two: 1 0 0 0; 3 of 4 agree, expected (2*1 + 2*3) / 16 = 0.5
    assert agreement.kappa == pytest.approx(0.5)


def test_clozes_are_not_for_a_judge(data_dir: Path, server: JudgeServer) -> None:
    folder = save(run(data_dir, "loogle_cloze"), data_dir / "out")
    with pytest.raises(JudgeError, match="holds no answers to judge"):
        judge_saved(folder, Judge("m"))
    assert server.chats == []


def test_a_folder_without_samples_says_how_to_get_them(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "results_x.json"):
        with pytest.raises(JudgeError, match="--log_samples"):
            judge_saved(path, Judge("m"))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "line 1 is incomplete JSON"),
        ("[]", "line 1 is not a sample of lm-eval 0.4"),
        ("{}", "line 1 is not a sample of lm-eval 0.4: 'doc' is missing"),
        ('{"doc": {"judged_as": "answer", "question": "q"}}', "'doc.answer' is missing"),
    ],
)
def test_a_file_that_is_no_samples_is_one_clear_error(tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "samples_t_2025-01-01T00-00-00.jsonl").write_text(content)
    with pytest.raises(ResultsError, match=told):
        judge_saved(tmp_path, Judge("m"))
