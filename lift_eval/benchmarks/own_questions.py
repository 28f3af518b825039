"""One's own questions: JSON lines or CSV, all faults told together.

    {"question": "When was the mill built?", "answer": "1842", "document": "mill.txt"}
    {"question": "Who owned it?", "answers": ["Otto Larkley", "Larkley"], "evidence": "Otto Larkley owned the mill."}

In CSV the first line names the columns, and ``|`` stands between several answers or pieces of evidence.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from lift_eval.benchmarks.data import Line, decode, parse_line
from lift_eval.benchmarks.own_documents import document_files, read_document
from lift_eval.document import Document
from lift_eval.errors import DocumentError, nearest, sentences_of

CSV_SUFFIXES = (".csv", ".tsv")
CSV_DELIMITERS = ",;\t"
CSV_BETWEEN = "|"
"""Between several answers, or pieces of evidence, in one cell of a CSV file."""
SHORT_ANSWER_WORDS = 5
"""Most words of a short answer, such as a name, a date or a number."""


def _as_text(value: object) -> object:
    """Numbers are read as text, because users write years without quotes."""
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def _as_list(value: object) -> object:
    return [value] if isinstance(value, (str, int, float)) else value


Text: TypeAlias = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1), BeforeValidator(_as_text)
]
Texts: TypeAlias = Annotated[tuple[Text, ...], BeforeValidator(_as_list)]


class OwnQuestion(BaseModel):
    """A row of a file of questions; other columns are passed over.

    Attributes:
        question: What is asked.
        answers: Accepted answers, the fullest first; ``answer`` is one.
        document: Name of the document's file, with or without its extension; required if there are several.
        evidence: Sentences that prove the answer, verbatim; for reports.
        type: Kind of the question; for reports.
    """

    model_config = ConfigDict(frozen=True)

    question: Text
    answers: Annotated[Texts, Field(min_length=1)]
    document: Text | None = None
    evidence: Texts = ()
    type: Text | None = None

    @model_validator(mode="before")
    @classmethod
    def _names_are_known(cls, row: Mapping[str, Any]) -> dict[str, Any]:
        given = {name: value for name, value in row.items() if value not in (None, "", [])}
        if "answer" in given:
            if "answers" in given:
                raise ValueError("'answer' and 'answers' must not both be given; leave one out")
            given["answers"] = given.pop("answer")
        for name in given:
            close = difflib.get_close_matches(name, [*cls.model_fields, "answer"], n=1, cutoff=0.8)
            if name not in cls.model_fields and close:
                raise ValueError(f"unknown column '{name}'; did you mean '{close[0]}'?")
        return given


@dataclass(frozen=True)
class OwnRow:
    """A question with the document that it is about."""

    document: Document
    asked: OwnQuestion


def read_own_rows(documents: Path, questions: Path) -> list[OwnRow]:
    """Read documents and the questions about them.

    Args:
        documents: A file, or a folder of files.
        questions: A file of JSON lines, or CSV where its name ends in ``.csv`` or ``.tsv``.

    Raises:
        DocumentError: With all faults of the questions, one a line.
    """
    files = {path.name: read_document(path) for path in document_files(documents)}
    if not questions.is_file():
        raise DocumentError(f"'{questions}' is not a file; name a file of questions, in JSON Lines or CSV")
    read = [(where, _read_row(where, line, files)) for where, line in _lines(questions)]
    rows = [row for _, row in read if isinstance(row, OwnRow)]
    faults = [fault for _, found in read if not isinstance(found, OwnRow) for fault in found]
    faults += _repetitions((where, row) for where, row in read if isinstance(row, OwnRow))
    if not read:
        faults.append("the file has no questions")
    if faults:
        count = "" if len(faults) == 1 else f"{len(faults)} faults\n"
        raise DocumentError(f"{questions}: {count}" + "\n".join(faults))
    return rows


def own_digest(rows: Sequence[OwnRow]) -> str:
    """SHA-256 of documents and questions, 64 hexadecimal digits."""
    content = [[row.document.digest, row.asked.model_dump(mode="json")] for row in rows]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def suited_metric(rows: Sequence[OwnRow]) -> str:
    """The score that suits the answers.

    Neither score penalizes long answers, so neither favours a method: whether the answer is contained if answers have a
    few words, or else the recall of ROUGE-L.
    """
    words = median(len(row.asked.answers[0].split()) for row in rows)
    return "contained" if words <= SHORT_ANSWER_WORDS else "rouge_l_recall"


# ------------------------------------------------------------------------------------------------------------ rows


def _read_row(where: str, line: Line | DocumentError, files: Mapping[str, Document]) -> OwnRow | list[str]:
    """A line's question, or the faults of the line."""
    try:
        if isinstance(line, DocumentError):
            raise line
        asked = OwnQuestion.model_validate(line.fields)
        return OwnRow(_document(asked.document, files), asked)
    except ValidationError as error:
        return [f"{where}: {sentence}" for sentence in sentences_of(error, OwnQuestion)]
    except DocumentError as error:
        return [f"{where}: {error}"]


