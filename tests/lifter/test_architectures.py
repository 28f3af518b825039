"""Documents are lifted on models of every kind, or the model is refused before anything is trained."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from lift_eval.document import Document
from lift_eval.errors import AdapterError, CheckpointError
from lift_eval.lifter.lifter import Lifter
from lift_eval.recipe import Recipe, load_recipe
from tests.tiny_models import VOCABULARY, tiny_tokenizer

DOCUMENT = Document("The lamp was lit by Ann at nine. " * 8, "Lamp")
SIZE = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4,
    "num_key_value_heads": 2, "bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 258,
    "max_position_embeddings": 512,
}  # fmt: skip
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
MIXER = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1}
LAYERS: dict[str, dict[str, Any]] = {
    # Attention under other names, or fused.
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
    "gpt_neox": {"num_hidden_layers": 2},
    "falcon": {"num_hidden_layers": 2},
    "opt": {"num_hidden_layers": 2, "ffn_dim": 64, "word_embed_proj_dim": 32},
    "bloom": {"n_layer": 2, "n_head": 4},
    "phi3": {"num_hidden_layers": 2},
    # State spaces, alone and between attention layers.
    "mamba": {"num_hidden_layers": 2, "state_size": 8, "time_step_rank": 4},
    "mamba2": {"num_hidden_layers": 2, "state_size": 8, "num_heads": 4, "head_dim": 16, "n_groups": 1},
    "falcon_mamba": {"num_hidden_layers": 2, "state_size": 8, "time_step_rank": 4},
    "nemotron_h": {
        "hybrid_override_pattern": "M*-M", "mamba_num_heads": 4, "mamba_head_dim": 16, "ssm_state_size": 8,
        "n_groups": 1, "head_dim": 8,
    },
    "bamba": {"num_hidden_layers": 2, "attn_layer_indices": [1], **MIXER},
    "recurrent_gemma": {"num_hidden_layers": 3, "lru_width": 32, "attention_window_size": 16, "head_dim": 8},
    # Experts and routers.
    "mixtral": {"num_hidden_layers": 2, **EXPERTS},
    "qwen3_moe": {"num_hidden_layers": 2, "head_dim": 8, **EXPERTS},
    "phimoe": {"num_hidden_layers": 2, **EXPERTS},
    "llama4_text": {"num_hidden_layers": 2, "intermediate_size_mlp": 64, "head_dim": 8, **EXPERTS},
    # A body that is not called by its usual name.
    "modernbert-decoder": {"num_hidden_layers": 3, "global_attn_every_n_layers": 3},
    # Layers of several widths.
    "gemma4_text": {
        "num_hidden_layers": 2, "head_dim": 8, "layer_types": ["sliding_attention", "full_attention"],
        "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": VOCABULARY,
    },
}  # fmt: skip


def model_of(architecture: str, **changes: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    config = AutoConfig.for_model(architecture, **{**SIZE, **LAYERS.get(architecture, {}), **changes})
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def recipe(**adapter: Any) -> Recipe:
    return load_recipe(
        "lora",
        {
            "adapter.rank": 2,
            "adapter.alpha": 4,
            **{f"adapter.{key}": value for key, value in adapter.items()},
            "training.context_epochs": 3,
            "training.learning_rate": 1e-2,
            "training.segment_tokens": 64,
            "training.stride_tokens": 48,
            "decoding.max_new_tokens": 2,
        },
    )


@pytest.mark.filterwarnings("error:The following:RuntimeWarning", "error:fan_in_fan_out")
@pytest.mark.parametrize("architecture", LAYERS)
def test_a_document_is_lifted_on_every_kind_of_model(architecture: str) -> None:
    lifter = Lifter(model_of(architecture), tiny_tokenizer(), recipe(targets="all-linear"))
    with lifter.lift(DOCUMENT) as document:
        assert len(document.answer(["Who lit it?", "When was the lamp lit?"])) == 2
    first, *_, last = document.record.losses
    assert last < first


def test_a_model_whose_code_fails_is_refused_with_what_it_said() -> None:
    model = model_of(
        "openai-gpt", n_embd=32, n_layer=1, n_head=4, n_positions=512
    )  # it keeps no keys and values
    with pytest.raises(
        CheckpointError, match="OpenAIGPTLMHeadModel cannot be asked, since it fails on a short test text"
    ):
        Lifter(model, tiny_tokenizer(), load_recipe("icl"))


def test_targets_that_peft_refuses_end_in_one_line() -> None:
    with pytest.raises(
        AdapterError, match=r"does not fit MambaForCausalLM: .*out_proj.*; set other adapter\.targets"
    ):
        Lifter(model_of("mamba"), tiny_tokenizer(), recipe(targets=["out_proj"]))


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox", "falcon", "opt", "bloom", "phi3"])
def test_targets_that_a_model_lacks_are_told_with_those_that_fit_every_model(architecture: str) -> None:
    with pytest.raises(AdapterError, match=r"adapter\.targets=all-linear fits every model"):
        Lifter(model_of(architecture), tiny_tokenizer(), recipe(targets=["q_prj", "o_projection"]))
