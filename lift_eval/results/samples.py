"""The samples of a run: each question with its answer and its scores.

Lines are those that lm-eval writes with ``--log_samples``, or what `compact_samples` leaves of them.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lift_eval.document import MARK, document_of, find_field, split_field
from lift_eval.errors import ResultsError
from lift_eval.files import writing_whole
from lift_eval.results.schema import SAMPLES_NAME, check_sample, read_as_sample

SETTING_FIELDS = ("prompt_style", "prompt_template", "judge", "judged_as")
"""Fields that our tasks add to a row: they say how it was asked and do not belong to the question."""
WITHHELD = "sha256:"
"""Prefix of the document's hash where our tasks leave out its text."""
LONGEST_QUESTION = 4_000
LONGEST_PROMPT = 2_000
DOCUMENT = "[the document]"
_SORTED = json.JSONEncoder(sort_keys=True, default=str)


@dataclass(frozen=True)
class LoggedSample:
    """One question of a run with its answer and scores.

    Attributes:
        key: Hash of document and question; equal in every run that asked it.
        document: Hash of the document; the question's own key where it has none.
        title: The document's title, may be empty.
        question: What was asked.
        references: The right answers, any of which counts.
        answer: The model's.
        prompt: As it was sent, without the document's text where that is known; the middle of a long one is left out.
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
    references: tuple[str, ...]
    answer: str
    prompt: str
    type: str
    depth: float | None
    length: int | None
    evidence: tuple[str, ...]
    prompt_style: str
    judge: str
    scores: Mapping[str, tuple[float, float]]

    @property
    def reference(self) -> str:
        """The right answers as one text."""
        return " / ".join(self.references)


def sample_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a file of samples as they are, packed or not.

    Raises:
        ResultsError: If the file is half-written, or a line is not a sample.
    """
    again = "the run was killed while it wrote: delete its files and run again"
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                try:
                    record = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise ResultsError(
                        f"{path}: line {number} is incomplete JSON ({error}); {again}"
                    ) from error
                check_sample(record, f"{path}: line {number}")
                yield record
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ResultsError(f"{path}: ends too early ({error}); {again}") from error


