"""The judge asked about the answers of finished runs, as lm-eval logged them with ``--log_samples``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from lift_eval.errors import JudgeError
from lift_eval.files import write_whole
from lift_eval.judging.judge import (
    PROMPT_VERSION,
    Judge,
    JudgedAnswer,
    Judgement,
    VerdictStore,
    cohens_kappa,
    judgement,
    score_names,
)
from lift_eval.results.full_sizes import LOOGLE_TYPES
from lift_eval.results.reading import read_results
from lift_eval.results.samples import sample_lines, write_sample_lines
from lift_eval.results.schema import RESULTS_NAME, SAMPLES_NAME, JudgedLine, check_sample


class JudgedTask(BaseModel):
    """A judge's verdicts on one task of a saved run, as they are written to ``judged_*.json``.

    Attributes:
        task: Name of the task.
        samples: The file of samples.
        judge: Name of the judging model.
        prompt: Version of the judge's prompt.
        questions: Number of answers.
        score: Share of right answers, or the mean mark of summaries. None means that verdicts are missing.
        by_type: The score of each question type.
        unclear: Number of unclear replies, counted as wrong.
        failed: Number of answers without a verdict.
        causes: Causes of the failures, with counts.
        values: Value of each answer by the sample's number.
    """

    model_config = ConfigDict(frozen=True)

    task: str
    samples: str
    judge: str
    prompt: str
    questions: int
    score: float | None
    by_type: Mapping[str, float | None]
    unclear: int
    failed: int
    causes: Mapping[str, int]
    values: Mapping[str, float | None]


@dataclass(frozen=True)
class Agreement:
    """How far two judges agree on one task of one run.

    Attributes:
        task: Name of the task.
        judges: Their names.
        questions: Answers that both judged.
        kappa: Cohen's kappa.
    """

    task: str
    judges: tuple[str, str]
    questions: int
    kappa: float


def judge_saved(results: Path, judge: Judge) -> list[JudgedTask]:
    """Judge the answers that lm-eval saved with ``--log_samples``, without running a model.

    Each judged task is written beside its samples as ``judged_<task>_<date>_<judge>.json``, complete or not. The
    verdicts also go into the samples and into the results, as if the run had had this judge; what another judge said
    before is replaced there.

    Args:
        results: A folder of results, a file of results, or a file of samples.
        judge: The judge.

    Returns:
        One entry per file of samples with answers to judge.

    Raises:
        JudgeError: If there are no samples or no answers to judge, or the server refuses.
        ResultsError: If the files cannot be read.
    """
    judged = []
    for path in _sample_files(results):
        samples = _read_samples(path)
        answers = {number: answer for number, sample in enumerate(samples) if (answer := _answer(sample))}
        if not answers:
            continue
        whole = judge.judge(list(answers.values()))
        chosen = [samples[number] for number in answers]
        task = _summary(path, chosen, list(answers.values()), whole, judge)
        _write_json(path.with_name(_judged_name(path, judge)), task.model_dump())
        _add_to_samples(path, samples, chosen, whole)
        _add_to_results(path, task, chosen[0])
        judged.append(task)
    if not judged:
        raise JudgeError(
            f"'{results}' holds no answers to judge; run one of the LooGLE questions or summaries with --log_samples"
        )
    return judged


def agreements(results: Path) -> list[Agreement]:
    """Compare every two judges that `judge_saved` has asked about the same samples."""
    pattern = "judged_*.json"
    files = results.rglob(pattern) if results.is_dir() else results.parent.glob(pattern)
    tasks = [_read_judged(path) for path in sorted(files)]
    found = []
    for number, first in enumerate(tasks):
        for second in tasks[number + 1 :]:
            if first.samples != second.samples or first.judge == second.judge:
                continue
            pairs = [(value, second.values.get(key)) for key, value in first.values.items()]
            pairs = [(a, b) for a, b in pairs if a is not None and b is not None]
            if pairs:
                kappa = cohens_kappa(*map(list, zip(*pairs, strict=True)))
                found.append(Agreement(first.task, (first.judge, second.judge), len(pairs), kappa))
    return found


def _sample_files(results: Path) -> list[Path]:
    if results.is_dir():
        files = [path for path in sorted(results.rglob("samples_*")) if SAMPLES_NAME.fullmatch(path.name)]
    elif match := RESULTS_NAME.fullmatch(results.name):
        same_run = (SAMPLES_NAME.fullmatch(path.name) for path in sorted(results.parent.glob("samples_*")))
        files = [results.with_name(found[0]) for found in same_run if found and found[2] == match[1]]
    else:
        files = [results] if results.is_file() and SAMPLES_NAME.fullmatch(results.name) else []
    if not files:
        raise JudgeError(
            f"'{results}' holds no samples_<task>_<date>.jsonl; run lm-eval with --output_path and --log_samples"
        )
    return files


def _read_judged(path: Path) -> JudgedTask:
    try:
        return JudgedTask.model_validate_json(path.read_bytes())
    except ValueError as error:
        raise JudgeError(
            f"{path}: must be a whole file as `lift-eval judge` writes it; delete it and judge again"
        ) from error


def _read_samples(path: Path) -> list[dict[str, Any]]:
    samples = list(sample_lines(path))
    for number, sample in enumerate(samples, start=1):
        if sample["doc"].get("judged_as"):
            check_sample(sample, f"{path}: line {number}", JudgedLine)
    return samples


def _answer(sample: dict[str, Any]) -> JudgedAnswer | None:
    """The answer of a sample that a judge is asked about. None means that its row is not for a judge."""
    row, kind = sample["doc"], sample["doc"].get("judged_as")
    return JudgedAnswer(row["question"], row["answer"], sample["filtered_resps"][0], kind) if kind else None


def _summary(
    path: Path,
    samples: Sequence[dict[str, Any]],
    answers: Sequence[JudgedAnswer],
    whole: Judgement,
    judge: Judge,
) -> JudgedTask:
    store = VerdictStore(judge.model, judge.folder)
    of_type: dict[str, list[JudgedAnswer]] = {}
    for sample, answer in zip(samples, answers, strict=True):
        if name := sample["doc"].get("type"):
            of_type.setdefault(name, []).append(answer)
    return JudgedTask(
        task=_task_name(path),
        samples=path.name,
        judge=judge.model,
        prompt=PROMPT_VERSION,
        questions=len(answers),
        score=whole.score,
        by_type={name: judgement(same, store).score for name, same in sorted(of_type.items())},
        unclear=whole.unclear,
        failed=whole.failed,
        causes=whole.causes,
        values={str(sample["doc_id"]): value for sample, value in zip(samples, whole.values, strict=True)},
    )


def _add_to_samples(
    path: Path, samples: Sequence[dict[str, Any]], judged: Sequence[dict[str, Any]], whole: Judgement
) -> None:
    """Write the verdicts into the samples, in the form that a run with a judge gives them."""
    for sample, verdict, value in zip(judged, whole.verdicts, whole.values, strict=True):
        row = sample["doc"]
        row["judge"] = whole.judge
        scores: dict[str, list[float | None]] = {
            **{name: [value, 1] for name in score_names(row)},
            "judge_unclear": [float(verdict is not None and verdict.value is None), 1],
            "judge_failed": [float(verdict is None), 1],
        }
        sample.update(scores)
        sample["metrics"] = list(dict.fromkeys([*sample["metrics"], *scores]))
    write_sample_lines(path, samples)


def _add_to_results(path: Path, task: JudgedTask, sample: dict[str, Any]) -> None:
    """Write the scores into the results file of the run, where it stands beside the samples."""
    date = _match(path)[2]
    found = [file for file in path.parent.glob(f"*_{date}.json") if RESULTS_NAME.fullmatch(file.name)]
    for file in found:
        results = read_results(file)
        entries = results["results"].get(task.task)
        if entries is None:
            continue
        name, filter_name = score_names(sample["doc"])[0], sample.get("filter", "none")
        by_type = {f"{name}_{kind}": score for kind, score in task.by_type.items() if kind in LOOGLE_TYPES}
        scores = {name: task.score, **by_type}
        counts = {"judge_unclear": task.unclear, "judge_failed": task.failed}
        for metric, value in {**scores, **counts}.items():
            entries[f"{metric},{filter_name}"] = value
            entries[f"{metric}_stderr,{filter_name}"] = "N/A"
        better = results.setdefault("higher_is_better", {}).setdefault(task.task, {})
        better.update(dict.fromkeys(scores, True) | dict.fromkeys(counts, False))
        _write_json(file, results)


def _match(path: Path) -> re.Match[str]:
    match = SAMPLES_NAME.fullmatch(path.name)
    assert match is not None  # `_sample_files` gives no others
    return match


def _task_name(path: Path) -> str:
    return _match(path)[1]


def _judged_name(path: Path, judge: Judge) -> str:
    _, task, date = (_match(path)[i] for i in range(3))
    return f"judged_{task}_{date}_{VerdictStore(judge.model).path.stem}.json"


def _write_json(path: Path, content: object) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    write_whole(
        path, text.encode(errors="backslashreplace")
    )  # of half a character it makes what JSON makes of it


def summary_lines(tasks: Iterable[JudgedTask]) -> Iterator[str]:
    """One line per task for a person."""
    for task in tasks:
        score = "no score" if task.score is None else f"{task.score:.4f}"
        notes = [f"{task.unclear} unclear replies counted as wrong"] if task.unclear else []
        if task.failed:
            causes = ", ".join(f"{cause} ({count})" for cause, count in task.causes.items())
            notes.append(
                f"INCOMPLETE: {task.failed} without a verdict: {causes}; run the same command again to request these"
            )
        yield "; ".join([f"{task.task}: {score} by {task.judge} over {task.questions} answers", *notes])
