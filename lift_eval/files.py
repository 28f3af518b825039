"""Files: written whole or not at all, read without trust, YAML from anyone, and the cache folder."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import yaml
from platformdirs import user_cache_path

from lift_eval.errors import RecipeError

CACHE_VARIABLE = "LIFT_EVAL_CACHE"
"""Folder of fetched models and built data; by default ``lift_eval`` in the user's cache folder."""
MAX_BYTES = 256 * 1024
MAX_DEPTH = 16
TEMPORARY = ".tmp"
"""How the names of files end that are being written."""


class NotAFileError(Exception):
    """What has a file's name is a link, a folder, a device or too large."""


def cache_folder(name: str) -> Path:
    """The folder where built data is kept: ``$LIFT_EVAL_CACHE``, else ``lift_eval`` in the user's cache folder."""
    own = os.environ.get(CACHE_VARIABLE)
    return (Path(own) if own else user_cache_path("lift_eval", appauthor=False)) / name


@contextmanager
def writing_whole(path: Path) -> Iterator[BinaryIO]:
    """Write a file so that it is never seen in part, whatever stops the process or the machine.

    The bytes go to a temporary file beside it, onto the disk, and under the name by one rename; the last of several
    writers wins.

    Args:
        path: The file; its folder exists.

    Yields:
        Where to write. If the block is left by an exception, the file stays as it was and nothing is left behind.

    Raises:
        OSError: If it cannot be written; nothing is left behind then.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}{TEMPORARY}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)  # the rename itself
    finally:
        os.close(folder)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file of which all bytes are there already; see `writing_whole`."""
    with writing_whole(path) as stream:
        stream.write(data)


@contextmanager
def open_regular(path: Path, limit: int) -> Iterator[tuple[BinaryIO, os.stat_result]]:
    """Open a file that someone else may have put there: no link is followed, no device or pipe is waited for.

    Args:
        path: The file.
        limit: Most bytes.

    Yields:
        The file, to be read, and its status.

    Raises:
        FileNotFoundError: If there is none.
        NotAFileError: If it is no regular file, or too large.
        OSError: If it cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise NotAFileError("it is a link or a socket") from error
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotAFileError("it is no file")
        if status.st_size > limit:
            raise NotAFileError(f"it has {status.st_size} bytes, at most {limit} are read")
        with open(descriptor, "rb", closefd=False) as file:
            yield file, status
    finally:
        os.close(descriptor)


def read_regular(path: Path, limit: int) -> tuple[bytes, int]:
    """Read the content and the inode of a file; see `open_regular`."""
    with open_regular(path, limit) as (file, status):
        return file.read(status.st_size), status.st_ino


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
