"""PiSSA: LoRA that starts from the principal singular vectors of each weight, by peft."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from lift_eval.adapters.base import AdapterSettings
from lift_eval.adapters.lora import LoraSettings
from lift_eval.adapters.targets import Targets
from lift_eval.settings import PositiveInt

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel


class PissaSettings(AdapterSettings):
    """PiSSA (Meng et al. 2024)."""

    type: Literal["pissa"] = "pissa"
    rank: PositiveInt = 128
    """Principal singular vectors of each weight that are trained."""
    alpha: Annotated[float, Field(gt=0)] = 128
    """Updates count times ``alpha / rank``."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of an update's inputs that is dropped in training."""
    targets: Targets = "auto"
    """Which layers, as LoRA's."""
    iterations: PositiveInt | None = None
    """Iterations of the fast SVD; None means the exact one."""

    @property
    def needs_full_precision(self) -> bool:
        """Always: the adapter is cut out of the weights, and their residual is what gets quantized (section 4)."""
        return True

    @property
    def stacks(self) -> bool:
        """As LoRA without dropout."""
        return not self.dropout

    @property
    def changes_base(self) -> bool:
        """Always: the principal part of each weight moves into the adapter."""
        return True

    @property
    def without_initialisation(self) -> AdapterSettings:
        """LoRA of the same rank on the same layers."""
        return self._as_lora(init=True)

    def peft_config(self, model: PreTrainedModel) -> PeftConfig:
        """Peft's LoRA with PiSSA's initialisation; see `AdapterSettings.peft_config`."""
        init = f"pissa_niter_{self.iterations}" if self.iterations else "pissa"
        return self._as_lora(init=init).peft_config(model)

    def _as_lora(self, init: bool | str) -> LoraSettings:
        return LoraSettings(
            rank=self.rank, alpha=self.alpha, dropout=self.dropout, targets=self.targets, init=init
        )
