"""Loading a base model and its tokenizer, with errors that say what to do."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING
from transformers.utils import cached_file

from lift_eval.errors import CheckpointError
from lift_eval.models import gguf
from lift_eval.models.faults import checkpoint_errors, tokenizer_errors
from lift_eval.models.malloc import tune_glibc
from lift_eval.models.settings import PrecisionSettings

logger = logging.getLogger(__name__)

WAY_OUT = "check the checkpoint and the arguments; 'lift-eval doctor' shows what is missing"

BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")
"""What torch calls a processor's instructions that multiply bfloat16: of x86 (AVX-512, AMX) and of ARM."""

BUNDLED = Path(__file__).parents[1] / "tiny" / "checkpoint"
"""The model that comes with the package."""


def resolve_device(device: str | None) -> torch.device:
    """The device asked for, or the best there is.

    Args:
        device: E.g. ``cuda``, ``cuda:1``, ``cpu``, ``mps``. None means a GPU where there is one, else the CPU.

    Returns:
        A device that is there.

    Raises:
        CheckpointError: If the device is not there.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise CheckpointError(
            f"device='{device}' is not the name of a device; use cpu, cuda, cuda:N or mps"
        ) from error
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (resolved.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
        "meta": False,
    }
    if not (there[resolved.type] if resolved.type in there else _answers(resolved)):
        raise CheckpointError(
            f"device='{device}' is not available: torch {torch.__version__} sees {torch.cuda.device_count()} CUDA "
            "devices; use device=cpu, or install a torch build for your GPU"
        )
    return resolved


def _answers(device: torch.device) -> bool:
    """Whether torch can make a tensor on a device of a kind that has no test of its own."""
    try:
        torch.empty(1, device=device)
    except Exception:
        return False
    return True


def resolve_dtype(settings: PrecisionSettings, device: torch.device) -> torch.dtype:
    """Number format of base weights and computation; that ``auto`` is bfloat16 is said once."""
    automatic = settings.dtype == "auto"
    half = multiplies_bfloat16(device) if automatic else settings.dtype == "bfloat16"
    if automatic and half:
        _say_bfloat16(device.type)
    return torch.bfloat16 if half else torch.float32


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 in hardware; elsewhere float32 is faster, and exact."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    known: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)() if device.type == "cpu" else {}
    return any(known.get(instructions, False) for instructions in BFLOAT16_INSTRUCTIONS)


@cache
def _say_bfloat16(device: str) -> None:
    logger.warning(
        "precision.dtype=auto: weights and computation in bfloat16, which this %s multiplies in hardware; for float32 "
        "set precision.dtype=float32",
        device,
    )


def quantization_config(settings: PrecisionSettings, dtype: torch.dtype) -> BitsAndBytesConfig | None:
    """Settings of bitsandbytes: nf4 with double quantization as published, or 8-bit. None means no quantization."""
    if settings.quantization == "nf4":
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    if settings.quantization == "int8":
        # It says at every product of every layer that it casts its input to float16, as LLM.int8 does.
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
        return BitsAndBytesConfig(load_in_8bit=True)
    return None


def keep_quantized_weights(model: nn.Module) -> None:
    """Let 4-bit weights stay as they were quantized, whatever the processor.

    On a CPU with AVX512-BF16, bitsandbytes would pack them anew in the first pass in evaluation mode and round their
    scales for good: what the model computes would depend on what it was asked before, and on the machine.

    Args:
        model: A model that bitsandbytes may have quantized; others stay as they are.

    Raises:
        CheckpointError: If that has happened already.
    """
    layers: Iterator[Any] = model.modules()
    for layer in layers:
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False
            if getattr(layer.weight.quant_state, "packing_format_for_cpu", False):
                raise CheckpointError(
                    "4-bit weights must be as they were loaded, but bitsandbytes has repacked them for this CPU in "
                    "an evaluation pass; load the model again, and pass it on before you run it"
                )


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Half-precision computation for adapters kept in float32; nothing to do for a float32 model."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype=dtype)


def load_model(
    name: str,
    precision: PrecisionSettings,
    *,
    device: torch.device,
    config: Any = None,  # noqa: ANN401
    quantize: bool = True,
    device_map: str | dict[str, Any] | None = None,
    revision: str | None = None,
    subfolder: str = "",
    trust_remote_code: bool = False,
    attn_implementation: str | None = None,
) -> Any:  # noqa: ANN401 - PreTrainedModel
    """Load a causal language model.

    Args:
        name: Folder or Hub name of the checkpoint, or path of a GGUF file.
        precision: The recipe's precision group.
        device: Where the model goes, unless ``device_map`` spreads it.
        config: What `load_config` gave. None means that it is read here.
        quantize: Whether to quantize while loading; off for adapters that are made from the unquantized weights.
        device_map: transformers' own, for models larger than one device.
        revision: Branch, tag or commit on the Hub.
        subfolder: Folder inside the repository.
        trust_remote_code: Whether code of the checkpoint may run.
        attn_implementation: transformers' argument. None means its own choice.

    Returns:
        The model in evaluation mode, all parameters frozen.

    Raises:
        CheckpointError: If it is not there, no causal language model, or a GGUF file that is to be quantized.
    """
    where = {"revision": revision, "subfolder": subfolder, "trust_remote_code": trust_remote_code}
    config = config or load_config(name, **where)
    if device.type == "cpu":
        tune_glibc()
    dtype = resolve_dtype(precision, device)
    quantized = quantization_config(precision, dtype) if quantize else None
    source, file = gguf.folder_and_file(name)
    form = gguf.weights_arguments(file, config, precision) if file else {"quantization_config": quantized}
    way_out = gguf.WAY_OUT if file else WAY_OUT
    with checkpoint_errors(f"pretrained='{name}' cannot be loaded", way_out), gguf.read_fast(file):
        model, report = AutoModelForCausalLM.from_pretrained(
            source,
            **(form | where),
            dtype=dtype,
            device_map=device_map or ({"": device} if quantized else None),
            attn_implementation=attn_implementation,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            output_loading_info=True,
        )
    _check_weights(name, type(model).__name__, report)
    if device_map is None and quantized is None:
        model.to(device)
    keep_quantized_weights(model)
    if file:
        gguf.complete(model, name)
    return model.requires_grad_(False).eval()


def _check_weights(name: str, kind: str, report: Mapping[str, Iterable[Any]]) -> None:
    """Refuse weights that are missing or of another shape, of which transformers makes random ones."""
    for key, found, expected in sorted(report["mismatched_keys"]):
        raise CheckpointError(
            f"pretrained='{name}' must hold weights of the shapes that its config.json says, but {key} is "
            f"{tuple(found)} and not {tuple(expected)}; use the config.json that belongs to the weights"
        )
    missing = sorted(report["missing_keys"])
    if missing:
        raise CheckpointError(
            f"pretrained='{name}' must hold every weight of {kind}, but {len(missing)} are missing "
            f"(such as {missing[0]}) and would be random; use a checkpoint with a language-modelling head"
        )


def load_config(name: str, **where: Any) -> Any:  # noqa: ANN401
    """Load the configuration of a causal language model.

    Args:
        name: Folder or Hub name, or path of a GGUF file.
        where: ``revision``, ``subfolder`` and ``trust_remote_code`` of `load_model`.

    Raises:
        CheckpointError: If there is none, or it is of another kind of model.
    """
    refuse_missing(name)
    source, file = gguf.folder_and_file(name)
    what, way_out = (
        f"pretrained='{name}' has no readable config.json",
        "give a checkpoint's folder, or its name on the Hub (and be online, or have it in the local cache)",
    )
    if file:
        what, way_out = f"pretrained='{name}' is not a readable GGUF file", gguf.WAY_OUT
    with checkpoint_errors(what, way_out), gguf.read_fast(file):
        config = AutoConfig.from_pretrained(source, **file, **where)
    if not _is_causal(config, trusted=bool(where.get("trust_remote_code"))):
        raise CheckpointError(
            f"pretrained='{name}' must be a causal language model, its configuration says '{config.model_type}' "
            f"({', '.join(config.architectures or []) or 'no architecture'}); use a decoder-only checkpoint"
        )
    return config


def checkpoint_version(name: str) -> str:
    """What tells a checkpoint from what its name meant at another time; no weights are read.

    Args:
        name: Folder or Hub name.

    Returns:
        Name, size and time of each file of a folder, or of a GGUF file; the commit of a name on the Hub.

    Raises:
        CheckpointError: If there is none.
    """
    refuse_missing(name)
    place = Path(name).expanduser()
    if place.exists():
        paths = list(place.iterdir()) if place.is_dir() else [place]
        return str(sorted((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in paths))
    with checkpoint_errors(f"'{name}' is not a checkpoint", "give its folder, or its name on the Hub"):
        return Path(cached_file(name, "config.json")).parent.name


def _is_causal(config: Any, *, trusted: bool) -> bool:  # noqa: ANN401
    """Transformers would also load an encoder, such as BERT's, as a causal model that has learned nothing."""
    kind = type(config)
    encoder = kind in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False)
    if encoder or getattr(config, "is_encoder_decoder", False):
        return False
    return trusted or kind in MODEL_FOR_CAUSAL_LM_MAPPING


