"""Judging the answers of runs that are over, from what lm-eval logged with ``--log_samples``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lift_eval.benchmarks.judge import PROMPT_VERSION, Answer, Judge, VerdictStore, cohens_kappa, judgement
from lift_eval.errors import JudgeError


@dataclass(frozen=True)
class JudgedTask:
    """A judge's verdicts on one task of a saved run.

    Attributes:
        task: Name of the task.
        samples: The file of samples.
        judge: Name of the judging model.
        prompt: Version of the judge's prompt.
        questions: Number of answers.
        score: Share of right answers, or the mean mark of summaries; None where verdicts are missing.
        by_type: The score of each question type.
        unclear: Number of unclear replies, counted as wrong.
        failed: Number of answers without a verdict.
        causes: What the failures came from.
        values: Value of each answer by the sample's number.
    """

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


def judge_results(results: Path, judge: Judge) -> list[JudgedTask]:
    """Judge the answers that lm-eval saved with ``--log_samples``, without running a model.

    Args:
        results: A folder of results, a file of results, or a file of samples.
        judge: Who judges.

    Returns:
        One entry per file of samples with answers to judge; each is written beside its file, as
        ``judged_<task>_<date>_<judge>.json``, complete or not.

    Raises:
        JudgeError: If there are no samples, or none that a judge can read, or the server refuses.
    """
    judged = []
    for path in _sample_files(results):
        if not (samples := _read_samples(path)):
            continue
        task = _judge_samples(path, samples, judge)
        _write(path, task)
        judged.append(task)
    if not judged:
        raise JudgeError(
            f"'{results}' holds no answers to judge; run one of the LooGLE questions or summaries with --log_samples"
        )
    return judged


def agreements(results: Path) -> list[Agreement]:
    """Compare every two judges that `judge_results` has asked about the same samples."""
    pattern = "judged_*.json"
    files = results.rglob(pattern) if results.is_dir() else results.parent.glob(pattern)
    tasks = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(files)]
    found = []
    for number, first in enumerate(tasks):
        for second in tasks[number + 1 :]:
            if first["samples"] != second["samples"] or first["judge"] == second["judge"]:
                continue
            pairs = [(first["values"][key], second["values"].get(key)) for key in first["values"]]
            pairs = [(a, b) for a, b in pairs if a is not None and b is not None]
            if pairs:
                kappa = cohens_kappa(*map(list, zip(*pairs, strict=True)))
                found.append(Agreement(first["task"], (first["judge"], second["judge"]), len(pairs), kappa))
    return found


def _sample_files(results: Path) -> list[Path]:
    if results.is_dir():
        files = sorted(results.rglob("samples_*.jsonl"))
    elif results.name.startswith("results_"):
        files = sorted(results.parent.glob(f"samples_*_{results.stem.removeprefix('results_')}.jsonl"))
    else:
        files = [results] if results.is_file() else []
    if not files:
        raise JudgeError(
            f"'{results}' holds no file samples_*.jsonl; run lm-eval with --output_path and --log_samples"
        )
    return files


def _read_samples(path: Path) -> list[tuple[dict[str, Any], Answer]]:
    """The samples of a file that a judge can read: those whose row names its kind of answer."""
    samples = []
    with path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                sample = json.loads(line)
                row, prediction = sample["doc"], sample["filtered_resps"][0]
            except (ValueError, KeyError, IndexError, TypeError) as error:
                raise JudgeError(f"{path}, line {number}: not a sample of lm-eval; run it again") from error
            if kind := row.get("judged_as"):
                samples.append((sample, Answer(row["question"], row["answer"], prediction, kind)))
    return samples


def _judge_samples(path: Path, samples: Sequence[tuple[dict[str, Any], Answer]], judge: Judge) -> JudgedTask:
    answers = [answer for _, answer in samples]
    whole = judge.judge(answers)
    store = VerdictStore(judge.model, judge.folder)
    types = sorted({sample["doc"].get("type") for sample, _ in samples} - {None, ""})
    return JudgedTask(
        task=path.stem.removeprefix("samples_").rpartition("_")[0],
        samples=path.name,
        judge=judge.model,
        prompt=PROMPT_VERSION,
        questions=len(answers),
        score=whole.score,
        by_type={
            name: judgement([a for s, a in samples if s["doc"].get("type") == name], store).score
            for name in types
        },
        unclear=whole.unclear,
        failed=whole.failed,
        causes=whole.causes,
        values={
            str(sample["doc_id"]): value for (sample, _), value in zip(samples, whole.values, strict=True)
        },
    )


def _write(samples: Path, task: JudgedTask) -> None:
    store = VerdictStore(task.judge)
    target = samples.with_name(f"judged_{samples.stem.removeprefix('samples_')}_{store.path.stem}.json")
    partial = target.with_suffix(".part")
    partial.write_text(json.dumps(asdict(task), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(target)


def summary_lines(tasks: Iterable[JudgedTask]) -> Iterator[str]:
    """One line per task for a person."""
    for task in tasks:
        score = "no score" if task.score is None else f"{task.score:.4f}"
        notes = [f"{task.unclear} unclear replies counted as wrong"] if task.unclear else []
        if task.failed:
            causes = ", ".join(f"{cause} ({count})" for cause, count in task.causes.items())
            notes.append(
                f"INCOMPLETE: {task.failed} without a verdict: {causes}; run it again to ask for these"
            )
        yield "; ".join([f"{task.task}: {score} by {task.judge} over {task.questions} answers", *notes])
