"""The errors of lift_eval that a user can fix.

Every message says what was wrong, the rule, the value that broke it and the next step. The command line prints
it as one line and exits with status 2; every other exception is a fault of the program and keeps its traceback.

    LiftEvalError
    ├── RecipeError      a recipe or model argument; carries all faults found, not the first one
    ├── CheckpointError  a model or tokenizer that cannot be loaded, or a device that is not there
    ├── AdapterError     an adapter that does not fit the model
    ├── DocumentError    a data file, a row or a document that cannot be used
    ├── GeneratorError   the maker of question-answer pairs
    ├── TrainingError    fine-tuning that diverges
    ├── WorkerError      another process of the same run
    ├── JudgeError       the judge of answers
    ├── StoreError       the store of adapters, pairs and answers
    └── ResultsError     results files that a report is made from
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args, get_origin

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

SHOWN_CHARACTERS = 100
"""Most characters of a wrong value in a message."""
SHOWN_NAMES = 20
"""Most names in a list of what exists."""


class LiftEvalError(Exception):
    """Base class of all errors that a user can fix."""


class RecipeError(LiftEvalError):
    """A recipe or model argument breaks a rule.

    Attributes:
        faults: One sentence per fault, in the order of the recipe's keys.
    """

    def __init__(self, source: str, faults: Sequence[str]) -> None:
        """Join the faults into one message that names where they were found.

        Args:
            source: What was read, e.g. ``recipe 'lora'`` or a file name.
            faults: One sentence per fault.
        """
        self.faults = tuple(faults)
        count = "" if len(self.faults) == 1 else f" ({len(self.faults)} faults)"
        super().__init__(f"{source}{count}: {'; '.join(self.faults)}")


class CheckpointError(LiftEvalError):
    """A model or tokenizer cannot be loaded, or the device asked for is not there."""


class AdapterError(LiftEvalError):
    """An adapter does not fit the model."""


class DocumentError(LiftEvalError):
    """A data file, a row or a document cannot be used."""


class GeneratorError(LiftEvalError):
    """The maker of question-answer pairs failed."""


class TrainingError(LiftEvalError):
    """Fine-tuning a document diverges: a loss or a gradient is not finite."""


class WorkerError(LiftEvalError):
    """Another process of the same run has failed or is gone."""


class JudgeError(LiftEvalError):
    """The judge of answers failed."""


class StoreError(LiftEvalError):
    """The store of adapters, pairs and answers cannot be used."""


class ResultsError(LiftEvalError):
    """Results files cannot be read or do not belong together."""


class Interrupted(KeyboardInterrupt):
    """A signal ended the run between two of its steps; the message says how to go on.

    Attributes:
        status: Exit status of the process: 128 and the signal's number, as shells have it.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        """Keep the message and the status.

        Args:
            message: One line for a person.
            signal_number: E.g. 2 for Ctrl-C, 15 for the signal TERM.
        """
        super().__init__(message)
        self.status = 128 + signal_number


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known name was probably meant.

    Args:
        name: The unknown name.
        known: The names that exist.

    Returns:
        ``"; did you mean 'x'?"``, or the list of what exists where nothing is near; of a long one, its beginning.
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
    more = f" and {len(names) - SHOWN_NAMES:,} more" if len(names) > SHOWN_NAMES else ""
    return f"; known: {', '.join(names[:SHOWN_NAMES])}{more}"


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number of things in words: ``1 document``, ``1,200 documents``, ``2 replies``.

    Args:
        number: How many.
        noun: What one of them is called.
        plural: What several are called; by default the noun and an s.
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


# ---------------------------------------------------------------------------------- what pydantic finds, as sentences


def keys_of(model: type[BaseModel], prefix: str = "", *, in_lists: bool = False) -> dict[str, list[Any]]:
    """Every dotted key of a pydantic model, in order, with its types: several where a union holds it in each branch.

    Args:
        model: The model.
        prefix: What each key starts with.
        in_lists: Whether the groups that a list holds have keys too; nobody can name those with dots.
    """
    found: dict[str, list[Any]] = {}
    for name, field in model.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        groups = list(_groups(field.annotation, in_lists=in_lists))
        for group in groups:
            for below, types in keys_of(group, f"{key}.", in_lists=in_lists).items():
                found.setdefault(below, []).extend(types)
        if not groups:
            found.setdefault(key, []).append(field.annotation)
    return found


def _groups(annotation: Any, *, in_lists: bool) -> Iterator[type[BaseModel]]:  # noqa: ANN401
    if isinstance(annotation, type) and hasattr(annotation, "model_fields"):
        yield annotation
    if in_lists or get_origin(annotation) is not tuple:
        for part in get_args(annotation):
            yield from _groups(part, in_lists=in_lists)


def sentences_of(
    error: ValidationError, model: type[BaseModel] | None = None, also: Iterable[str] = ()
) -> list[str]:
    """One sentence for each key that breaks a rule; pydantic reports a key once for each branch of a union.

    Args:
        error: What pydantic raised.
        model: The model that was to be made. None means that places are named as pydantic names them.
        also: Keys that may be given besides the model's.
    """
    keys = {} if model is None else {**keys_of(model, in_lists=True), **{key: [] for key in also}}
    rules: dict[tuple[str, str], list[str]] = {}
    sentences: list[str] = []
    for item in error.errors():
        kind = item["type"]
        key, value = (
            _join_location(item["loc"], keys, keep_last=kind == "extra_forbidden"),
            _abbreviate(item["input"]),
        )
        if kind == "extra_forbidden":
            sentences.append(f"unknown key '{key}' (value {value}){_suggest(key, keys)}")
        elif kind == "missing":
            sentences.append(f"'{key}' is missing")
        elif kind == "value_error":
            sentences.append(str(item["ctx"]["error"]))
        elif kind == "too_short" and item["ctx"]["actual_length"] < len(item["input"]):
            continue  # not the list is too short, but its items are faulty
        else:
            rules.setdefault((key, value), []).append(
                _rule(dict(item), keys.get(f"{_drop_places(key)}.type", ()))
            )
    sentences += [
        f"'{key}' must be {' or '.join(found)}, got {value}" for (key, value), found in rules.items()
    ]
    return sentences


def _abbreviate(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def _join_location(location: tuple[int | str, ...], keys: Collection[str], *, keep_last: bool) -> str:
    """Known keys alone: pydantic also names branches of unions, e.g. ``lora`` or ``tuple[str, ...]``."""
    known = {*keys, *(part for key in keys for part in key.split("."))}
    last = len(location) - 1
    return ".".join(
        str(part)
        for place, part in enumerate(location)
        if not keys or part in known or isinstance(part, int) or (keep_last and place == last)
    )


def _drop_places(key: str) -> str:
    """A key without the places in lists: ``rows.0.name`` is ``rows.name``."""
    return re.sub(r"\.\d+(?=\.|$)", "", key)


def _suggest(key: str, keys: Collection[str]) -> str:
    """What was probably meant by an unknown key: one of the keys beside it."""
    if key in keys:
        return "; write it as nested groups"
    group, dot, _ = key.rpartition(".")
    above = _drop_places(group) + dot
    names = {known.removeprefix(above).partition(".")[0] for known in keys if known.startswith(above)}
    return nearest(key, {f"{group}{dot}{name}" for name in names})


def _rule(item: Mapping[str, Any], types_of_group: Iterable[Any]) -> str:
    if item["type"].startswith("union_tag"):
        return f"a group whose 'type' is one of {', '.join(name for kind in types_of_group for name in get_args(kind))}"
    if item["type"] in ("model_type", "model_attributes_type"):
        return "a group of keys"
    if item["type"] == "too_short":
        return f"a list of {item['ctx']['min_length']} or more"
    if item["type"] == "too_long":
        return f"a list of {item['ctx']['max_length']} or fewer"
    if item["type"] == "string_too_short":
        return f"a text of {item['ctx']['min_length']} or more characters"
    rule = str(item["msg"]).removeprefix("Input should be ").partition(", unable")[0]
    return "a list such as ['a', 'b']" if rule == "a valid tuple" else rule
