"""Recipes are read from YAML files: ``extends``, overrides, and all faults together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lift_eval.errors import RecipeError, nearest, sentences_of
from lift_eval.files import read_yaml
from lift_eval.models.fetch import fetchable_models
from lift_eval.recipe.settings import NOT_DECISIVE, Recipe

SHIPPED = Path(__file__).parent / "shipped"


def shipped_recipes() -> list[str]:
    """Names of the recipes that come with the package, sorted."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def default_recipe(model: str | Path | None) -> str:
    """Name of the recipe where none is said.

    Args:
        model: Folder or Hub name of the model. None means the bundled one.
    """
    if not model:
        return "tiny"
    known = None if Path(model).exists() else fetchable_models().get(str(model))
    return (known and known.recipe) or "lora"


def baseline_of(name: str) -> str:
    """Name of the recipe without fine-tuning that a default recipe is compared with."""
    own = f"{name}_icl"
    return own if own in shipped_recipes() else "icl"


def load_recipe(name_or_path: str | Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Load a recipe, apply overrides and check all of it.

    Args:
        name_or_path: A shipped recipe's name, or a path that ends in ``.yaml`` or ``.yml``.
        overrides: Values by dotted key, e.g. ``{"training.learning_rate": 5e-4}``. A changed ``type`` of the adapter
            resets that group to its defaults.

    Returns:
        The resolved recipe.

    Raises:
        RecipeError: With all errors: unknown keys (with similar known ones), wrong types, broken rules.
    """
    source = f"recipe '{name_or_path}'"
    changes: dict[str, Any] = {}
    for key, value in (overrides or {}).items():
        changes = _merge(changes, _nested(key, value))
    data = _merge(_read_with_bases(str(name_or_path), ()), changes)
    data.setdefault("name", Path(str(name_or_path)).stem)
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise RecipeError(source, sentences_of(error, Recipe, also=("extends",))) from None


def differences(first: Recipe, second: Recipe) -> dict[str, tuple[Any, Any]]:
    """Keys in which two recipes differ, with the value of each; None stands for a key that a recipe lacks.

    Names, descriptions and ``compute`` do not count.
    """
    flat = [
        dict(_flatten(recipe.model_dump(mode="json", exclude=NOT_DECISIVE))) for recipe in (first, second)
    ]
    keys = dict.fromkeys([*flat[0], *flat[1]])
    pairs = {key: (flat[0].get(key), flat[1].get(key)) for key in keys}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _flatten(group: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in group.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _find(name_or_path: str) -> Path:
    if name_or_path.endswith((".yaml", ".yml")):
        path = Path(name_or_path)
        if not path.is_file():
            raise RecipeError(
                f"recipe '{name_or_path}'",
                ["the file does not exist; 'lift-eval recipes' lists the shipped recipes"],
            )
        return path
    names = shipped_recipes()
    if name_or_path not in names:
        raise RecipeError(
            f"recipe '{name_or_path}'",
            [
                f"no shipped recipe has this name{nearest(name_or_path, names)}; 'lift-eval recipes' lists them; for "
                "your own recipe, give a path that ends in .yaml"
            ],
        )
    return SHIPPED / f"{name_or_path}.yaml"


def _read_with_bases(name_or_path: str, seen: tuple[Path, ...]) -> dict[str, Any]:
    path = _find(name_or_path)
    source = f"recipe '{name_or_path}'"
    if path.resolve() in seen:
        raise RecipeError(source, ["a recipe must not extend itself, but 'extends' leads back to this one"])
    data = read_yaml(path, source)
    base = data.pop("extends", None)
    if base is None:
        return data
    if not isinstance(base, str):
        raise RecipeError(source, [f"'extends' must be a recipe's name or path, got {base!r}"])
    if base.endswith((".yaml", ".yml")) and not Path(base).is_absolute():
        base = str(path.parent / base)
    inherited = _read_with_bases(base, (*seen, path.resolve()))
    for key in ("name", "description", "reproduces"):
        inherited.pop(key, None)
    return _merge(inherited, data)


def _nested(dotted: str, value: object) -> dict[str, Any]:
    for part in reversed(dotted.split(".")):
        value = {part: value}
    assert isinstance(value, dict)
    return value


def _merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in change.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            other_type = "type" in old and "type" in value and old["type"] != value["type"]
            merged[key] = dict(value) if other_type else _merge(old, value)
        else:
            merged[key] = value
    return merged
