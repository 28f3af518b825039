"""Keys of the store: hashes of all that decides what an entry holds.

A key that misses something would give one run the results of another, so whatever could change a result is in it,
and doubt is settled for training anew: the weights in memory rather than the name they were loaded by, the code that
makes a result rather than this package's version.
"""

from __future__ import annotations

import hashlib
import json
import sys
from array import array
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lift_eval.store.code import code_identity, hash_of_file

if TYPE_CHECKING:
    from torch import Tensor, nn

FORMAT = 1
"""Version of the entries' format; entries of another version are not found."""

KNOWN_BY_VERSION = {"torch", "transformers", "bitsandbytes", "peft"}
"""Libraries of which layers and tokenizers come; their versions are part of the code's identity."""

_READERS = 8


def entry_key(kind: str, **parts: object) -> str:
    """Key of an entry: 64 hexadecimal digits.

    Args:
        kind: Kind of the entry.
        parts: All that decides its content, as plain data.
    """
    return _hash_of({"kind": kind, "format": FORMAT, "parts": parts})


def run_identity(base: str, tokenizer: Any, *, settings: object, window: int, module: str) -> str:  # noqa: ANN401
    """Identity of all that the documents of a run have in common.

    Args:
        base: Of the base model, from `base_identity`.
        tokenizer: A fast tokenizer.
        settings: Those of the recipe that decide, with the seed; plain data.
        window: Most tokens of a prompt with its answer.
        module: Full name of the module of this package that makes what is kept.

    Returns:
        64 hexadecimal digits.
    """
    return _hash_of(
        {
            "base": base,
            "tokenizer": _tokenizer_identity(tokenizer),
            "settings": settings,
            "window": window,
            "code": code_identity(module),
        }
    )


def base_identity(model: nn.Module) -> str | None:
    """Identity of a base model: of its configuration, its code, and every weight and buffer as it is in memory.

    Neither a name nor a file says what is in memory: a folder can be rewritten under its name, weights can be
    changed or quantized after loading. Hashing what is there costs less than loading it.

    Args:
        model: A model of transformers without an adapter, on any device.

    Returns:
        64 hexadecimal digits. None means that weights are offloaded to disk, so that they are not known.
    """
    from torch import Tensor

    state = {**dict(model.named_buffers()), **model.state_dict()}  # which leaves some buffers out
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    if any(tensor.is_meta for tensor in tensors.values()):
        return None
    with ThreadPoolExecutor(_READERS) as readers:  # hashing and copying let other threads run
        hashes = dict(zip(tensors, readers.map(hash_of_tensor, tensors.values()), strict=True))
    config: Any = model.config
    generation: Any = getattr(model, "generation_config", None)
    return _hash_of(
        {
            "class": type(model).__name__,
            "sources": _sources_of({type(module) for module in model.modules()}),
            "config": _without_origin(config.to_dict()),
            "generation": _without_origin(generation.to_dict()) if generation is not None else {},
            "attention": str(getattr(config, "_attn_implementation", "")),
            "devices": sorted({tensor.device.type for tensor in tensors.values()}),
            "weights": hashes,
        }
    )


def answers_key(
    adapter: str, prompts: Iterable[Sequence[int]], *, adapted: bool, decoding: Mapping[str, object]
) -> str:
    """Key of the answers to all prompts that are decoded together.

    One entry holds them all, since they depend on each other: rows of one batch share its padding, and a random
    state where answers are sampled.

    Args:
        adapter: The adapter's key.
        prompts: Token ids of each prompt, in order.
        adapted: Whether the adapter was on.
        decoding: All settings of decoding, plain data.
    """
    hasher = hashlib.sha256()
    for ids in prompts:
        hasher.update(len(ids).to_bytes(8, "little"))
        hasher.update(array("q", ids).tobytes())
    return entry_key(
        "answers", adapter=adapter, adapted=adapted, prompts=hasher.hexdigest(), decoding=decoding
    )


def pairs_key(*, generator: str, settings: object, document: str, seed: int, module: str) -> str:
    """Key of a document's question-answer pairs; recipes that differ in training alone share them.

    Args:
        generator: Identity of who makes them.
        settings: How they are asked for and read, plain data.
        document: The document's digest.
        seed: Of all that is random about the document.
        module: Full name of the module of this package that makes pairs.
    """
    return entry_key(
        "pairs",
        generator=generator,
        settings=settings,
        document=document,
        seed=seed,
        code=code_identity(module),
    )


def hash_of_tensor(tensor: Tensor) -> str:
    """Hash of a tensor's type, shape and bytes."""
    import torch

    hasher = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    if flat.numel():
        hasher.update(flat.view(torch.uint8).numpy().data)
    return hasher.hexdigest()


def _tokenizer_identity(tokenizer: Any) -> str:  # noqa: ANN401
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    for left_by_last_call in ("padding", "truncation"):
        backend.pop(left_by_last_call, None)
    return _hash_of(
        {
            "class": type(tokenizer).__name__,
            "sources": _sources_of({type(tokenizer)}),
            "backend": backend,
            "special": tokenizer.special_tokens_map,
            "chat_template": tokenizer.chat_template,
            "cleans_up": tokenizer.clean_up_tokenization_spaces,
        }
    )


def _sources_of(kinds: Iterable[type]) -> dict[str, str]:
    """Hashes of the files that define classes from elsewhere than a library: a checkpoint's, or the caller's own."""
    names = {kind.__module__ for kind in kinds if kind.__module__.partition(".")[0] not in KNOWN_BY_VERSION}
    files = {name: getattr(sys.modules.get(name), "__file__", None) for name in names}
    return {name: hash_of_file(Path(file)) if file else "" for name, file in files.items()}


def _without_origin(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration without where it came from, which decides nothing."""
    return {
        key: value for key, value in config.items() if key not in ("_name_or_path", "transformers_version")
    }


def _hash_of(data: object) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True, default=str).encode()).hexdigest()
