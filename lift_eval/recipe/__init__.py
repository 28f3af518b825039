"""The recipe: everything that decides what an evaluation does, as data that is checked before anything runs.

    load_recipe("lora", {"training.learning_rate": 5e-4}) -> Recipe

A recipe is a YAML file, from ``shipped/`` or the user's own. It holds only what differs from the defaults in
``settings.py``, or from the recipe that it names under ``extends``. Nothing here imports torch.
"""

from lift_eval.recipe.loading import differences, load_recipe, shipped_recipes
from lift_eval.recipe.settings import (
    TRANSPORT,
    Adapter,
    AuxiliarySettings,
    ComputeSettings,
    DecodingSettings,
    GatedMemorySettings,
    LoraSettings,
    NoAdapter,
    PissaSettings,
    PrecisionSettings,
    PromptSettings,
    Recipe,
    TrainingSettings,
    settings_keys,
)

__all__ = [
    "TRANSPORT",
    "Adapter",
    "AuxiliarySettings",
    "ComputeSettings",
    "DecodingSettings",
    "GatedMemorySettings",
    "LoraSettings",
    "NoAdapter",
    "PissaSettings",
    "PrecisionSettings",
    "PromptSettings",
    "Recipe",
    "TrainingSettings",
    "differences",
    "load_recipe",
    "settings_keys",
    "shipped_recipes",
]
