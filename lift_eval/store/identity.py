"""Keys of the store: hashes of all that decides what an entry holds.

A key that misses something would give one run the results of another, so whatever could change a result is in it,
and doubt is settled for training anew: the weights in memory rather than the name they were loaded by, the code of
this package rather than its version.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from array import array
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

FORMAT = 1
"""Version of the entries' format; entries of another version are not found."""

LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes")
CODE = ("adapters", "answering", "document.py", "lifter", "models", "prompts", "synthesis", "training")
"""Parts of this package that decide what an adapter learns and what is answered."""

_READERS = 8


def entry_key(kind: str, **parts: object) -> str:
    """Key of an entry: 64 hexadecimal digits.

    Args:
        kind: Kind of the entry.
        parts: All that decides its content, as plain data.
    """
    return _hash_of({"kind": kind, "format": FORMAT, "parts": parts})


def run_identity(base: str, tokenizer: Any, *, recipe_digest: str, window: int) -> str:  # noqa: ANN401
    """Identity of all that the documents of a run have in common.

    Args:
        base: Of the base model, from `base_identity`.
        tokenizer: A fast tokenizer.
        recipe_digest: The recipe's digest; it holds the seed.
        window: Most tokens of a prompt with its answer.

    Returns:
        64 hexadecimal digits.
    """
    return _hash_of(
        {
            "base": base,
            "tokenizer": _tokenizer_identity(tokenizer),
            "recipe": recipe_digest,
            "window": window,
            "code": _code_identity(),
            "libraries": _library_versions(),
        }
    )


def base_identity(model: nn.Module) -> str | None:
    """Identity of a base model: of its configuration and of every weight as it is in memory.

    Neither a name nor a file says what is in memory: a folder can be rewritten under its name, weights can be
    changed or quantized after loading. Hashing what is there costs less than loading it.

    Args:
        model: A model of transformers without an adapter, on any device.

    Returns:
        64 hexadecimal digits; none where weights are not in memory (offloaded to disk), so that nothing is known.
    """
    tensors = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    if any(tensor.is_meta for tensor in tensors.values()):
        return None
    with ThreadPoolExecutor(_READERS) as readers:  # hashing and copying let other threads run
        hashes = dict(zip(tensors, readers.map(hash_of_tensor, tensors.values()), strict=True))
    config: Any = model.config
    generation: Any = getattr(model, "generation_config", None)
    return _hash_of(
        {
            "class": type(model).__name__,
            "config": _without_origin(config.to_dict()),
            "generation": _without_origin(generation.to_dict()) if generation is not None else {},
            "attention": str(getattr(config, "_attn_implementation", "")),
            "devices": sorted({tensor.device.type for tensor in tensors.values()}),
            "weights": hashes,
        }
    )


def answers_key(
    adapter: str,
    prompts: Iterable[Sequence[int]],
    *,
    adapted: bool,
    max_new_tokens: int,
    stop: Sequence[str],
    options: object,
) -> str:
    """Key of the answers to all prompts that are decoded together.

    One entry holds them all, since they depend on each other: rows of one batch share its padding, and a random
    state where answers are sampled.

    Args:
        adapter: The adapter's key.
        prompts: Token ids of each prompt, in order.
        adapted: Whether the adapter was on.
        max_new_tokens: Most tokens of an answer.
        stop: Strings that end an answer.
        options: Further settings of decoding, plain data.
    """
    hasher = hashlib.sha256()
    for ids in prompts:
        hasher.update(len(ids).to_bytes(8, "little"))
        hasher.update(array("q", ids).tobytes())
    decoding = {"max_new_tokens": max_new_tokens, "stop": list(stop), "options": options}
    return entry_key(
        "answers", adapter=adapter, adapted=adapted, prompts=hasher.hexdigest(), decoding=decoding
    )


def pairs_key(*, generator: str, settings: object, document: str, seed: int) -> str:
    """Key of a document's question-answer pairs; recipes that differ in training alone share them.

    Args:
        generator: Identity of who makes them.
        settings: How they are asked for and read, plain data.
        document: The document's digest.
        seed: Of all that is random about the document.
    """
    return entry_key(
        "pairs", generator=generator, settings=settings, document=document, seed=seed, code=_code_identity()
    )


def hash_of_tensor(tensor: Tensor) -> str:
    """Hash of a tensor's type, shape and bytes."""
    hasher = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    if flat.numel():
        hasher.update(flat.view(torch.uint8).numpy().data)
    return hasher.hexdigest()


def _tokenizer_identity(tokenizer: Any) -> str:  # noqa: ANN401
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    for left_by_last_call in ("padding", "truncation"):
        backend.pop(left_by_last_call, None)
    special = (tokenizer.bos_token, tokenizer.eos_token)
    return _hash_of({"backend": backend, "special": special, "chat_template": tokenizer.chat_template})


@lru_cache(maxsize=1)
def _code_identity() -> str:
    package = Path(__file__).parent.parent
    files = (
        path
        for part in CODE
        for path in ((package / part).rglob("*.py") if "." not in part else [package / part])
    )
    return _hash_of({str(path.relative_to(package)): path.read_text(encoding="utf-8") for path in files})


def _library_versions() -> dict[str, str]:
    installed = {name: list(importlib.metadata.distributions(name=name)) for name in LIBRARIES}
    return {name: found[0].version for name, found in installed.items() if found}


def _without_origin(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration without where it came from, which decides nothing."""
    return {
        key: value for key, value in config.items() if key not in ("_name_or_path", "transformers_version")
    }


def _hash_of(data: object) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True, default=str).encode()).hexdigest()
