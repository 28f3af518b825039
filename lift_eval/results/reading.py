"""Reading what lm-eval wrote: results files with their samples, of ``lift`` or of any other model class.

    lm_eval ... --output_path DIR --log_samples
      -> DIR/<model>/results_<date>.json
      -> DIR/<model>/samples_<task>_<date>.jsonl      (.jsonl.gz after `compact_samples`)

A file that cannot be trusted (half-written, without its other half) is refused by name.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

from lift_eval.errors import ResultsError
from lift_eval.record.record import DocumentRecord, RunTotals
from lift_eval.results.samples import LoggedSample, read_samples
from lift_eval.results.schema import RESULTS_NAME, SAMPLES_NAME, Lift, check_results

TASKS_OWN_METADATA = ("version", "config_source")


@dataclass(frozen=True)
class TaskResult:
    """One task of a run.

    Attributes:
        name: The task.
        version: The task's version.
        config: lm-eval's configuration of the task.
        metadata: What the run's ``--metadata`` gave the task, without the model's arguments.
        aggregates: Aggregated scores and standard errors by (metric, filter); the error is None where lm-eval has none.
        unfinished: Metrics for which the run has no value, e.g. because a judge did not answer.
        higher_is_better: By metric. None means that it is not a score.
        questions: How many were asked.
        available: How many the task's data hold, or 0 where the results do not say.
        shots: Number of few-shot examples.
        samples_path: The file of samples, or None where the run kept none.
    """

    name: str
    version: str
    config: Mapping[str, Any]
    metadata: Mapping[str, Any]
    aggregates: Mapping[tuple[str, str], tuple[float, float | None]]
    unfinished: frozenset[str]
    higher_is_better: Mapping[str, bool | None]
    questions: int
    available: int
    shots: int
    samples_path: Path | None

    @cached_property
    def samples(self) -> Mapping[str, list[LoggedSample]]:
        """The samples by filter, in the order of the file; empty where the run kept none.

        Raises:
            ResultsError: If the file is half-written.
        """
        return {} if self.samples_path is None else read_samples(self.samples_path, self.questions)


@dataclass(frozen=True)
class Run:
    """One results file.

    Attributes:
        path: The file.
        model: The model class, e.g. ``lift`` or ``hf``.
        model_args: Its arguments.
        seed: The recipe's, or else lm-eval's random seed.
        date: When it started, UTC.
        config: lm-eval's ``config``.
        lift: What our model class recorded; empty for others.
        documents: What it recorded of each document.
        totals: Their sums.
        tasks: By name.
        facts: lm-eval's remarks on versions, machine and commit.
    """

    path: Path
    model: str
    model_args: Mapping[str, Any]
    seed: int
    date: str
    config: Mapping[str, Any]
    lift: Mapping[str, Any]
    documents: Sequence[DocumentRecord]
    totals: RunTotals
    tasks: Mapping[str, TaskResult]
    facts: Mapping[str, Any] = field(repr=False)

    @property
    def recipe(self) -> Mapping[str, Any]:
        """The resolved recipe; empty for other model classes."""
        return self.lift.get("recipe") or {}

    @property
    def digest(self) -> str:
        """SHA-256 of the results file, 64 hexadecimal digits."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


def read_runs(paths: Iterable[str | Path]) -> list[Run]:
    """Read all runs in folders and files.

    Args:
        paths: Folders, searched with all below them, and results files.

    Returns:
        The runs in the order of their paths, each once.

    Raises:
        ResultsError: If a path is missing or holds no results, or a file cannot be trusted.
    """
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        files = list(results_files(path))
        if not files:
            raise ResultsError(
                f"'{path}' holds no results of lm-eval (results_<date>.json); write some with "
                f"lm_eval ... --output_path {path} --log_samples"
            )
        found.update({file.resolve(): file for file in files})
    return [read_run(found[key]) for key in sorted(found)]


def results_files(path: Path) -> Iterator[Path]:
    """The results files in a folder and all below it, or the file itself.

    Raises:
        ResultsError: If the path does not exist, or holds samples without their results.
    """
    if path.is_file():
        yield path
        return
    if not path.is_dir():
        raise ResultsError(f"'{path}' is neither a folder nor a file; name one that lm_eval wrote to")
    files = sorted(path.rglob("*"))
    dates: dict[Path, set[str]] = {}
    for file in files:
        if match := RESULTS_NAME.fullmatch(file.name):
            dates.setdefault(file.parent, set()).add(match[1])
            yield file
    for file in files:
        match = SAMPLES_NAME.fullmatch(file.name)
        if match and match[2] not in dates.get(file.parent, set()):
            raise ResultsError(
                f"{file}: samples without results; results_{match[2]}.json must be beside it: copy it there, or "
                "delete the samples and run again"
            )


