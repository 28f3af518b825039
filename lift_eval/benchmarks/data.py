"""What all benchmarks share: finding files, reading JSON lines, the options of a run, prompts, rows for lm-eval."""

from __future__ import annotations

import difflib
import json
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import datasets
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError
from pydantic import BaseModel, ConfigDict, ValidationError

from lift_eval.document import Document
from lift_eval.errors import DocumentError, RecipeError, nearest, sentences_of
from lift_eval.judging import JUDGE_VARIABLE
from lift_eval.recipe import load_recipe

DATA_DIR_VARIABLE = "LIFT_EVAL_DATA_DIR"
"""Folder of the tasks' data files, unless ``data_dir`` in ``--metadata`` names one."""
MANIFEST = "fetched.json"
"""What ``lift-eval data fetch`` writes beside the data."""

ENVIRONMENT = {"data_dir": DATA_DIR_VARIABLE, "judge": JUDGE_VARIABLE}
"""Options that an environment variable may set."""

# The first base is the base error of the HTTP library; which library that is depends on huggingface_hub's release.
HUB_ERRORS: tuple[type[BaseException], ...] = (HfHubHTTPError.__bases__[0], OSError, ValueError)
"""What huggingface_hub raises where the Hub, the network or its cache fails."""


# --------------------------------------------------------------------------------------------------------- options


