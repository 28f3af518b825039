"""What a model must be like before anything is trained on it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from lift_eval.document import Document
from lift_eval.errors import CheckpointError, DocumentError
from lift_eval.lifter.lifter import Lifter
from lift_eval.recipe import load_recipe
from tests.tiny_models import VOCABULARY, tiny_model, tiny_tokenizer


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("recipe", ["lora", "icl"])
def test_a_weight_that_is_not_finite_is_named(recipe: str, dtype: torch.dtype, value: float) -> None:
    model = tiny_model(dtype=dtype)
    with torch.no_grad():
        model.model.embed_tokens.weight[3, 5] = value  # of a token that no text here has
    with pytest.raises(CheckpointError, match=r"but model\.embed_tokens\.weight holds NaN or infinity"):
        Lifter(model, tiny_tokenizer(), load_recipe(recipe))


def test_weights_that_overflow_are_told_before_a_learning_rate_is_blamed() -> None:
    model = tiny_model()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "proj" in name:
                weight.fill_(1e30)
    with pytest.raises(
        CheckpointError, match="must compute finite numbers before it is trained, got a loss of nan"
    ):
        Lifter(model, tiny_tokenizer(), load_recipe("lora"))


def test_a_model_that_cannot_leave_out_padding_is_refused() -> None:
    config = AutoConfig.for_model("rwkv", vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2)
    with pytest.raises(CheckpointError, match="must take an attention mask"):
        Lifter(AutoModelForCausalLM.from_config(config), tiny_tokenizer(), load_recipe("icl"))


def enlarged_tokenizer(special: bool, **changes: str) -> Any:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([f"<{number}>" for number in range(5)], special_tokens=special)
    for name, value in changes.items():
        setattr(tokenizer, name, value)
    return tokenizer


@pytest.mark.parametrize(
    "tokenizer",
    [
        enlarged_tokenizer(special=False),
        enlarged_tokenizer(special=True, pad_token="<4>"),
        enlarged_tokenizer(special=True, chat_template="<4>{{ messages[0].content }}"),
    ],
    ids=["words", "padding", "chat template"],
)
def test_a_tokenizer_that_is_larger_than_the_embedding_is_refused(tokenizer: Any) -> None:
    with pytest.raises(CheckpointError, match=r"embeddings for 264 tokens, but . of its tokens have none"):
        Lifter(tiny_model(), tokenizer, load_recipe("lora"))


def test_special_tokens_for_other_models_do_no_harm_unless_a_document_holds_one() -> None:
    """Gemma 3 of one billion weights, for text alone, has the tokenizer of its siblings, with a token for images."""
    lifter = Lifter(tiny_model(), enlarged_tokenizer(special=True), load_recipe("lora"))
    lifter.check(Document("A picture of a lamp."))
    with pytest.raises(DocumentError, match="holds '<4>', a token that the model has no embedding for"):
        lifter.check(Document("A picture <4> of a lamp."))
