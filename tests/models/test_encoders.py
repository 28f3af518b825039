"""Checkpoints that help to choose what a prompt holds: a token classifier, and a model of embeddings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForTokenClassification, BertModel

from lift_eval.errors import CheckpointError
from lift_eval.lifter.lifter import Lifter
from lift_eval.models.encoders import TextEmbedder, TokenClassifier
from lift_eval.recipe import load_recipe
from tests.tiny_models import VOCABULARY, save_checkpoint, tiny_model, tiny_tokenizer

TEXT = "On day nine the lamp was lit by Ann. " * 3
WINDOW = 40


def checkpoint(folder: Path, kind: type, labels: int = 2) -> str:
    """A random encoder of one layer, with a byte-level tokenizer that puts a token before each window."""
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=WINDOW,
        initializer_range=0.5,
        num_labels=labels,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        kind(config).save_pretrained(folder)
    tiny_tokenizer(adds_bos=True).save_pretrained(folder)
    return str(folder)


def test_a_token_classifier_says_how_likely_each_token_is_kept(tmp_path: Path) -> None:
    name = checkpoint(tmp_path, BertForTokenClassification)
    scores = TokenClassifier("prompt.compressor", name)(TEXT)
    assert [span for span, _ in scores] == [(place, place + 1) for place in range(len(TEXT))]
    model = BertForTokenClassification.from_pretrained(name).eval()
    ids = tiny_tokenizer()(TEXT)["input_ids"]
    expected: list[float] = []
    for start in range(0, len(ids), WINDOW - 1):
        window = torch.tensor([[256, *ids[start : start + WINDOW - 1]]])
        with torch.no_grad():
            expected += model(window).logits.softmax(-1)[0, 1:, 1].tolist()
    assert [value for _, value in scores] == pytest.approx(expected, abs=1e-5)


def test_a_text_is_embedded_as_the_mean_of_its_tokens_states(tmp_path: Path) -> None:
    name = checkpoint(tmp_path, BertModel)
    texts = ["Who?", "The lamp was lit."]
    made = TextEmbedder("prompt.embedder", name)(texts)
    model = BertModel.from_pretrained(name).eval()
    for text, embedding in zip(texts, made, strict=True):
        with torch.no_grad():
            states = model(torch.tensor([[256, *tiny_tokenizer()(text)["input_ids"]]])).last_hidden_state[0]
        mean = states.mean(0)
        torch.testing.assert_close(embedding, mean / mean.norm(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("key", ["compressor", "embedder"])
def test_a_recipe_reads_its_checkpoint_and_answers(key: str, tmp_path: Path) -> None:
    from lift_eval.document import Document

    kind, content = {
        "compressor": (BertForTokenClassification, "compressed"),
        "embedder": (BertModel, "retrieved"),
    }[key]
    changes = {
        "prompt.document": content,
        f"prompt.{key}": checkpoint(tmp_path, kind),
        "prompt.max_tokens": 300,
        "prompt.passage_tokens": 30,
        "prompt.passages": 2,
        "decoding.max_new_tokens": 4,
    }
    lifter = Lifter(tiny_model(), tiny_tokenizer(), load_recipe("icl", changes))
    with lifter.lift(Document(TEXT * 5)) as lifted:
        assert len(lifted.answer(["Who lit it?", "When?"])) == 2
        assert 0 < (lifted.record.kept or 0) < 1


@pytest.mark.parametrize("kind", ["missing", "three labels", "no classifier", "causal"])
def test_a_compressor_that_is_none_is_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    name = {
        "missing": lambda: str(tmp_path / "nowhere"),
        "three labels": lambda: checkpoint(tmp_path, BertForTokenClassification, 3),
        "no classifier": lambda: checkpoint(tmp_path, BertModel),
        "causal": lambda: str(save_checkpoint(tmp_path)),
    }[kind]()
    told = {
        "missing": "is not a folder; give the folder of a checkpoint",
        "three labels": "must be a token classifier of two labels.*, got one of 3 labels",
        "no classifier": "must be a token classifier of two labels.*classifier.bias is missing",
        "causal": "must be a token classifier of two labels.* is missing; give another checkpoint",
    }[kind]
    recipe = load_recipe("icl", {"prompt.document": "compressed", "prompt.compressor": name})
    with pytest.raises(CheckpointError, match=f"prompt.compressor='{re.escape(name)}' {told}") as refused:
        Lifter(tiny_model(), tiny_tokenizer(), recipe)
    assert "\n" not in str(refused.value)
