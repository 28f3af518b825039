"""The store: a folder of entries that runs share."""

from __future__ import annotations

import logging
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lift_eval.errors import StoreError
from lift_eval.files import TEMPORARY, NotAFileError, open_regular, read_regular, write_whole
from lift_eval.store.entries import (
    MAX_TEXT_BYTES,
    CorruptEntryError,
    Distributions,
    KeptAnswers,
    Pairs,
    Payload,
    Training,
    read_about,
    read_tensor_entry,
    read_text_entry,
    tensor_entry,
    text_entry,
)

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

KINDS: dict[str, type[Payload]] = {
    payload.kind: payload for payload in (Training, Pairs, Distributions, KeptAnswers)
}
"""The kinds of entries, each in a folder of its own."""
SUFFIXES = {kind: ".safetensors" if payload.has_tensors else ".jsonl" for kind, payload in KINDS.items()}
"""How their files are called."""
QUARANTINE = "quarantine"
MAX_TENSOR_BYTES = 64 * 1024**3
ABANDONED_SECONDS = 24 * 3600
"""Age in seconds from which a temporary file counts as left by a killed process."""

_KEY = re.compile(r"[0-9a-f]{64}")

T = TypeVar("T", bound=Payload)


@dataclass(frozen=True)
class Entry:
    """One file of a store.

    Attributes:
        kind: ``adapters``, ``pairs``, ``distributions`` or ``answers``.
        key: Its key.
        bytes: Its size.
        used: When it was last written or read, in seconds since 1970.
    """

    kind: str
    key: str
    bytes: int
    used: float


@dataclass(frozen=True)
class Fault:
    """An entry that cannot be used.

    Attributes:
        entry: The entry.
        reason: The fault.
    """

    entry: Entry
    reason: str


