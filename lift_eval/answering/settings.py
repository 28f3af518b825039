"""The recipe's group ``decoding``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lift_eval.settings import PositiveInt, Settings


class DecodingSettings(Settings):
    """How the library answers; in lm-eval the task's own generation settings count."""

    max_new_tokens: PositiveInt = 200
    """Most tokens of an answer."""
    temperature: Annotated[float, Field(ge=0)] = 0.0
    """Of sampling; 0 takes the most likely token."""
    source: Literal["recipe", "checkpoint"] = "recipe"
    """Who says how tokens are chosen: the recipe (in lm-eval the task in its place), or the checkpoint's generation
    config, which may sample (in lm-eval too)."""

    @model_validator(mode="after")
    def _one_source(self) -> DecodingSettings:
        if self.source == "checkpoint" and self.temperature:
            raise ValueError(
                "'decoding.temperature' needs 'decoding.source: recipe', or it would be lost, got "
                f"{self.temperature:g} with 'checkpoint'"
            )
        return self