def read_results(path: Path) -> dict[str, Any]:
    """The content of a results file.

    Raises:
        ResultsError: If it is not whole or has another form than lm-eval 0.4's.
    """
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ResultsError(
            f"{path}: incomplete JSON ({error}); the run was killed while it wrote: delete the file and run again"
        ) from error
    missing = _missing(data)
    if missing:
        version = data.get("lm_eval_version", "unknown") if isinstance(data, dict) else "unknown"
        raise ResultsError(
            f"{path}: has no {' and '.join(missing)}, which results of lm-eval 0.4 have (lm_eval_version: {version}); "
            "run again with lm-eval 0.4.13 or newer"
        )
    try:
        check_results(data)
    except ResultsError as error:
        raise ResultsError(f"{path}: {error}") from None
    return data


def read_run(path: Path) -> Run:
    """Read one results file; its samples are read when they are asked for.

    Raises:
        ResultsError: If it is not whole or has another form than lm-eval 0.4's.
    """
    data = read_results(path)
    try:
        # JSON can name half a character, which nothing can write.
        data = json.loads(json.dumps(data, ensure_ascii=False).encode(errors="replace"))
    except RecursionError as error:
        raise ResultsError(
            f"{path}: nested too deeply for results of lm-eval; delete the file and run again"
        ) from error
    config, recorded = data["config"], check_results(data).config.lift or Lift()
    lift = config.get("lift") or {}
    model_args = _arguments(config.get("model_args"))
    seed = (lift.get("recipe") or {}).get("seed", config.get("random_seed"))
    return Run(
        path=path,
        model=str(config.get("model", "")),
        model_args=model_args,
        seed=int(seed or 0),
        date=_date(data.get("date")),
        config=config,
        lift=lift,
        documents=recorded.documents,
        totals=recorded.totals,
        tasks={name: _task(path, data, name, model_args) for name in sorted(data["configs"])},
        facts=data,
    )


def _missing(data: object) -> list[str]:
    if not isinstance(data, dict):
        return ["results"]
    return [f"'{key}'" for key in ("results", "configs", "config") if not isinstance(data.get(key), dict)]


def _date(value: object) -> str:
    """Seconds since 1970 as a UTC time; lm-eval's own file names hold local time."""
    if not isinstance(value, (int, float)):
        return "unknown"
    return datetime.fromtimestamp(value, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def _arguments(value: object) -> dict[str, Any]:
    """Model arguments as a mapping; older lm-eval wrote the text of the command line."""
    if isinstance(value, Mapping):
        return dict(value)
    pairs = (part.partition("=") for part in str(value or "").split(",") if part)
    return {key.strip(): text.strip() for key, _, text in pairs}


def _task(path: Path, data: Mapping[str, Any], name: str, model_args: Mapping[str, Any]) -> TaskResult:
    values: dict[tuple[str, str], tuple[float, float | None]] = {}
    unfinished: set[str] = set()
    entries = data["results"].get(name, {})
    for key, value in entries.items():
        metric, comma, filter_name = key.partition(",")
        if not comma or metric.endswith("_stderr"):
            continue
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            unfinished.add(metric)
            continue
        error = entries.get(f"{metric}_stderr,{filter_name}")
        values[metric, filter_name] = (
            float(value),
            float(error) if isinstance(error, (int, float)) else None,
        )
    better = data.get("higher_is_better", {}).get(name) or {}
    counts = data.get("n-samples", {}).get(name, {})
    return TaskResult(
        name=name,
        version=str(data.get("versions", {}).get(name, "")),
        config=data["configs"][name],
        metadata={
            key: value
            for key, value in (data["configs"][name].get("metadata") or {}).items()
            if key not in model_args and key not in TASKS_OWN_METADATA
        },
        aggregates=values,
        unfinished=frozenset(unfinished),
        higher_is_better={metric: better.get(metric) for metric, _ in values},
        questions=int(counts.get("effective") or entries.get("sample_len") or 0),
        available=int(counts.get("original") or 0),
        shots=int(data.get("n-shot", {}).get(name) or 0),
        samples_path=_samples_path(path, name),
    )


def _samples_path(path: Path, task: str) -> Path | None:
    match = RESULTS_NAME.fullmatch(path.name)
    if match is None or "/" in task or "\0" in task:  # lm-eval would write no such file
        return None
    for suffix in (".jsonl", ".jsonl.gz"):
        candidate = path.with_name(f"samples_{task}_{match[1]}{suffix}")
        if candidate.is_file():
            return candidate
    return None
