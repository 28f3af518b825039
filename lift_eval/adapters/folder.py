"""Adapters made elsewhere: a folder with one for each document, such as a hypernetwork writes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from lift_eval.adapters.base import AdapterSettings
from lift_eval.adapters.peft_method import OURS, VIRTUAL_TOKENS
from lift_eval.errors import AdapterError, DocumentError

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel

    from lift_eval.document import Document

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
"""What peft writes of an adapter."""

MOVES_BASE = ("corda", "loftq", "lora_ga", "olora", "pissa")
"""Beginnings of peft's ``init_lora_weights`` that change the base's weights, so that the adapter is not all."""


class FolderSettings(AdapterSettings):
    """Peft adapters made elsewhere, one for each document, used instead of training."""

    type: Literal["folder"] = "folder"
    path: Annotated[str, Field(min_length=1)]
    """Folder of adapter folders, each named by its document's digest or title."""

    trained: ClassVar[bool] = False
    cure: ClassVar[str] = "use adapters that were made for this model"

    def find(self, document: Document) -> Path:
        """The folder of a document's adapter; see `AdapterSettings.find`."""
        folders = self._folders()
        for name in (document.digest, document.title):
            if name in folders:
                return folders[name]
        titled = f"its title, {document.title!r}, or " if document.title else ""
        raise DocumentError(
            f"document {document.name!r} has no adapter in '{self.path}': it must be in a folder named by {titled}its "
            f"digest, {document.digest}; make one, or leave the document out"
        )

    def check_settings(self) -> None:
        """Refuse a folder without adapters, or with some that differ in more than weights."""
        self._configured()

    def peft_config(self, model: PreTrainedModel) -> PeftConfig:
        """The configuration that all adapters have; see `AdapterSettings.peft_config`."""
        return self._configured()

    def configuration_digest(self) -> str:
        """Hash of the configuration that all adapters have, 16 hexadecimal digits.

        Raises:
            AdapterError: If there are none, they differ, or they cannot be entered.
        """
        decisive = json.dumps(_decisive(self._configured()), sort_keys=True, default=str)
        return hashlib.sha256(decisive.encode()).hexdigest()[:16]

    def _folders(self) -> dict[str, Path]:
        """The adapters' folders by name.

        Raises:
            AdapterError: If there are none.
        """
        try:
            inner = sorted(Path(self.path).iterdir())
        except OSError as error:
            raise AdapterError(
                f"'adapter.path' must be a folder that can be read, got '{self.path}' ({error.strerror}); name another"
            ) from error
        folders = {
            folder.name: folder
            for folder in inner
            if (folder / CONFIG_FILE).is_file() and (folder / WEIGHTS_FILE).is_file()
        }
        if not folders:
            raise AdapterError(
                f"'adapter.path' must hold a folder with {CONFIG_FILE} and {WEIGHTS_FILE} for each document, got "
                f"'{self.path}', which holds none; name another"
            )
        return folders

    def _configured(self) -> PeftConfig:
        """The configuration of the first adapter, once it is known that all have the same.

        Raises:
            AdapterError: If they differ, or cannot be entered.
        """
        folders = list(self._folders().values())
        config = _read(folders[0])
        first = _decisive(config)
        for folder in folders[1:]:
            other = _decisive(_read(folder))
            if different := [key for key in first | other if first.get(key) != other.get(key)]:
                key = different[0]
                raise AdapterError(
                    f"all adapters in '{self.path}' must have one configuration, but '{folders[0].name}' and "
                    f"'{folder.name}' differ in '{key}': {first.get(key)} and {other.get(key)}; put adapters with the "
                    "same configuration in one folder"
                )
        return config


def enter(model: Any, folder: Path) -> None:  # noqa: ANN401 - PeftModel
    """Put an adapter's weights into a model.

    Args:
        model: The model, with an adapter of the same configuration.
        folder: The adapter's.

    Raises:
        AdapterError: If the weights cannot be read, or are not those of the model's adapter.
    """
    from peft import set_peft_model_state_dict
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from lift_eval.adapters.state import trainable
    from lift_eval.models.faults import first_line

    file = folder / WEIGHTS_FILE
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise AdapterError(f"'{file}' cannot be read: {first_line(error)}; make the adapter again") from error
    try:
        loaded = set_peft_model_state_dict(model, tensors)
    except (KeyError, RuntimeError) as error:  # of torch's, whose last line names a tensor
        reason = str(error).rpartition("\n")[2].strip().rstrip(".")
        raise AdapterError(f"'{file}' does not fit the model: {reason}; {FolderSettings.cure}") from error
    missing = trainable(model).keys() & set(loaded.missing_keys)
    if wrong := sorted(missing) or sorted(loaded.unexpected_keys):
        word = "lacks" if missing else "has the unknown"
        raise AdapterError(
            f"'{file}' does not fit the model: it {word} tensor '{wrong[0]}'; {FolderSettings.cure}"
        )


def _read(folder: Path) -> PeftConfig:
    """The configuration of an adapter, ready for a model.

    Raises:
        AdapterError: If it cannot be read or entered.
    """
    from peft import PeftConfig, PeftType, TaskType

    from lift_eval.adapters.gated_memory.method import register
    from lift_eval.models.faults import first_line

    register()
    try:
        config = PeftConfig.from_pretrained(str(folder))
        method = PeftType(config.peft_type).value
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise AdapterError(
            f"'{folder / CONFIG_FILE}' is not a configuration that peft can read: {first_line(error)}; make the "
            "adapter again"
        ) from error
    if config.is_prompt_learning:
        raise AdapterError(
            f"adapter '{folder}' is peft's {method} and cannot be used, since {VIRTUAL_TOKENS}"
        )
    if config.peft_type == PeftType.LORA:
        if str(config.init_lora_weights).startswith(MOVES_BASE):
            raise AdapterError(
                f"adapter '{folder}' has moved a part of the base ('init_lora_weights': "
                f"'{config.init_lora_weights}'); save it as plain LoRA, as peft and lift-eval store export can"
            )
        config.init_lora_weights = True  # nothing is computed from the base, the weights are read
    config.task_type, config.inference_mode = TaskType.CAUSAL_LM, False
    return config


def _decisive(config: PeftConfig) -> dict[str, Any]:
    """What two adapters on one model must have in common."""
    return {key: value for key, value in config.to_dict().items() if key not in OURS - {"peft_type"}}
