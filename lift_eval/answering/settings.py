"""The recipe's group ``decoding``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from lift_eval.answering.cache.registry import CacheMethod, WholeCache
from lift_eval.settings import PositiveInt, Settings

ADAPTER_IS_ON = {
    "always": "The adapted model reads the prompt and writes the answer.",
    "decoding_only": "The base reads the prompt except its last token; the adapted model continues from there.",
}
"""Values of `DecodingSettings.adapter`."""


class DecodingSettings(Settings):
    """How the library answers; in lm-eval, the task's own generation settings apply."""

    max_new_tokens: PositiveInt = 200
    """Maximum number of tokens of an answer."""
    temperature: Annotated[float, Field(ge=0)] = 0.0
    """Sampling temperature; 0 takes the most likely token."""
    source: Literal["recipe", "checkpoint"] = "recipe"
    """What decides how tokens are chosen: the recipe (in lm-eval, the task instead), or the checkpoint's generation
    config, which may sample (in lm-eval too)."""
    learned: Literal["own", "wrong", "shuffled"] = "own"
    """The adapter that answers in lm-eval: the document's own or, as controls, that of the run's next document, or that
    of the document with its sentences shuffled."""
    cache: CacheMethod = WholeCache()
    """Which keys and values of the prompt's document are kept after it has been read."""
    adapter: Literal["always", "decoding_only"] = "always"
    """When the adapter is on; ``lift-eval recipes`` explains each value."""

    @property
    def reads_plainly(self) -> bool:
        """Whether prompts are read with the adapter, and all of what is read is kept."""
        return self.adapter == "always" and not self.cache.compresses

    @property
    def reading(self) -> dict[str, Any]:
        """The settings that say how prompts are read."""
        return self.model_dump(mode="json", include={"cache", "adapter"})

    @model_validator(mode="after")
    def _greedy(self) -> DecodingSettings:
        if not self.reads_plainly and self.temperature:
            raise ValueError(
                f"'decoding.cache.type: {self.cache.type}' with 'decoding.adapter: {self.adapter}' needs greedy "
                f"decoding, 'decoding.temperature: 0', got {self.temperature:g}"
            )
        return self

    @model_validator(mode="after")
    def _one_source(self) -> DecodingSettings:
        if self.source == "checkpoint" and self.temperature:
            raise ValueError(
                "'decoding.temperature' needs 'decoding.source: recipe', or it would be lost, got "
                f"{self.temperature:g} with 'checkpoint'"
            )
        return self
