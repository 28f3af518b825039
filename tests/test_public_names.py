"""What ``lift_eval`` offers by name."""

from __future__ import annotations

import pytest

import lift_eval


@pytest.mark.parametrize("name", lift_eval.__all__)
def test_a_public_name_is_there_to_be_found_and_imported(name: str) -> None:
    assert name in dir(lift_eval)
    assert getattr(lift_eval, name).__name__ == name


def test_other_names_are_not_there() -> None:
    assert {name for name in dir(lift_eval) if not name.startswith("_")} == set(lift_eval.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Strore'"):
        lift_eval.Strore  # noqa: B018
