"""Files: the cache folder, and YAML that may come from anyone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml
from platformdirs import user_cache_path

from lift_eval.errors import RecipeError

CACHE_VARIABLE = "LIFT_EVAL_CACHE"
MAX_BYTES = 256 * 1024
MAX_DEPTH = 16


def cache_folder(name: str) -> Path:
    """The folder where built data is kept: ``$LIFT_EVAL_CACHE``, else ``lift_eval`` in the user's cache folder."""
    own = os.environ.get(CACHE_VARIABLE)
    return (Path(own) if own else user_cache_path("lift_eval", appauthor=False)) / name


def read_yaml(path: Path, source: str) -> dict[str, Any]:
    """Read a YAML mapping: safe, bounded in size and depth, no aliases.

    Args:
        path: The file.
        source: How errors name it.

    Returns:
        The mapping, empty for an empty file.

    Raises:
        RecipeError: If the file is too large or deep, is not UTF-8 or not YAML, holds aliases, or is no mapping.
    """
    raw = path.read_bytes()
    if len(raw) > MAX_BYTES:
        raise RecipeError(source, [f"must be at most {MAX_BYTES} bytes, {path} has {len(raw)}"])
    try:
        text = raw.decode("utf-8")
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise RecipeError(source, ["YAML aliases are not allowed, write the value out"])
            depth += isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent))
            depth -= isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent))
            if depth > MAX_DEPTH:
                raise RecipeError(source, [f"must be nested at most {MAX_DEPTH} deep"])
        data = yaml.load(text, Loader=_UniqueKeysLoader)  # noqa: S506 - a child of SafeLoader
    except UnicodeDecodeError as error:
        raise RecipeError(source, [f"must be UTF-8, byte {error.start} of {path} is not"]) from error
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError(source, [f"is not YAML: {' '.join(str(error).split())}"]) from error
    if data is None:
        return {}
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise RecipeError(source, [f"must be a mapping of keys to values, got {type(data).__name__}"])
    return data


class _UniqueKeysLoader(yaml.SafeLoader):
    """Refuses a key that is given twice; plain YAML keeps the last and drops the first unseen."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((key for place, key in enumerate(keys) if key in keys[:place]), None)
        if twice is not None:
            raise yaml.YAMLError(
                f"key '{twice}' is given twice, the second time after line {node.start_mark.line + 1}"
            )
        return super().construct_mapping(node, deep)