class Options(BaseModel):
    """What the metadata of a run may set for every benchmark.

    Attributes:
        data_dir: Folder with the benchmark's files; None reads the Hub. The environment variable
            The default is ``LIFT_EVAL_DATA_DIR``.
        prompt_style: Name of one of the task's prompts. None means the one that the run's recipe names, else the first.
        judge: Name of the judging model; None means no judge. The default is ``LIFT_EVAL_JUDGE``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data_dir: Path | None = None
    prompt_style: str | None = None
    judge: str | None = None


AnyOptions = TypeVar("AnyOptions", bound=Options)


def read_options(kind: type[AnyOptions], metadata: Mapping[str, object]) -> AnyOptions:
    """Take a benchmark's options out of lm-eval's metadata.

    lm-eval merges ``--metadata`` with all model arguments, so that other keys are legal; one that is nearly the name
    of an option is taken for a slip.

    Raises:
        RecipeError: For misspelt names and wrong values, all of them together.
    """
    known = kind.model_fields
    faults = [
        f"unknown option '{key}'; did you mean '{close[0]}'?"
        for key in metadata
        if key not in known and (close := difflib.get_close_matches(key, known, n=1, cutoff=0.8))
    ]
    given = {key: value for key, value in metadata.items() if key in known and value is not None}
    for name, variable in ENVIRONMENT.items():
        if os.environ.get(variable):
            given.setdefault(name, os.environ[variable])
    try:
        options = kind.model_validate(given)
    except ValidationError as error:
        faults += sentences_of(error, kind)
    if faults:
        raise RecipeError("task metadata", faults)
    return options


def choose_prompt(
    prompts: Mapping[str, str], style: str | None, metadata: Mapping[str, object]
) -> tuple[str, str]:
    """Pick a task's prompt template.

    Args:
        prompts: The task's templates by name, the default first.
        style: The name asked for. None means the one that the run's recipe names, where the task has it, else the
            default.
        metadata: lm-eval's metadata and model arguments.

    Returns:
        The name and the template.

    Raises:
        RecipeError: Where the task has no prompt of that name.
    """
    of_recipe = _style_of_recipe(metadata)
    name = style or (of_recipe if of_recipe in prompts else next(iter(prompts)))
    if name not in prompts:
        raise RecipeError(
            "task metadata", [f"no prompt_style '{name}' for this task{nearest(name, prompts)}"]
        )
    return name, prompts[name]


def _style_of_recipe(metadata: Mapping[str, object]) -> str:
    recipe = metadata.get("recipe")
    named = load_recipe(recipe).prompt.style if isinstance(recipe, str) else None
    return str(metadata.get("prompt.style", named))


def prompt(row: Mapping[str, Any]) -> str:
    """Fill a row's prompt template; lm-eval's ``doc_to_text`` of all tasks here."""
    template: str = row["prompt_template"]
    return template.format(**row)


# ----------------------------------------------------------------------------------------------------------- files


def find_file(folder: Path, benchmark: str, names: Sequence[str], subfolders: Sequence[str]) -> Path:
    """Find one of several file names in a folder or in one of its named subfolders.

    Args:
        folder: Where the user says that the data is.
        benchmark: What ``lift-eval data fetch`` calls it.
        names: File names, the first that is found wins.
        subfolders: Looked through after the folder itself.

    Raises:
        DocumentError: If there is none; it lists what is there.
    """
    if not folder.is_dir():
        raise DocumentError(f"data_dir '{folder}' is not a folder; name the folder that holds {names[0]}")
    places = [folder, *(folder / name for name in subfolders)]
    for place in places:
        for name in names:
            if (place / name).is_file():
                return place / name
    there = sorted(entry.name for place in places if place.is_dir() for entry in place.iterdir())
    listing = ", ".join(there[:20]) or "nothing"
    raise DocumentError(
        f"data_dir '{folder}' holds no {' or '.join(names)}; it holds {listing}; "
        f"`lift-eval data fetch {benchmark} --to {folder}` downloads it"
    )


def hub_file(repository: str, name: str, revision: str | None = None) -> Path:
    """Get a file of a dataset repository on the Hugging Face Hub, from the Hub's local cache if it is there.

    Raises:
        DocumentError: Where the Hub cannot be reached or does not have it.
    """
    try:
        return Path(hf_hub_download(repository, name, repo_type="dataset", revision=revision))
    except HUB_ERRORS as error:
        raise DocumentError(
            f"cannot get {name} of the dataset {repository} from the Hub ({first_line(error)}); "
            "read a local folder with "
            f'--metadata \'{{"data_dir": "..."}}\' or {DATA_DIR_VARIABLE}'
        ) from error


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its name where it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


# ------------------------------------------------------------------------------------------------------ JSON lines


@dataclass(frozen=True)
class Line:
    """One object of a data file, which can say where it stands.

    Attributes:
        where: File and line number or place in it, the start of every message.
        fields: The object.
    """

    where: str
    fields: Mapping[str, Any]

    def fault(self, message: str) -> DocumentError:
        """An error about this line."""
        return DocumentError(f"{self.where}: {message}")

    def get(self, name: str) -> object:
        """A field that must be there.

        Raises:
            DocumentError: Where it is not; the message lists the fields present.
        """
        if name not in self.fields:
            present = ", ".join(map(str, self.fields)) or "none"
            raise self.fault(
                f"the row has no '{name}' (fields present: {present}); add the field or drop the row"
            )
        return self.fields[name]

    def text(self, name: str, *, may_be_empty: bool = False) -> str:
        """A field of text; numbers are written out, as some data files hold ``"A": 3``.

        Raises:
            DocumentError: Where it is missing, null, of another type, or empty though it may not be.
        """
        value = self.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            raise self.fault(f"'{name}' must be text, got {type_name(value)}; fix or drop the row")
        if not may_be_empty and not value.strip():
            raise self.fault(f"'{name}' is empty; fix or drop the row")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise self.fault(
                f"'{name}' contains half of a surrogate pair, which is not a character; fix or drop the row"
            )
        return value

    def texts(self, name: str) -> list[str]:
        """A field that is a list of texts.

        Raises:
            DocumentError: Where it is missing, not a list, empty, or holds something else than text.
        """
        value = self.get(name)
        if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
            raise self.fault(f"'{name}' must be a list of texts, got {type_name(value)}; fix or drop the row")
        return value

    def objects(self, name: str) -> list[Line]:
        """A field that is a list of objects; each says its own place.

        Raises:
            DocumentError: Where it is missing, not a list, or holds something else than objects.
        """
        value = self.get(name)
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.fault(
                f"'{name}' must be a list of objects, got {type_name(value)}; fix or drop the row"
            )
        return [Line(f"{self.where}, {name}[{index}]", item) for index, item in enumerate(value)]


def type_name(value: object) -> str:
    """How JSON calls the type of a value."""
    names: dict[type, str] = {type(None): "null", bool: "true or false", dict: "an object", list: "a list"}
    return names.get(type(value), repr(value)[:40])


def parse_jsonl(stream: IO[bytes], name: str) -> Iterator[Line]:
    """Read JSON lines in UTF-8; empty lines are passed over.

    Args:
        stream: The bytes.
        name: What messages call the file.

    Raises:
        DocumentError: For a line that is not UTF-8, not JSON or not an object, and for a file without any row.
    """
    rows = 0
    for number, raw in enumerate(stream, start=1):
        line = parse_line(raw, f"{name}, line {number}")
        if line is not None:
            rows += 1
            yield line
    if not rows:
        raise DocumentError(f"{name} has no rows; it may be truncated: download it again")


def parse_line(raw: bytes, where: str) -> Line | None:
    """Read one JSON line. None means that it is empty.

    Raises:
        DocumentError: If it is not UTF-8, not JSON or not an object.
    """
    text = decode(raw, where)
    if not text.strip():
        return None
    fields = _parsed(text, where, "line")
    if not isinstance(fields, dict):
        raise DocumentError(f"{where}: must be a JSON object, got {type_name(fields)}; fix or drop the line")
    return Line(where, fields)


def decode(raw: bytes, where: str) -> str:
    """A text in UTF-8, with or without a byte order mark.

    Raises:
        DocumentError: If it is none.
    """
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError(
            f"{where}: not UTF-8 (byte 0x{raw[error.start]:02x} at column {error.start + 1}); "
            "save the file as UTF-8"
        ) from error


def _parsed(text: str, where: str, part: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is a ValueError
        reason = (
            f"{error.msg} at column {error.colno}"
            if isinstance(error, json.JSONDecodeError)
            else "nested too deeply, or a number that is too long"
        )
        raise DocumentError(f"{where}: not JSON ({reason}); fix or drop the {part}") from error


def read_json(path: Path) -> object:
    """Read a file that is one JSON value in UTF-8.

    Raises:
        DocumentError: For a file that is not UTF-8 or not JSON.
    """
    return _parsed(decode(path.read_bytes(), str(path)), str(path), "file")


def read_jsonl(path: Path) -> Iterator[Line]:
    """Read a file of JSON lines; see `parse_jsonl`."""
    with path.open("rb") as stream:
        yield from parse_jsonl(stream, str(path))


ARCHIVE_ERRORS = (zipfile.BadZipFile, EOFError, zlib.error, OSError, ValueError, RuntimeError)
"""What zipfile raises for damage, wherever it is: NotImplementedError and those of a password are RuntimeErrors."""


def read_zipped_jsonl(path: Path, member: str) -> Iterator[Line]:
    """Read a file of JSON lines inside a zip file; see `parse_jsonl`.

    Raises:
        DocumentError: Also for a file that is not a zip, is truncated, or lacks the member.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if member not in archive.namelist():
                there = ", ".join(sorted(archive.namelist())[:30]) or "nothing"
                raise DocumentError(
                    f"{path} holds no member {member}; it holds {there}; get the official file"
                )
            with archive.open(member) as stream:
                yield from parse_jsonl(stream, f"{path}:{member}")
    except ARCHIVE_ERRORS as error:
        raise DocumentError(
            f"{path} is not a whole zip file ({error}); delete it and download it again"
        ) from error


# ------------------------------------------------------------------------------------------------ rows for lm-eval


def even_sample(count: int, most: int | None) -> list[int]:
    """Places of an even sample of at most ``most`` out of ``count``, the first among them; None takes all."""
    size = count if most is None else min(most, count)
    return [place * count // size for place in range(size)]


def as_dataset(rows: Iterable[Mapping[str, Any]], features: datasets.Features) -> dict[str, datasets.Dataset]:
    """Hand rows to lm-eval, as its ``custom_dataset`` does: one split, ``test``."""
    columns: dict[str, list[Any]] = {name: [] for name in features}
    for row in rows:
        for name, column in columns.items():
            column.append(row[name])
    return {"test": datasets.Dataset.from_dict(columns, features=features, split=datasets.Split.TEST)}


def withhold_text(row: dict[str, Any]) -> None:
    """Replace a scored row's document by its digest.

    lm-eval writes the row into its log of samples right after it is scored; a document of 100,000 words would be
    written once per question. The row that the model was given is another object and keeps its text.
    """
    row["context"] = f"sha256:{Document(row['context'], row.get('title') or '').digest}"