def write_sample_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write a file of samples whole or not at all, packed where its name ends in ``.gz``."""
    with writing_whole(path) as raw:
        packed = gzip.GzipFile("", "wb", 9, raw, mtime=0) if path.suffix == ".gz" else nullcontext(raw)
        with packed as stream:
            for record in records:
                # Half a character, as JSON escapes it.
                stream.write(f"{json.dumps(record, ensure_ascii=False)}\n".encode(errors="backslashreplace"))


def read_samples(path: Path, expected: int) -> dict[str, list[LoggedSample]]:
    """The samples of a task by filter, in the order of the file.

    Args:
        path: The file.
        expected: How many questions were asked, or 0 where the results do not say.

    Raises:
        ResultsError: If the file is half-written, or a line is not a sample.
    """
    by_filter: dict[str, list[LoggedSample]] = {}
    seen: dict[tuple[str, str], int] = {}
    for number, record in enumerate(sample_lines(path), start=1):
        filter_name = str(record.get("filter", "none"))
        with read_as_sample(f"{path}: line {number}"):
            sample = _sample(record)
        # A row that stands twice in the data is two questions.
        again = seen[filter_name, sample.key] = seen.get((filter_name, sample.key), 0) + 1
        if again > 1:
            sample = LoggedSample(**{**sample.__dict__, "key": f"{sample.key}-{again}"})
        by_filter.setdefault(filter_name, []).append(sample)
    count = max(map(len, by_filter.values()), default=0)
    if expected and count != expected:
        raise ResultsError(
            f"{path}: holds {count} of {expected} samples; the run was killed while it wrote: delete its files and "
            "run again"
        )
    return by_filter


def _sample(record: Mapping[str, Any]) -> LoggedSample:
    row: dict[str, Any] = record["doc"]
    document, text_field = _document(record)
    asked = {k: v for k, v in row.items() if k not in SETTING_FIELDS and k != text_field}
    key = _hash([document, asked])
    depth, length = row.get("depth"), row.get("length")
    evidence = row.get("evidence") or []
    return LoggedSample(
        key=key,
        document=document or key,
        title=_text(row.get("title")),
        question=_question(row, text_field),
        references=_references(record),
        answer=_answer(record).strip(),
        prompt=_without_middle(_without_document(_prompt(record), row.get(text_field))),
        type=_text(row.get("type")),
        depth=float(depth) if isinstance(depth, (int, float)) and 0 <= depth <= 1 else None,
        length=int(length) if isinstance(length, (int, float)) else None,
        evidence=tuple(map(str, evidence if isinstance(evidence, list) else [evidence])),
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
    if isinstance(record.get("prompt"), str):  # by `compact_samples`
        return str(record["prompt"])
    arguments = record.get("arguments")
    first = arguments.get("gen_args_0", {}) if isinstance(arguments, Mapping) else {}
    return _text(first.get("arg_0")) if isinstance(first, Mapping) else ""


def _without_document(prompt: str, text: object) -> str:
    """A prompt with a short remark in place of the document, if its text is known or our mark replaces it."""
    if isinstance(text, str) and text.strip() and not text.startswith(WITHHELD):
        prompt = prompt.replace(text, DOCUMENT)
    return MARK.sub(DOCUMENT, prompt)


def _without_middle(prompt: str) -> str:
    left_out = len(prompt) - LONGEST_PROMPT
    if left_out <= 0:
        return prompt
    half = LONGEST_PROMPT // 2
    return f"{prompt[:half]} [... {left_out:,} characters ...] {prompt[-half:]}"


def _question(row: Mapping[str, Any], text_field: str) -> str:
    """The question's text: the usual fields by name, or else all short texts of the row."""
    for name in ("question", "input", "query", "problem"):
        if name != text_field and isinstance(row.get(name), str) and row[name].strip():
            return str(row[name])[:LONGEST_QUESTION]
    if asked := split_field(row, text_field)[1]:
        return asked[:LONGEST_QUESTION]
    texts = [
        v for k, v in row.items() if isinstance(v, str) and k not in (*SETTING_FIELDS, text_field, "title")
    ]
    return " · ".join(text for text in texts if text.strip())[:LONGEST_QUESTION]


def _references(record: Mapping[str, Any]) -> tuple[str, ...]:
    """The row's field ``answers``, or else lm-eval's target, which may be a list, also as JSON."""
    target = record.get("target")
    answers = record["doc"].get("answers") or _from_json(target) or target
    if isinstance(answers, list) and answers and all(isinstance(answer, str) for answer in answers):
        return tuple(dict.fromkeys(answers))
    return (_text(target),)


def _from_json(value: object) -> object:
    if not isinstance(value, str) or not value.startswith("["):
        return None
    with suppress(ValueError):
        return json.loads(value)
    return None


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
    """Rewrite the samples below a folder without what reports do not read: documents and raw responses.

    A sample of a 100,000-word document repeats it in its prompt. Prompts stay where a remark stands for the document's
    text in them; the hashes of prompt and document stay always.

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
        write_sample_lines(target, _compact_lines(path))
        saved += path.stat().st_size - target.stat().st_size
        path.unlink()
    return saved


def _compact_lines(path: Path) -> Iterator[dict[str, Any]]:
    for number, record in enumerate(sample_lines(path), start=1):
        with read_as_sample(f"{path}: line {number}"):
            yield _compact(record)


def _compact(record: dict[str, Any]) -> dict[str, Any]:
    digest, text_field = _document(record)
    answer = _answer(record)
    slim = {
        key: value for key, value in record.items() if key not in ("arguments", "resps", "filtered_resps")
    }
    row = {key: value for key, value in record["doc"].items() if key not in (text_field, "prompt_template")}
    prompt = _without_document(_prompt(record), record["doc"].get(text_field))
    if DOCUMENT in prompt:
        slim["prompt"] = prompt
    return slim | {
        "doc": row,
        "document": {"digest": digest, "field": text_field},
        "filtered_resps": [answer],
    }
