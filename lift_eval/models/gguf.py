"""GGUF files as checkpoints: configuration, weights, tokenizer and chat template in one file.

Such a checkpoint is named by the path of its file.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tokenizers import pre_tokenizers
from transformers import GgufConfig, PreTrainedTokenizerFast
from transformers.utils import cached_file

from lift_eval.errors import CheckpointError, nearest
from lift_eval.models.faults import checkpoint_errors
from lift_eval.models.fetch import fetched
from lift_eval.models.settings import PrecisionSettings

SUFFIX = ".gguf"
WAY_OUT = "the file may be truncated or damaged: download it again, or use another"

SPECIAL_TOKENS = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
"""Attributes of a tokenizer, and what the file calls them."""
ENDS = ("eos", "eot")
"""What the file calls the tokens that end an answer: end of sequence and end of turn."""
SPLITS_DIGITS = ("smollm",)
"""Kinds of tokenizers, as the file names them, that take each digit for itself; transformers knows no such kind."""


def is_gguf(name: str) -> bool:
    """Whether a checkpoint's name is the path of a GGUF file."""
    return name.endswith(SUFFIX)


def locate(name: str, gguf_file: str | None, revision: str | None = None, subfolder: str = "") -> str:
    """The name by which a checkpoint is loaded.

    Args:
        name: Folder, Hub name, path of a GGUF file, or the name of a model that ``lift-eval model fetch`` has got.
        gguf_file: Name of a GGUF file in that folder or repository. None means a checkpoint of several files, or that
            ``name`` is the path already.
        revision: Branch, tag or commit on the Hub.
        subfolder: Folder inside the folder or repository.

    Returns:
        The path of the GGUF file, which is downloaded where it is on the Hub; else the name as it is.

    Raises:
        CheckpointError: If there is no such file.
    """
    if gguf_file is None:
        return fetched(name)
    if not is_gguf(gguf_file):
        raise CheckpointError(f"gguf_file='{gguf_file}' must be the name of a file that ends in {SUFFIX}")
    folder = Path(name).expanduser() / subfolder
    if folder.is_dir():
        if not (folder / gguf_file).is_file():
            there = [path.name for path in folder.glob(f"*{SUFFIX}")]
            hint = nearest(gguf_file, there) if there else "; no GGUF file is there"
            raise CheckpointError(f"gguf_file='{gguf_file}' must be a file in '{folder}'{hint}")
        return str(folder / gguf_file)
    with checkpoint_errors(
        f"gguf_file='{gguf_file}' is not in '{name}'",
        "give a folder, or a name on the Hub (and be online, or have the file in the local cache)",
    ):
        return str(cached_file(name, gguf_file, revision=revision, subfolder=subfolder))


def folder_and_file(name: str) -> tuple[str, dict[str, str]]:
    """What ``from_pretrained`` takes in place of a checkpoint's name: a name, and more arguments.

    Raises:
        CheckpointError: If the name is that of a GGUF file, and the package that reads them is missing.
    """
    if not is_gguf(name):
        return name, {}
    if find_spec("gguf") is None:
        raise CheckpointError(
            f"pretrained='{name}' is a GGUF file, and the package that reads it is missing; pip install "
            "'lift-eval[gguf]'"
        )
    path = Path(name).expanduser()
    return str(path.parent), {"gguf_file": path.name}


def read_fast(file: Mapping[str, str]) -> AbstractContextManager[None]:
    """Let transformers read a GGUF file fast inside.

    Args:
        file: From `folder_and_file`; nothing changes for a checkpoint of another form.
    """
    if not file:
        return nullcontext()
    from lift_eval.models.gguf_reader import fast_arrays

    return fast_arrays()


def load_gguf_tokenizer(name: str, bos: bool | None) -> Any:  # noqa: ANN401
    """Make the tokenizer that a GGUF file describes.

    transformers 5.17 reads neither the file's end token nor whether a beginning-of-sequence token comes first, and 5.23
    still does not split digits.

    Args:
        name: Path of the file.
        bos: Whether it puts the beginning-of-sequence token first. None means as the file says.
    """
    folder, file = folder_and_file(name)
    # Not by from_pretrained, which prefers a tokenizer.json that happens to lie beside the file.
    tokenizer = PreTrainedTokenizerFast(name_or_path=folder, **file)
    tokenizer.clean_up_tokenization_spaces = False  # which would strip spaces that are in the text
    facts = _metadata(name, {"tokenizer.ggml.tokens"})
    for attribute, kind in SPECIAL_TOKENS.items():
        if (number := facts.get(f"tokenizer.ggml.{kind}_token_id")) is not None:
            setattr(tokenizer, attribute, facts["tokenizer.ggml.tokens"][number])
    if facts.get("tokenizer.ggml.pre") in SPLITS_DIGITS:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    first = facts.get("tokenizer.ggml.add_bos_token") if bos is None else bos
    if first is not None:
        tokenizer.add_bos_token = bool(first)
    return tokenizer


def weights_arguments(
    file: Mapping[str, str],
    config: Any,  # noqa: ANN401
    precision: PrecisionSettings,
) -> dict[str, Any]:
    """What ``from_pretrained`` takes so that a GGUF file's weights become plain layers.

    Args:
        file: From `folder_and_file`.
        config: The file's configuration.
        precision: The recipe's precision group.

    Raises:
        CheckpointError: If the recipe quantizes.
    """
    if precision.quantization != "none":
        raise CheckpointError(
            "precision.quantization must be none for a GGUF file, whose weights are dequantized as they are read, got "
            f"'{precision.quantization}'; leave it out, or name the unquantized checkpoint with pretrained="
        )
    return {**file, "config": config, "quantization_config": GgufConfig(dequantize=True)}


def complete(model: Any, name: str) -> None:  # noqa: ANN401
    """Give a model what transformers leaves out: its file as its name, and the token that ends a turn.

    Args:
        model: The file's model.
        name: Path of the file.
    """
    model.name_or_path = model.config.name_or_path = name
    facts = _metadata(name)
    keys = [f"tokenizer.ggml.{kind}_token_id" for kind in ENDS]
    if ends := sorted({int(facts[key]) for key in keys if key in facts}):
        model.generation_config.eos_token_id = ends


def _metadata(name: str, arrays: Collection[str] = ()) -> dict[str, Any]:
    """The file's metadata, without its arrays of strings but for those named."""
    from transformers.integrations.gguf import read_gguf_metadata

    facts, _ = read_gguf_metadata(str(Path(name).expanduser()), arrays)
    return dict(facts)