def _repetitions(rows: Iterable[tuple[str, OwnRow]]) -> Iterator[str]:
    """A fault for each question that was asked about its document before."""
    before: dict[tuple[str, str], str] = {}
    for where, row in rows:
        first = before.setdefault((row.document.digest, row.asked.question), where)
        if first is not where:
            yield f"{where}: repeats the question of {first}; remove one of the two"


def _document(name: str | None, files: Mapping[str, Document]) -> Document:
    if name is None:
        if len(files) > 1:
            raise DocumentError(f"'document' must name one of the {len(files)} documents, got none")
        return next(iter(files.values()))
    found = [name] if name in files else [file for file in files if Path(file).stem == name]
    if len(found) != 1:
        meant = nearest(name, files) if not found else f"; name one of {', '.join(found)}"
        raise DocumentError(f"'document' must name a document, got '{name}'{meant}")
    return files[found[0]]


def _lines(path: Path) -> Iterator[tuple[str, Line | DocumentError]]:
    """Each line's place, with its content or its fault."""
    if path.suffix.lower() in CSV_SUFFIXES:
        yield from _csv_lines(path)
        return
    for number, raw in enumerate(io.BytesIO(path.read_bytes()), start=1):
        where = f"line {number}"
        try:
            line = parse_line(raw, where)
        except DocumentError as error:
            yield where, DocumentError(str(error).removeprefix(f"{where}: "))
        else:
            if line is not None:
                yield where, line


def _csv_lines(path: Path) -> Iterator[tuple[str, Line | DocumentError]]:
    text = decode(path.read_bytes(), str(path))
    header = text.partition("\n")[0]
    delimiter = max(CSV_DELIMITERS, key=Counter(header).__getitem__)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    columns = [name.strip() for name in reader.fieldnames or ()]
    if "question" not in columns or not {"answer", "answers"} & set(columns):
        got = ", ".join(columns) or "nothing"
        yield (
            "line 1",
            DocumentError(f"must name the columns 'question' and 'answer' or 'answers', got {got}"),
        )
        return
    read = Counter(columns) & Counter(dict.fromkeys([*OwnQuestion.model_fields, "answer"], len(columns)))
    if twice := [name for name, count in read.items() if count > 1]:
        yield "line 1", DocumentError(f"names the column '{twice[0]}' twice; rename one or remove it")
        return
    reader.fieldnames = columns
    try:
        for cells in reader:
            where = f"line {reader.line_num}"
            if None in cells or None in cells.values():
                yield where, DocumentError(f"must have {len(columns)} cells, as line 1 has")
                continue
            fields: dict[str, Any] = dict(cells)
            for name in {"answers", "evidence"} & set(columns):
                fields[name] = [part for part in cells[name].split(CSV_BETWEEN) if part.strip()]
            yield where, Line(where, fields)
    except csv.Error as error:
        yield (
            f"line {reader.line_num}",
            DocumentError(f"is not CSV ({error}); quote cells that contain quotes"),
        )