class Store:
    """A folder of adapters, pairs, distributions and answers, each under a hash of everything that affects it.

    A store never ends a run. A damaged or misnamed entry is moved aside and recomputed; a store that cannot be
    written is not used after one warning. Several processes may use one store.

    Args:
        folder: The store; created if it is missing.

    Raises:
        StoreError: If the folder cannot be created.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser().absolute()
        self._warned = False
        self._writable = True
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            raise StoreError(
                f"store='{folder}' must be a folder that exists or can be created ({_reason(error)}); name another, "
                "or use store=off"
            ) from error

    # --- entries -----------------------------------------------------------------------------------------------

    def load(self, kind: type[T], key: str) -> T | None:
        """Pairs or answers that were kept.

        Args:
            kind: `Pairs` or `KeptAnswers`.
            key: Their key.

        Returns:
            The pairs or answers. None means that the store has none that can be trusted.
        """
        read = self._read(kind.kind, key, MAX_TEXT_BYTES)
        if read is None:
            return None
        data, inode = read
        try:
            return read_text_entry(data, key, kind)
        except CorruptEntryError as error:
            self._set_aside(kind.kind, key, str(error), inode)
            return None

    def save(self, key: str, payload: Payload, about: Mapping[str, Any] | None = None) -> None:
        """Keep pairs or answers.

        Args:
            key: Their key.
            payload: The pairs or answers.
            about: Description for the list of entries.
        """
        self._write(payload.kind, key, text_entry(key, payload, about or {}))

    def load_tensors(
        self, kind: type[T], key: str, like: Mapping[str, Tensor] | None = None
    ) -> tuple[T, dict[str, Tensor]] | None:
        """An adapter or distributions that were kept.

        Args:
            kind: `Training` or `Distributions`.
            key: Their key.
            like: Tensors of the names, shapes and types that they must have. None takes any.

        Returns:
            What is known of them, and the tensors on the CPU. None means that the store has none that can be trusted.
        """
        size = MAX_TENSOR_BYTES if like is None else sum(tensor.nbytes for tensor in like.values())
        read = self._read(kind.kind, key, size + MAX_TEXT_BYTES)
        if read is None:
            return None
        data, inode = read
        try:
            payload, tensors = read_tensor_entry(data, key, kind)
            if like is not None and _forms(tensors) != _forms(like):
                raise CorruptEntryError("it is the adapter of another model")
        except CorruptEntryError as error:
            self._set_aside(kind.kind, key, str(error), inode)
            return None
        return payload, tensors

    def save_tensors(
        self,
        key: str,
        payload: Payload,
        tensors: Mapping[str, Tensor],
        about: Mapping[str, Any] | None = None,
    ) -> None:
        """Keep an adapter or distributions.

        Args:
            key: Their key.
            payload: What is known of them.
            tensors: By name; of an adapter all that training changed.
            about: Description for the list of entries.
        """
        if self._writable:  # spares the copy of a large adapter
            self._write(payload.kind, key, tensor_entry(key, payload, tensors, about or {}))

    # --- upkeep ------------------------------------------------------------------------------------------------

    def entries(self) -> list[Entry]:
        """All entries, least recently used first."""
        found = []
        for kind, suffix in SUFFIXES.items():
            for path in self._files(kind):
                key = path.name.removesuffix(suffix)
                if path.name.endswith(suffix) and _KEY.fullmatch(key):
                    try:
                        status = path.lstat()
                    except FileNotFoundError:  # another process was faster
                        continue
                    found.append(Entry(kind, key, status.st_size, status.st_mtime))
        return sorted(found, key=lambda entry: (entry.used, entry.kind, entry.key))

    def show(self, key: str) -> list[dict[str, Any]]:
        """What the entries say of themselves.

        Args:
            key: A key or the beginning of one.

        Returns:
            Header and payload of each entry whose key begins so.

        Raises:
            StoreError: If there is none.
        """
        shown = [self.describe(entry) for entry in self.entries() if key and entry.key.startswith(key)]
        if not shown:
            raise StoreError(
                f"the store {self.folder} has no entry whose key begins with '{key}'; 'lift-eval store ls' lists them"
            )
        return shown

    def describe(self, entry: Entry) -> dict[str, Any]:
        """What an entry says of itself, without reading its tensors: header and payload, or its fault."""
        try:
            with open_regular(self._path(entry.kind, entry.key), MAX_TENSOR_BYTES) as (stream, _):
                about = read_about(stream, has_tensors=KINDS[entry.kind].has_tensors)
        except (OSError, NotAFileError, CorruptEntryError) as error:
            about = {"fault": str(error)}
        return {**about, "kind": entry.kind, "key": entry.key, "bytes": entry.bytes}

    def verify(self) -> list[Fault]:
        """Check every entry; unusable ones are moved aside, and the next run that needs them recomputes them.

        Returns:
            The faults.
        """
        faults = []
        for entry in self.entries():
            inode = None
            try:
                data, inode = read_regular(self._path(entry.kind, entry.key), MAX_TENSOR_BYTES)
                kind = KINDS[entry.kind]
                (read_tensor_entry if kind.has_tensors else read_text_entry)(data, entry.key, kind)
            except FileNotFoundError:
                continue
            except OSError as error:  # the entry may be whole: leave it
                faults.append(Fault(entry, _reason(error)))
            except (NotAFileError, CorruptEntryError) as error:
                faults.append(Fault(entry, str(error)))
                self._set_aside(entry.kind, entry.key, str(error), inode)
        return faults

    def prune(self, max_bytes: int) -> list[Entry]:
        """Free space: remove unusable entries and files of killed processes, then the least recently used entries.

        Args:
            max_bytes: Maximum size of all entries together.

        Returns:
            The entries that were removed.

        Raises:
            StoreError: If an entry cannot be removed.
        """
        removed = []
        entries = self.entries()
        size = sum(entry.bytes for entry in entries)
        try:
            for path in self._leftovers():
                path.unlink(missing_ok=True)
            for entry in entries:
                if size <= max_bytes:
                    break
                self._path(entry.kind, entry.key).unlink(missing_ok=True)
                size -= entry.bytes
                removed.append(entry)
        except OSError as error:
            raise StoreError(
                f"the store {self.folder} cannot be pruned ({_reason(error)}); check its permissions"
            ) from error
        return removed

    def _leftovers(self) -> Iterator[Path]:
        yield from (path for path in self._files(QUARANTINE) if not path.is_dir() or path.is_symlink())
        for kind in SUFFIXES:
            for path in self._files(kind):
                if path.name.endswith(TEMPORARY) and _age(path) > ABANDONED_SECONDS:
                    yield path

    # --- files -------------------------------------------------------------------------------------------------

    def _path(self, kind: str, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise ValueError(f"a key has 64 hexadecimal digits, got {key!r}")
        return self._subfolder(kind) / f"{key}{SUFFIXES[kind]}"

    def _subfolder(self, name: str) -> Path:
        folder = self.folder / name
        if folder.is_symlink():
            raise NotADirectoryError(f"{folder} is a link, which could lead out of the store")
        return folder

    def _files(self, name: str) -> list[Path]:
        try:
            return sorted(self._subfolder(name).iterdir())
        except OSError:
            return []

    def _read(self, kind: str, key: str, limit: int) -> tuple[bytes, int] | None:
        try:
            path = self._path(kind, key)
            read = read_regular(path, limit)
        except FileNotFoundError:
            return None
        except NotAFileError as error:
            self._set_aside(kind, key, str(error))
            return None
        except OSError as error:
            self._warn("read", error)
            return None
        _touch(path)
        return read

    def _write(self, kind: str, key: str, data: bytes) -> None:
        if not self._writable:
            return
        try:
            path = self._path(kind, key)
            path.parent.mkdir(exist_ok=True)
            write_whole(path, data)
        except OSError as error:
            self._writable = False
            self._warn("written", error)

    def _set_aside(self, kind: str, key: str, reason: str, inode: int | None = None) -> None:
        """Take an entry out of use. If its inode is known and another file is there by now, that one stays."""
        try:
            path, aside = self._path(kind, key), self._subfolder(QUARANTINE)
            if inode not in (None, path.lstat().st_ino):
                return
            aside.mkdir(exist_ok=True)
            path.replace(aside / f"{kind}-{key}-{secrets.token_hex(4)}")
            logger.warning(
                "store: entry %s/%s cannot be used (%s); moved to %s", kind, key[:12], reason, aside
            )
        except FileNotFoundError:
            pass
        except OSError as error:
            self._warn("repaired", error)

    def _warn(self, doing: str, error: OSError) -> None:
        """Say once for all that the store does not work; the run goes on."""
        if not self._warned:
            logger.warning(
                "store %s cannot be %s (%s); the run continues without it", self.folder, doing, _reason(error)
            )
        self._warned = True


def _forms(tensors: Mapping[str, Tensor]) -> dict[str, tuple[Any, Any]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}


def _touch(path: Path) -> None:
    """Note that an entry was used; a store that is read only keeps no notes."""
    with suppress(OSError):
        os.utime(path, follow_symlinks=False)


def _age(path: Path) -> float:
    """Seconds since a file was written; of a file from the future, seconds until then."""
    try:
        return abs(time.time() - path.lstat().st_mtime)
    except OSError:
        return 0.0


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
