"""What the groups of a recipe have in common, wherever they are declared."""

from __future__ import annotations

from collections.abc import Set
from typing import Annotated, TypeAlias

from jinja2 import TemplateSyntaxError, meta
from jinja2.sandbox import SandboxedEnvironment
from pydantic import BaseModel, ConfigDict, Field

PositiveInt: TypeAlias = Annotated[int, Field(ge=1)]
NonNegativeInt: TypeAlias = Annotated[int, Field(ge=0)]


class Settings(BaseModel):
    """Base of all groups of a recipe: no unknown keys, no change after construction."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class Demonstration(Settings):
    """A question with its answer that is shown before the one that is asked."""

    passage: Annotated[str, Field(min_length=1)]
    """The text in which the answer stands."""
    question: Annotated[str, Field(min_length=1)]
    answer: Annotated[str, Field(min_length=1)]
    title: str = ""
    """Title of the text; may be empty."""


def check_variables(key: str, template: str, known: Set[str], needed: Set[str] = frozenset()) -> None:
    """Refuse a template that does not parse, uses what it is not given, or lacks what it needs."""
    try:
        used = variables_of(template)
    except TemplateSyntaxError as error:
        raise ValueError(
            f"'{key}' must be a Jinja template that parses, got {error.message} in line {error.lineno}"
        ) from error
    if not needed <= used <= known:
        raise ValueError(
            f"'{key}' must be a Jinja template of {', '.join(sorted(known))}, got one of "
            f"{', '.join(sorted(used)) or 'nothing'}"
        )


def variables_of(template: str) -> Set[str]:
    """Variables that a Jinja template uses."""
    return meta.find_undeclared_variables(SandboxedEnvironment().parse(template))
