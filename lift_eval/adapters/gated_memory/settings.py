"""Settings of Gated Memory, and what it notes for reports: how far its gates open."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from lift_eval.adapters.base import AdapterSettings
from lift_eval.settings import NonNegativeInt, PositiveInt

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel


class GatedMemorySettings(AdapterSettings):
    """Gated Memory: a gated memory network beside every attention head (LIFT paper, section 3.4)."""

    type: Literal["gated_memory"] = "gated_memory"

    loading: ClassVar[str] = (
        "Gated Memory is a method that lift_eval adds to peft: `import lift_eval` before you load it. It cannot be "
        "merged into the base, and vLLM and other servers do not know it."
    )
    can_merge: ClassVar[bool] = False

    memory_expansion: PositiveInt = 2
    """Hidden width of a memory network as a multiple of the head dimension."""
    lm_head_rank: NonNegativeInt = 0
    """Rank of the LoRA on the output embedding; the published runs use 2."""
    lm_head_alpha: Annotated[float, Field(gt=0)] = 4.0
    """Its update is multiplied by ``lm_head_alpha / lm_head_rank``."""

    def peft_config(self, model: PreTrainedModel) -> PeftConfig:
        """The configuration of our method of peft; see `AdapterSettings.peft_config`."""
        from peft import TaskType

        from lift_eval.adapters.gated_memory.config import GatedMemoryConfig
        from lift_eval.adapters.gated_memory.method import register

        register()
        return GatedMemoryConfig(task_type=TaskType.CAUSAL_LM, **self.model_dump(exclude={"type"}))

    @contextmanager
    def observe(self, model: Any) -> Iterator[Callable[[], list[float]]]:  # noqa: ANN401 - PeftModel
        """The mean gate of every layer."""
        from lift_eval.adapters.gated_memory.gates import record_gates

        with record_gates(model) as gates:
            yield gates.means
