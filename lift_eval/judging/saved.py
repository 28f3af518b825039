"""Judging the answers of runs that are over, from what lm-eval logged with ``--log_samples``."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, TypeAdapter

from lift_eval.errors import JudgeError
from lift_eval.files import write_whole
from lift_eval.judging.judge import (
    PROMPT_VERSION,
    Answer,
    Judge,
    Judgement,
    VerdictStore,
    cohens_kappa,
    judgement,
    score_names,
)
from lift_eval.results.full_sizes import LOOGLE_TYPES
from lift_eval.results.reading import RESULTS_NAME, SAMPLES_NAME


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


class _KeptTask(BaseModel):
    """What `agreements` reads of a judged task that was written."""

    task: str
    samples: str
    judge: str
    values: dict[str, float | None]


class _JudgedRow(BaseModel):
    """What a judge is asked, from a sample's row."""

    question: str
    answer: str
    judged_as: Literal["answer", "summary"]
    type: str | None = None


class _Sample(BaseModel):
    """The form of a sample as far as it is read here."""

    doc: dict[str, Any]
    doc_id: int | str
    filtered_resps: Annotated[list[Any], Field(min_length=1)]
    metrics: list[str]
    filter: str = "none"


class _Results(BaseModel):
    """The form of a results file as far as scores are added to it."""

    results: dict[str, dict[str, Any]] = {}
    higher_is_better: dict[str, dict[str, bool | None]] = {}


Form = TypeVar("Form", bound=BaseModel)


def judge_results(results: Path, judge: Judge) -> list[JudgedTask]:
    """Judge the answers that lm-eval saved with ``--log_samples``, without running a model.

    Each judged task is written beside its samples as ``judged_<task>_<date>_<judge>.json``, complete or not. The
    verdicts also go into the samples and into the results, as if the run had had this judge; what another judge said
    before is replaced there.

    Args:
        results: A folder of results, a file of results, or a file of samples.
        judge: Who judges.

    Returns:
        One entry per file of samples with answers to judge.

    Raises:
        JudgeError: If there are no samples, or none that a judge can read, or the server refuses.
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
        _write_json(path.with_name(_judged_name(path, judge)), asdict(task))
        _add_to_samples(path, samples, chosen, whole)
        _add_to_results(path, task, chosen[0])
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
    tasks = [_read(path, _KeptTask) for path in sorted(files)]
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


def _read(path: Path, form: type[Form]) -> Form:
    try:
        return form.model_validate_json(path.read_bytes())
    except ValueError as error:
        raise JudgeError(
            f"{path}: no whole JSON of the form that is written there; delete it and judge again"
        ) from error


def _read_samples(path: Path) -> list[dict[str, Any]]:
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
            return [
                _read_sample(line, f"{path}, line {number}") for number, line in enumerate(stream, start=1)
            ]
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise JudgeError(f"{path}: ends too early ({error}); delete the run's files and run again") from error


def _read_sample(line: bytes, where: str) -> dict[str, Any]:
    try:
        sample: dict[str, Any] = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise JudgeError(f"{where}: not whole JSON; delete the run's files and run again") from error
    try:
        form = _Sample.model_validate(sample)
        if form.doc.get("judged_as"):
            _JudgedRow.model_validate(form.doc)
            TypeAdapter(str).validate_python(form.filtered_resps[0])
    except ValueError as error:
        raise JudgeError(f"{where}: not a sample of lm-eval 0.4; run again with 0.4.13 or newer") from error
    return sample


def _answer(sample: dict[str, Any]) -> Answer | None:
    """What a judge is asked about a sample; None where its row is not for a judge."""
    row, kind = sample["doc"], sample["doc"].get("judged_as")
    return Answer(row["question"], row["answer"], sample["filtered_resps"][0], kind) if kind else None


def _summary(
    path: Path, samples: Sequence[dict[str, Any]], answers: Sequence[Answer], whole: Judgement, judge: Judge
) -> JudgedTask:
    store = VerdictStore(judge.model, judge.folder)
    of_type: dict[str, list[Answer]] = {}
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
    content = _encoded("".join(json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples))
    write_whole(path, gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def _add_to_results(path: Path, task: JudgedTask, sample: dict[str, Any]) -> None:
    """Write the scores into the results file of the run, where it stands beside the samples."""
    date = _match(path)[2]
    found = [file for file in path.parent.glob(f"*_{date}.json") if RESULTS_NAME.fullmatch(file.name)]
    for file in found:
        _read(file, _Results)
        results = json.loads(file.read_text(encoding="utf-8"))
        entries = results.get("results", {}).get(task.task)
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
    write_whole(path, _encoded(json.dumps(content, indent=2, ensure_ascii=False) + "\n"))


def _encoded(text: str) -> bytes:
    return text.encode(errors="backslashreplace")  # of half a character it makes what JSON makes of it


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
