"""The form of the store's entries: bytes that say what they are and prove that they are whole.

Text entries are JSON Lines: a header with format, kind, key and checksum, then the payload. Entries with tensors are
safetensors files with the same two things in their metadata. Nothing in an entry is ever run.

    {"format": 1, "key": "9f86...", "kind": "answers", "about": {...}, "sha256": "60a3..."}
    {"answers": [{"text": "Paris", "complete": true}], "seconds": 1.3}
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError

from lift_eval.store.identity import FORMAT, hash_of_tensor

if TYPE_CHECKING:
    from torch import Tensor

MAX_TEXT_BYTES = 64 * 1024**2
"""Largest text entry, and largest header of an entry with tensors."""

METADATA = "lift_eval"

P = TypeVar("P", bound="Payload")


class CorruptEntryError(Exception):
    """Bytes that are not the entry that they should be."""


class Payload(BaseModel):
    """What an entry of text holds."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, ser_json_inf_nan="constants")
    kind: ClassVar[str]
    has_tensors: ClassVar[bool] = False


class Training(Payload):
    """How an adapter was trained: the parts of a `DocumentRecord` that its training filled in."""

    kind = "adapters"
    has_tensors = True
    losses: list[float]
    trained_tokens: int
    supervised_tokens: int
    pairs: dict[str, int]
    made_pairs: list[list[str]] = []
    seconds: dict[str, float]
    operations: dict[str, float] = {}
    retried: str = ""


class Pairs(Payload):
    """Question-answer pairs made from a document."""

    kind = "pairs"
    pairs: list[dict[str, str]]
    counts: dict[str, int] = {}
    """Of pairs: asked, kept, and refused by reason."""
    seconds: float = 0.0
    operations: float = 0.0


class Distributions(Payload):
    """What a teacher expects of a document's samples, one after the other; the tensors have its most likely tokens."""

    kind = "distributions"
    has_tensors = True
    samples: dict[str, int]
    """Supervised tokens of each sample, by its identity."""


class KeptAnswer(BaseModel):
    """One answer."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    text: str
    complete: bool
    thinking_tokens: int = 0
    tokens: int = 0


class KeptAnswers(Payload):
    """Answers that were decoded together."""

    kind = "answers"
    answers: list[KeptAnswer]
    gates: list[float] = []
    """Mean gate of each layer while they were decoded (Gated Memory), else empty."""
    seconds: float = 0.0
    operations: dict[str, float] = {}


def text_entry(key: str, payload: Payload, about: Mapping[str, Any]) -> bytes:
    """The bytes of an entry without tensors."""
    body = payload.model_dump_json()
    return f"{_header(key, payload.kind, body, {}, about)}\n{body}\n".encode()


def read_text_entry(data: bytes, key: str, kind: type[P]) -> P:
    """The payload of an entry without tensors.

    Raises:
        CorruptEntryError: If this is not the entry of that key and kind, or not all of it.
    """
    header, _, rest = data.partition(b"\n")
    body, newline, more = rest.partition(b"\n")
    if not newline or more:
        raise CorruptEntryError("it is cut short or has more than two lines")
    return _checked(header, body, key, kind, {})


def tensor_entry(
    key: str, payload: Payload, tensors: Mapping[str, Tensor], about: Mapping[str, Any]
) -> bytes:
    """The bytes of an entry with tensors.

    Args:
        key: Its key.
        payload: What it holds besides.
        tensors: By name, on any device.
        about: For the reader of a list of entries.
    """
    import safetensors.torch

    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    body = payload.model_dump_json()
    header = _header(key, payload.kind, body, kept, about)
    return bytes(safetensors.torch.save(kept, metadata={METADATA: header, "payload": body}))


def read_tensor_entry(data: bytes, key: str, kind: type[P]) -> tuple[P, dict[str, Tensor]]:
    """The payload of an entry with tensors, and these on the CPU.

    Raises:
        CorruptEntryError: If this is not the entry of that key and kind, or not all of it.
    """
    import safetensors.torch

    metadata = _metadata(io.BytesIO(data))
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load(data)
        header, body = metadata[METADATA].encode(), metadata["payload"].encode()
    except (SafetensorError, LookupError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise CorruptEntryError(f"lift_eval did not write it ({type(error).__name__})") from error
    return _checked(header, body, key, kind, tensors), tensors


def read_about(stream: BinaryIO, *, has_tensors: bool) -> dict[str, Any]:
    """Header and payload of an entry as plain data, for a person; nothing is checked but the form.

    Args:
        stream: The entry, of which no tensor is read.
        has_tensors: Whether it has tensors.

    Raises:
        CorruptEntryError: If the form is not an entry's.
    """
    if has_tensors:
        metadata = _metadata(stream)
        lines = [str(metadata.get(METADATA)), str(metadata.get("payload"))]
    else:
        lines = [stream.readline(MAX_TEXT_BYTES).decode(errors="replace") for _ in range(2)]
    header, payload = map(_json, lines)
    return {**header, "payload": payload}


def _header(key: str, kind: str, body: str, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> str:
    unsigned = {"format": FORMAT, "key": key, "kind": kind, "about": dict(about)}
    return json.dumps({**unsigned, "sha256": _checksum(unsigned, body.encode(), tensors)})


def _checked(header: bytes, body: bytes, key: str, kind: type[P], tensors: Mapping[str, Tensor]) -> P:
    fields = _json(header)
    checksum = fields.pop("sha256", None)
    if checksum != _checksum(fields, body, tensors):
        raise CorruptEntryError("its checksum is wrong")
    if (fields.get("format"), fields.get("key"), fields.get("kind")) != (FORMAT, key, kind.kind):
        raise CorruptEntryError("it is the entry of another key")
    try:
        return kind.model_validate_json(body)
    except ValueError as error:
        raise CorruptEntryError("its payload has another form") from error


def _checksum(header: Mapping[str, object], body: bytes, tensors: Mapping[str, Tensor]) -> str:
    hashes = {name: hash_of_tensor(tensor) for name, tensor in tensors.items()}
    signed = json.dumps({"header": header, "tensors": hashes}, sort_keys=True)
    return hashlib.sha256(signed.encode() + b"\n" + body).hexdigest()


def _metadata(stream: BinaryIO) -> dict[str, Any]:
    """The metadata of a safetensors file: 8 bytes of length, then a JSON header."""
    size = int.from_bytes(stream.read(8), "little")
    if size > MAX_TEXT_BYTES:
        raise CorruptEntryError("its header is too long")
    metadata = _json(stream.read(size)).get("__metadata__")
    if not isinstance(metadata, dict):
        raise CorruptEntryError("lift_eval did not write it")
    return metadata


def _json(text: str | bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:  # nested too deep: the parser stops by itself
        raise CorruptEntryError("it is not JSON") from error
    if not isinstance(value, dict):
        raise CorruptEntryError("it is not a JSON object")
    return value
