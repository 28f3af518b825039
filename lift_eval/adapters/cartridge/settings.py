"""Settings of cartridges (Eyuboglu et al. 2025, arXiv 2506.06266)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from lift_eval.adapters.base import AdapterSettings
from lift_eval.errors import AdapterError
from lift_eval.settings import PositiveInt

if TYPE_CHECKING:
    from peft import PeftConfig
    from torch import Tensor
    from transformers import PreTrainedModel


class CartridgeSettings(AdapterSettings):
    """Keys and values of some positions in every layer, which precede everything that the model reads.

    The first position is frozen: many models attend to the first token of any text.
    """

    type: Literal["cartridge"] = "cartridge"

    loading: ClassVar[str] = (
        "It is loaded as peft's own CARTRIDGE. It cannot be merged into the base, and vLLM does not load it."
    )
    can_merge: ClassVar[bool] = False

    tokens: PositiveInt | Annotated[float, Field(gt=0, lt=1)] = 512
    """Number of positions: a number, at most the document's tokens, or a share of the document's tokens."""
    start: Literal["document", "sampled", "random"] = "document"
    """Their initial values: the keys and values of the document's first tokens; of chunks of 64 tokens, spread evenly
    over the document and read as one text; or normally distributed numbers."""

    @property
    def without_initialisation(self) -> AdapterSettings:
        """The same, started from tokens, which are read in any case."""
        return self.model_copy(update={"start": "document"})

    def peft_config(self, model: PreTrainedModel) -> PeftConfig:
        """The configuration of our method of peft; see `AdapterSettings.peft_config`."""
        from peft import TaskType

        from lift_eval.adapters.cartridge.method import CartridgeConfig
        from lift_eval.models.attentions import attention_modules
        from lift_eval.models.loading import supports_prefix_sharing

        names = list(attention_modules(model))
        if not names or not supports_prefix_sharing(model):
            raise AdapterError(
                f"adapter 'cartridge' needs attention to all earlier tokens in every layer, by eager or sdpa, which "
                f"{type(model).__name__} does not have; use adapter.type=lora, or another model"
            )
        return CartridgeConfig(task_type=TaskType.CAUSAL_LM, target_modules=names)

    def exported(self, model: Any) -> tuple[PeftConfig, dict[str, Tensor]]:  # noqa: ANN401 - PeftModel
        """As peft's own CARTRIDGE; see `AdapterSettings.exported`."""
        from lift_eval.adapters.cartridge.method import as_pefts_own

        return as_pefts_own(model)

    @contextmanager
    def prepared(self, model: Any, ids: Tensor, seed: int) -> Iterator[None]:  # noqa: ANN401 - PeftModel
        """Put the document's start into the layers; afterwards they are empty again."""
        from lift_eval.adapters.cartridge.method import fill, sampled_ids

        count = self.positions(len(ids))
        chosen = sampled_ids(ids, count) if self.start == "sampled" else ids[:count]
        layers = fill(model, chosen, seed if self.start == "random" else None)
        try:
            yield
        finally:
            for layer in layers:
                layer.clear()

    def positions(self, document_tokens: int) -> int:
        """Number of positions for a document of so many tokens."""
        wanted = self.tokens if isinstance(self.tokens, int) else round(self.tokens * document_tokens)
        return max(min(wanted, document_tokens), 1)
