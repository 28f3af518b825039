"""Reading what lm-eval wrote: results files with their samples, of ``lift`` or of any other model class.

    lm_eval ... --output_path DIR --log_samples
      -> DIR/<model>/results_<date>.json
      -> DIR/<model>/samples_<task>_<date>.jsonl      (.jsonl.gz after `compact_samples`)

A file that cannot be trusted (half-written, without its other half) is refused by name.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

from lift_eval.document import MARK, document_of, find_field
from lift_eval.errors import ResultsError
from lift_eval.files import writing_whole
from lift_eval.results.schema import check_results, read_as_sample

DATE = r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?"
RESULTS_NAME = re.compile(rf".+_({DATE})\.json")
SAMPLES_NAME = re.compile(rf"samples_(.+)_({DATE})\.jsonl(?:\.gz)?")

SETTING_FIELDS = ("prompt_style", "prompt_template", "judge", "judged_as")
"""Fields that our tasks add to a row: they tell how it was asked, and are no part of the question."""
TASKS_OWN_METADATA = ("version", "config_source")
WITHHELD = "sha256:"
"""What our tasks put before the document's hash where they leave out its text."""
LONGEST_QUESTION = 4_000
_SORTED = json.JSONEncoder(sort_keys=True, default=str)


@dataclass(frozen=True)
class Sample:
    """One question of a run with its answer and scores.

    Attributes:
        key: Hash of document and question; equal in every run that asked it.
        document: Hash of the document; the question's own key where it has none.
        title: The document's title, may be empty.
        question: What was asked.
        reference: The right answer.
        answer: The model's.
        type: Kind of question, empty where the task has none.
        depth: Where the evidence begins in the document, 0 to 1, or None.
        length: Length of the document in tokens where the task states it (needle in a haystack).
        evidence: Sentences that prove the answer.
        prompt_style: Name of the prompt, empty where the task has one only.
        judge: Name of the judging model, if any.
        scores: Metric to (numerator, denominator).
    """

    key: str
    document: str
    title: str
    question: str
    reference: str
    answer: str
    type: str
    depth: float | None
    length: int | None
    evidence: tuple[str, ...]
    prompt_style: str
    judge: str
    scores: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class TaskResult:
    """One task of a run.

    Attributes:
        name: The task.
        version: The task's version.
        config: lm-eval's configuration of the task.
        metadata: What the run's ``--metadata`` gave the task, without the model's arguments.
        aggregates: Aggregated scores and standard errors by (metric, filter); the error is None where lm-eval has none.
        unfinished: Metrics that the run has no value of, e.g. since a judge did not answer.
        higher_is_better: By metric; None for what is no score.
        questions: How many were asked.
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
    shots: int
    samples_path: Path | None

    @cached_property
    def samples(self) -> Mapping[str, list[Sample]]:
        """The samples by filter, in the order of the file; empty where the run kept none.

        Raises:
            ResultsError: If the file is half-written.
        """
        return {} if self.samples_path is None else _read_samples(self.samples_path, self.questions)


@dataclass(frozen=True)
class Run:
    """One results file.

    Attributes:
        path: The file.
        model: The model class, e.g. ``lift`` or ``hf``.
        model_args: Its arguments.
        seed: Of the recipe, else of lm-eval's random numbers.
        date: When it started, UTC.
        config: lm-eval's ``config``.
        lift: What our model class recorded; empty for others.
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
        ResultsError: If there is no such path, or samples lie there without their results.
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
                f"{file}: samples without results; results_{match[2]}.json must stand beside it: copy it there, or "
                "delete the samples and run again"
            )


