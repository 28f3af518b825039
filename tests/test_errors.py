"""What pydantic finds wrong, as sentences for people."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lift_eval.errors import keys_of, nearest, sentences_of


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Square(Strict):
    type: Literal["square"]
    side: float


class Circle(Strict):
    type: Literal["circle"]
    radius: Annotated[float, Field(gt=0)] = 1.0


class Drawing(Strict):
    title: Annotated[str, Field(min_length=2)]
    shapes: list[Annotated[Square | Circle, Field(discriminator="type")]] = []
    width: int | Literal["auto"] = "auto"
    ink: Annotated[str, Field(alias="pen.ink")] = "black"


def faults(**values: Any) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        Drawing.model_validate({"title": "A drawing", **values})
    return sentences_of(caught.value, Drawing, also=("extends",))


def test_keys_are_those_that_a_person_writes() -> None:
    assert list(keys_of(Drawing)) == [
        "title", "shapes.type", "shapes.side", "shapes.radius", "width", "pen.ink",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"width": "wide"}, "'width' must be a valid integer or 'auto', got 'wide'"),
        ({"title": ""}, "'title' must be a text of 2 or more characters, got ''"),
        ({"wdth": 3}, "unknown key 'wdth' (value 3); did you mean 'width'?"),
        ({"extend": "x"}, "unknown key 'extend' (value 'x'); did you mean 'extends'?"),
        ({"pen.ink": 3}, "'pen.ink' must be a valid string, got 3"),
        ({"shapes": [{"type": "circle", "radius": 0}]}, "'shapes.0.radius' must be greater than 0, got 0"),
        ({"shapes": [{"type": "square"}]}, "'shapes.0.side' is missing"),
        (
            {"shapes": [{"type": "circle", "radios": 2}]},
            "unknown key 'shapes.0.radios' (value 2); did you mean 'shapes.0.radius'?",
        ),
        (
            {"shapes": [{"radius": 2}]},
            "'shapes.0' must be a group whose 'type' is one of square, circle, got {'radius': 2}",
        ),
        ({"width": "w" * 5000}, f"'width' must be a valid integer or 'auto', got '{'w' * 99}…"),
    ],
)
def test_a_fault_is_one_sentence(values: dict[str, Any], told: str) -> None:
    assert faults(**values) == [told]


def test_all_faults_are_told() -> None:
    assert len(faults(width="wide", wdth=3, shapes=[{"type": "square", "side": "x"}])) == 3


def test_of_a_long_list_of_names_the_beginning_is_shown() -> None:
    names = [f"task{number:05}" for number in range(14_000)]
    assert nearest("nothing", names).endswith(", task00019 and 13,980 more")
    assert nearest("nothing", names[:2]) == "; known: task00000, task00001"
