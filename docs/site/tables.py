"""Tables of the documentation site that are generated from the code: recipe keys and environment variables."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from lift_eval.recipe import Recipe

PACKAGE = Path(sys.modules["lift_eval"].__file__ or "").parent
PREFIX = "LIFT_EVAL_"
BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "minLength": "not empty",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
}
"""Rules of a JSON schema, in words."""
KINDS = {"null": "`null`", "array": "list", "object": "mapping", "boolean": "`true`, `false`"}
"""Types of a JSON schema whose names differ in YAML."""


def recipe_keys() -> str:
    """The page of all recipe keys.

    Raises:
        ValueError: If a key has no description where it is declared.
    """
    lines = [
        "# Recipe keys",
        "",
        "Generated from the code. Values are checked before anything is loaded.",
        "",
    ]
    groups = {name: field for name, field in Recipe.model_fields.items() if _classes(field)}
    lines += ["## Top level", "", *_table(Recipe, set(Recipe.model_fields) - set(groups))]
    for name, field in groups.items():
        lines += _group(name, field, "##")
    return "\n".join(lines)


def _group(name: str, field: FieldInfo, heading: str) -> Iterator[str]:
    """The keys of a group and of its subgroups; each kind of a group has its own table."""
    yield from (f"{heading} {name}", "")
    for group in (several := _classes(field)):
        kind = f"`{name}.type: {group.model_fields['type'].default}`. " if len(several) > 1 else ""
        inner = {key: field for key, field in group.model_fields.items() if _classes(field)}
        yield from (kind + _plain(group.__doc__ or ""), "")
        yield from _table(group, set(group.model_fields) - {"type"} - set(inner), f"{name}.")
        for key, field in inner.items():
            yield from _group(f"{name}.{key}", field, f"{heading}#")


def variables() -> str:
    """The page of all environment variables of the package.

    Raises:
        ValueError: If a variable has no description where it is declared.
    """
    rows = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node, text in _described(ast.parse(path.read_text(encoding="utf-8"))):
            value = getattr(node.value, "value", None)
            if isinstance(value, str) and value.startswith(PREFIX):
                if not text:
                    raise ValueError(f"{value} has no description below it in {path}")
                rows.append(f"| `{value}` | {_plain(text)} |")
    head = [
        "# Environment variables",
        "",
        "Generated from the code.",
        "",
        "| Variable | Meaning |",
        "|---|---|",
    ]
    return "\n".join([*head, *sorted(rows), ""])


def _classes(field: FieldInfo) -> list[type[BaseModel]]:
    """The groups of keys that a field may contain."""
    kinds = (
        get_args(field.annotation)
        if get_origin(field.annotation) in (Union, UnionType)
        else [field.annotation]
    )
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]


def _table(model: type[BaseModel], keys: set[str], prefix: str = "") -> Iterator[str]:
    if not keys:
        return
    schema = model.model_json_schema()
    described: dict[str, str] = {}
    for parent in reversed(model.__mro__):
        if parent.__module__.startswith("lift_eval"):
            described |= _descriptions(parent)
    yield from ("| Key | Values | Default | Meaning |", "|---|---|---|---|")
    for name in (name for name in model.model_fields if name in keys):
        if not described.get(name):
            raise ValueError(f"'{prefix}{name}' has no description below it in {model.__module__}")
        cells = (
            f"`{prefix}{name}`",
            _values(schema["properties"][name]),
            _default(model, name),
            _plain(described[name]),
        )
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
    yield ""


def _default(model: type[BaseModel], name: str) -> str:
    field = model.model_fields[name]
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    return f"`{json.dumps(to_jsonable_python(default), ensure_ascii=False)}`"


def _values(schema: Mapping[str, Any]) -> str:
    """The allowed values of a key, in words."""
    if "$ref" in schema:
        return "a group of keys"
    if several := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(map(_values, several))
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if "prefixItems" in schema:
        return f"list of: {'; '.join(map(_values, schema['prefixItems']))}"
    if "items" in schema:
        kind = f"list of: {_values(schema['items'])}"
    else:
        kind = KINDS.get(schema.get("type", ""), schema.get("type", "any"))
    bounds = [words.format(schema[rule]) for rule, words in BOUNDS.items() if rule in schema]
    return ", ".join([kind, *bounds])


def _descriptions(model: type) -> dict[str, str]:
    source = Path(sys.modules[model.__module__].__file__ or "").read_text(encoding="utf-8")
    (body,) = (
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef) and node.name == model.__name__
    )
    return {node.target.id: text for node, text in _described(body) if isinstance(node, ast.AnnAssign)}


def _described(body: ast.Module | ast.ClassDef) -> Iterator[tuple[Any, str]]:
    """Each assignment, with the text below it."""
    for node, below in pairwise([*body.body, ast.Pass()]):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            text = getattr(getattr(below, "value", None), "value", "") if isinstance(below, ast.Expr) else ""
            yield node, text if isinstance(text, str) else ""


def _plain(text: str) -> str:
    return " ".join(re.sub(r"\bNone (?=means)", "`null` ", text).replace("``", "`").split())