def load_tokenizer(
    name: str,
    revision: str | None = None,
    *,
    subfolder: str = "",
    trust_remote_code: bool = False,
    bos: bool | None = None,
) -> Any:  # noqa: ANN401
    """Load the tokenizer of a checkpoint.

    Args:
        name: Folder or Hub name, or path of a GGUF file.
        revision: Branch, tag or commit on the Hub.
        subfolder: Folder inside the folder or repository.
        trust_remote_code: Whether code of the checkpoint may run.
        bos: Whether it puts the beginning-of-sequence token first. None means its own way.

    Raises:
        CheckpointError: If there is none.
    """
    refuse_missing(name)
    with tokenizer_errors(name):
        if gguf.is_gguf(name):
            return gguf.load_gguf_tokenizer(name, bos)
        return AutoTokenizer.from_pretrained(
            name,
            revision=revision,
            subfolder=subfolder,
            trust_remote_code=trust_remote_code,
            **({} if bos is None else {"add_bos_token": bos}),
        )


def context_window(config: Any, tokenizer: Any) -> int:  # noqa: ANN401
    """Most tokens that a model can attend to, from its configuration, else its tokenizer, else 2048.

    Args:
        config: The model's configuration; that of the text part counts for a model with several.
        tokenizer: The tokenizer.
    """
    positions = known_positions(config)
    if positions is not None:
        return positions
    known = getattr(tokenizer, "model_max_length", None)
    return int(known) if isinstance(known, int) and known < 10**9 else 2048


