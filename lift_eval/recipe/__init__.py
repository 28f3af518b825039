"""The recipe: everything that decides what an evaluation does, as data that is checked before anything runs.

    load_recipe("lora", {"training.learning_rate": 5e-4}) -> Recipe

A recipe is a YAML file, from ``shipped/`` or the user's own. It holds only what differs from the defaults in
``settings.py``, or from the recipe that it names under ``extends``. Nothing here imports torch.
"""

from lift_eval.adapters.cartridge.settings import CartridgeSettings
from lift_eval.adapters.folder import FolderSettings
from lift_eval.adapters.gated_memory.settings import GatedMemorySettings
from lift_eval.adapters.lora import LoraSettings
from lift_eval.adapters.peft_method import PeftSettings
from lift_eval.adapters.pissa import PissaSettings
from lift_eval.adapters.registry import Adapter, NoAdapter
from lift_eval.adapters.weights import WeightsSettings
from lift_eval.answering.settings import DecodingSettings
from lift_eval.models.settings import PrecisionSettings
from lift_eval.prompts.settings import PromptSettings
from lift_eval.recipe.loading import baseline_of, default_recipe, differences, load_recipe, shipped_recipes
from lift_eval.recipe.settings import ComputeSettings, Recipe, TrainingSettings, settings_keys
from lift_eval.synthesis.settings import TRANSPORT, AuxiliarySettings

__all__ = [
    "TRANSPORT",
    "Adapter",
    "AuxiliarySettings",
    "CartridgeSettings",
    "ComputeSettings",
    "DecodingSettings",
    "FolderSettings",
    "GatedMemorySettings",
    "LoraSettings",
    "NoAdapter",
    "PeftSettings",
    "PissaSettings",
    "PrecisionSettings",
    "PromptSettings",
    "Recipe",
    "TrainingSettings",
    "WeightsSettings",
    "baseline_of",
    "default_recipe",
    "differences",
    "load_recipe",
    "settings_keys",
    "shipped_recipes",
]
