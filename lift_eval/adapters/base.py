"""What every adapter says of itself: an adapter is a module with a child of `AdapterSettings`, named in `registry`.

Recipes and reports read these settings, so their modules import torch and peft inside functions only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from lift_eval.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from peft import PeftConfig
    from torch import Tensor
    from transformers import PreTrainedModel

    from lift_eval.document import Document


class AdapterSettings(Settings):
    """The recipe's group ``adapter``: settings, and what they mean for model and reports."""

    type: str

    trained: ClassVar[bool] = True
    """Whether documents are fine-tuned into the adapter; false where there is none, or each was made elsewhere."""
    cure: ClassVar[str] = "set other adapter.targets, such as all-linear"
    """What to do where peft finds that the settings do not fit the model."""

    loading: ClassVar[str] = ""
    """What loading an exported adapter takes besides peft, and what cannot be done with it; for its card."""
    can_merge: ClassVar[bool] = True
    """Whether a trained adapter can become a part of the base's weights."""

    @property
    def needs_full_precision(self) -> bool:
        """Whether the base must be loaded unquantized, because the adapter is made from its weights."""
        return False

    @property
    def stacks(self) -> bool:
        """Whether adapters of several documents can be trained in one batch, each as if it were alone."""
        return False

    @property
    def changes_base(self) -> bool:
        """Whether attaching the adapter moves a part of the base weights into it."""
        return False

    @property
    def without_initialisation(self) -> AdapterSettings:
        """Settings of an adapter of the same size whose weights are not computed from those of the base."""
        return self

    def positions(self, document_tokens: int) -> int:
        """Positions that the adapter puts before every text, for a document of so many tokens."""
        return 0

    def find(self, document: Document) -> Path | None:
        """The folder of the adapter that was made for a document elsewhere. None means that it comes from training.

        Args:
            document: The document.

        Raises:
            AdapterError: If the folder of all adapters cannot be used.
            DocumentError: If there is none for the document.
        """
        return None

    @contextmanager
    def prepared(self, model: Any, ids: Tensor, seed: int) -> Iterator[None]:  # noqa: ANN401 - PeftModel
        """Start the adapter for a document that is trained and asked inside; nothing by default.

        Args:
            model: The model with the adapter.
            ids: Token ids of the document, shape (n,).
            seed: Of all that is random about the document.
        """
        yield

    def check_settings(self) -> None:
        """Refuse settings that only peft can check, before the base model is loaded; nothing by default.

        Raises:
            AdapterError: If they are refused.
        """

    def check(self, bits: int) -> None:
        """Refuse a base that the adapter does not work on.

        Args:
            bits: Bits of the base weights once they are quantized: 4, 8, or 0 for weights that are not.

        Raises:
            AdapterError: If it does not.
        """

    def peft_config(self, model: PreTrainedModel) -> PeftConfig:
        """Peft's configuration of the adapter.

        Args:
            model: The model that the adapter is for.

        Raises:
            AdapterError: If the settings do not fit the model.
        """
        raise NotImplementedError

    def exported(self, model: Any) -> tuple[PeftConfig, dict[str, Tensor]] | None:  # noqa: ANN401 - PeftModel
        """What peft alone loads in place of a method of ours. None means the adapter as it is.

        Args:
            model: The model with the trained adapter.

        Returns:
            The configuration, and the tensors by their names in the file.
        """
        return None

    @contextmanager
    def observe(self, model: Any) -> Iterator[Callable[[], list[float]]]:  # noqa: ANN401 - PeftModel
        """Watch the adapter while answers are decoded inside, for the reports; nothing by default.

        Args:
            model: The model with the adapter.

        Yields:
            What gives a number of each layer so far; a document's record keeps them as ``gates``.
        """
        yield list
