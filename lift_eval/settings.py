"""What the groups of a recipe have in common, wherever they are declared."""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import Annotated, Any, TypeAlias

from jinja2 import TemplateSyntaxError, meta
from jinja2.sandbox import SandboxedEnvironment
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticKnownError

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


DEMONSTRATION_END = "\n\n"
"""What ends the answer of a demonstration: a model that has seen some ends its own answer so."""


def check_name(name: Any, known: Iterable[str]) -> Any:  # noqa: ANN401 - whatever the recipe says
    """Refuse a name that is none of those known, as pydantic refuses a value that is none of several literals."""
    if name not in list(known):  # which may be no string
        *others, last = map(repr, known)
        raise PydanticKnownError("literal_error", {"expected": f"{', '.join(others)} or {last}"})
    return name


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