def known_positions(config: Any) -> int | None:  # noqa: ANN401
    """Positions that a model was made for; None means that its configuration names no limit (ALiBi, state spaces)."""
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    for key in ("max_position_embeddings", "n_positions", "n_ctx"):
        positions = getattr(text, key, None)
        if isinstance(positions, int) and positions > 0:  # XLNet says -1 for no limit
            return positions
    return None


def base_of(model: Any) -> Any:  # noqa: ANN401 - PreTrainedModel or PeftModel
    """The model of transformers, without peft's wrapper where it has one."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def body_of(base: nn.Module) -> Any:  # noqa: ANN401 - a PreTrainedModel
    """The part of a model that computes hidden states. None means that it is not known (a checkpoint's own code)."""
    if not type(base).__module__.startswith("transformers.models."):
        return None
    body = base.get_decoder()  # type: ignore[operator]  # of PreTrainedModel
    return body if isinstance(body, PreTrainedModel) and body is not base else None


def supports_prefix_sharing(model: Any) -> bool:  # noqa: ANN401
    """Whether every layer attends to all earlier tokens through a mask that we may replace.

    Only then may a common beginning be computed once for several samples or questions: a sliding window counts
    columns, ALiBi their distance, a recurrent layer takes tokens in their order, and flash attention has no mask.
    """
    config = model.config.get_text_config()
    base = base_of(model)
    if "position_ids" not in inspect.signature(base.forward).parameters or getattr(config, "alibi", False):
        return False
    if "local" in getattr(config, "attention_layers", ()):
        return False
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    sliding = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    if not getattr(config, "layer_types", None) and sliding:
        return False
    return kinds == {"full_attention"} and config._attn_implementation in ("eager", "sdpa")


def refuse_missing(name: str, key: str = "pretrained") -> None:
    """Refuse a checkpoint that is named by a path which is not there.

    Args:
        name: Folder or Hub name, or path of a GGUF file.
        key: The argument or the recipe's key that names it.

    Raises:
        CheckpointError: If the path is not there.
    """
    path = Path(name).expanduser()
    if gguf.is_gguf(name):
        if not path.is_file():
            raise CheckpointError(f"{key}='{name}' is not a file; give the path of a GGUF file")
        return
    looks_local = path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1
    if looks_local and not path.is_dir():
        raise CheckpointError(
            f"{key}='{name}' is not a folder; give the folder of a checkpoint (with a config.json)"
        )