def read_run(path: Path) -> Run:
    """Read one results file; its samples are read when they are asked for.

    Raises:
        ResultsError: If it is not whole or has another form than lm-eval 0.4's.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        # JSON can name half a character, which nothing can write.
        data = json.loads(json.dumps(data, ensure_ascii=False).encode(errors="replace"))
    except (ValueError, RecursionError) as error:
        raise ResultsError(
            f"{path}: not whole JSON ({error}); the run was killed while it wrote: delete the file and run again"
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
    config = data["config"]
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
    count = data.get("n-samples", {}).get(name, {}).get("effective") or entries.get("sample_len") or 0
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
        questions=int(count),
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


# ----------------------------------------------------------------------------------------------------------- samples


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    again = "the run was killed while it wrote: delete its files and run again"
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                try:
                    record = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise ResultsError(
                        f"{path}: line {number} is not whole JSON ({error}); {again}"
                    ) from error
                if not isinstance(record, dict) or not isinstance(record.get("doc"), dict):
                    raise ResultsError(f"{path}: line {number} is no sample of lm-eval: it has no row 'doc'")
                yield record
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ResultsError(f"{path}: ends too early ({error}); {again}") from error


def _read_samples(path: Path, expected: int) -> dict[str, list[Sample]]:
    by_filter: dict[str, list[Sample]] = {}
    seen: dict[tuple[str, str], int] = {}
    for number, record in enumerate(_lines(path), start=1):
        filter_name = str(record.get("filter", "none"))
        with read_as_sample(f"{path}: line {number}"):
            sample = _sample(record)
        # A row that stands twice in the data is two questions.
        again = seen[filter_name, sample.key] = seen.get((filter_name, sample.key), 0) + 1
        if again > 1:
            sample = Sample(**{**sample.__dict__, "key": f"{sample.key}-{again}"})
        by_filter.setdefault(filter_name, []).append(sample)
    count = max(map(len, by_filter.values()), default=0)
    if expected and count != expected:
        raise ResultsError(
            f"{path}: holds {count} of {expected} samples; the run was killed while it wrote: delete its files and "
            "run again"
        )
    return by_filter


def _sample(record: Mapping[str, Any]) -> Sample:
    row: dict[str, Any] = record["doc"]
    document, text_field = _document(record)
    asked = {k: v for k, v in row.items() if k not in SETTING_FIELDS and k != text_field}
    key = _hash([document, asked])
    depth, length = row.get("depth"), row.get("length")
    evidence = row.get("evidence") or ()
    return Sample(
        key=key,
        document=document or key,
        title=_text(row.get("title")),
        question=_question(row, text_field),
        reference=_reference(record),
        answer=_answer(record),
        type=_text(row.get("type")),
        depth=float(depth) if isinstance(depth, (int, float)) and 0 <= depth <= 1 else None,
        length=int(length) if isinstance(length, (int, float)) else None,
        evidence=tuple(map(str, evidence)) if isinstance(evidence, list) else (_text(evidence),),
        prompt_style=_text(row.get("prompt_style")),
        judge=_text(row.get("judge")),
        scores={
            metric: score for metric in record.get("metrics", ()) if (score := _score(record.get(metric)))
        },
    )


def _hash(value: object) -> str:
    return hashlib.sha256(_SORTED.encode(value).encode()).hexdigest()[:32]


def _text(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def _document(record: Mapping[str, Any]) -> tuple[str, str]:
    """Hash of the document and the field that holds it; both empty where the row has none."""
    row = record["doc"]
    kept = record.get("document")
    if isinstance(kept, Mapping):  # by `compact_samples`
        return str(kept["digest"]), str(kept["field"])
    context = row.get("context")
    if isinstance(context, str) and context.startswith(WITHHELD):
        return context.removeprefix(WITHHELD), "context"
    prompt = _prompt(record)
    if mark := MARK.search(prompt):
        for field in row:
            if _is_document(row, field, mark[1]):
                return mark[1], field
    found = find_field(row, prompt)
    return ("", "") if found is None else (document_of(row, found).digest, found)


def _is_document(row: Mapping[str, Any], field: str, digest: str) -> bool:
    text = row[field]
    return isinstance(text, str) and bool(text.strip()) and document_of(row, field).digest == digest


def _prompt(record: Mapping[str, Any]) -> str:
    arguments = record.get("arguments")
    first = arguments.get("gen_args_0", {}) if isinstance(arguments, Mapping) else {}
    return _text(first.get("arg_0")) if isinstance(first, Mapping) else ""


def _question(row: Mapping[str, Any], text_field: str) -> str:
    """The question in words: the usual fields by name, else all short texts of the row."""
    for name in ("question", "input", "query", "problem"):
        if name != text_field and isinstance(row.get(name), str) and row[name].strip():
            return str(row[name])[:LONGEST_QUESTION]
    texts = [
        v for k, v in row.items() if isinstance(v, str) and k not in (*SETTING_FIELDS, text_field, "title")
    ]
    return " · ".join(text for text in texts if text.strip())[:LONGEST_QUESTION]


def _reference(record: Mapping[str, Any]) -> str:
    answers = record["doc"].get("answers")
    if isinstance(answers, list) and answers and all(isinstance(answer, str) for answer in answers):
        return " / ".join(answers)
    return _text(record.get("target"))


def _answer(record: Mapping[str, Any]) -> str:
    """The generated text, or the likeliest of the scored continuations."""
    answers = record.get("filtered_resps") or [""]
    if not all(isinstance(answer, (list, tuple)) and len(answer) == 2 for answer in answers):
        return _text(answers[0])
    best = max(range(len(answers)), key=lambda index: float(answers[index][0]))
    arguments = record.get("arguments")
    chosen = arguments.get(f"gen_args_{best}", {}) if isinstance(arguments, Mapping) else {}
    return _text(chosen.get("arg_1")).strip() or f"choice {best}"


def _score(value: object) -> tuple[float, float] | None:
    """A score as a ratio: a number, or a pair that is averaged over all its denominators."""
    if isinstance(value, (int, float)):
        return (float(value), 1.0) if math.isfinite(value) else None
    if isinstance(value, (list, tuple)) and len(value) == 2:
        top, bottom = value
        if isinstance(top, (int, float)) and isinstance(bottom, (int, float)):
            return float(top), float(bottom)
    return None


def compact_samples(folder: str | Path) -> int:
    """Rewrite the samples below a folder without what reports do not read: prompts, raw responses, documents.

    A sample of a 100,000-word document repeats it in its prompt. The hashes of prompt and document stay.

    Args:
        folder: As given to ``lm_eval --output_path``.

    Returns:
        The number of bytes saved.
    """
    saved = 0
    for path in sorted(Path(folder).rglob("samples_*.jsonl")):
        if not SAMPLES_NAME.fullmatch(path.name):
            continue
        target = path.with_suffix(".jsonl.gz")
        with (
            writing_whole(target) as raw,
            gzip.GzipFile("", "wb", 9, raw, mtime=0) as stream,
        ):
            for number, record in enumerate(_lines(path), start=1):
                with read_as_sample(f"{path}: line {number}"):
                    line = json.dumps(_compact(record), ensure_ascii=False) + "\n"
                    # Half a character, as JSON escapes it.
                    stream.write(line.encode(errors="backslashreplace"))
        saved += path.stat().st_size - target.stat().st_size
        path.unlink()
    return saved


def _compact(record: dict[str, Any]) -> dict[str, Any]:
    digest, text_field = _document(record)
    answer = _answer(record)
    slim = {
        key: value for key, value in record.items() if key not in ("arguments", "resps", "filtered_resps")
    }
    row = {key: value for key, value in record["doc"].items() if key not in (text_field, "prompt_template")}
    return slim | {
        "doc": row,
        "document": {"digest": digest, "field": text_field},
        "filtered_resps": [answer],
    }
