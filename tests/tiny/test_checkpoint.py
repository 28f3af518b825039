"""The bundled checkpoint: a plain Llama of transformers that can do what its card says."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lift_eval.recipe import load_recipe
from lift_eval.tiny import prompts, tokenizer, world
from pretraining import evaluate
from pretraining.samples import Samples

FOLDER = evaluate.CHECKPOINT


@pytest.fixture(scope="module")
def words():
    return AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def net():
    return AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()


def test_it_is_small_and_holds_nothing_but_weights_tokenizer_and_card():
    files = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    assert set(files) == {
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert sum(files.values()) <= 10_000_000


def test_its_configuration_is_that_of_the_code(net):
    config = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["max_position_embeddings"] == prompts.WINDOW
    assert net.generation_config.eos_token_id == net.config.eos_token_id


def test_its_tokenizer_is_the_one_that_the_code_builds(words):
    built = tokenizer.build()
    text = next(iter(world.documents("test"))).article.text
    assert words.get_vocab() == built.get_vocab()
    assert words(text, verbose=False).input_ids == built(text, verbose=False).input_ids
    assert (words.bos_token, words.eos_token, words.pad_token) == ("<s>", "</s>", "<pad>")


@pytest.mark.parametrize(("joint", "least"), [(False, 0.87), (True, 0.8)])
def test_it_answers_from_context_within_its_window(net, words, joint, least):
    right, total = evaluate.in_context(net, Samples(words), 240, 24, joint=joint, split="test")
    assert total > 40
    assert right / total > least


def test_it_goes_by_the_name_where_only_the_name_tells_facts_apart(net, words):
    right, total = evaluate.among_alike(net, Samples(words), 16, split="test")
    assert right / total > 0.9


def test_its_pairs_about_unseen_sentences_are_right(net, words):
    temperature = load_recipe("tiny").auxiliary.temperature
    shares = evaluate.pair_yield(net, words, 160, 1, temperature, "test")
    assert shares["right"] > 0.9
    assert shares["quiet"] > 0.9


def test_exact_match_in_one_pass_agrees_with_decoding(net, words):
    document = next(iter(world.documents("test")))
    samples = Samples(words)
    text = " ".join(document.article.sentences[:12])
    prefix = samples.encode(prompts.DOCUMENT.format(title=document.article.title, context=text))
    asked = [(fact.questions[0], fact.answer) for _, fact in document.article.facts][:12]
    ends = prompts.QUESTION
    decoded = evaluate.complete(
        net, words, [words.decode(prefix) + ends.format(question=question) for question, _ in asked], tokens=8
    )
    wanted = sum(reply == f" {answer}" for reply, (_, answer) in zip(decoded, asked, strict=True))
    tree = samples.reading(prefix, asked)
    assert len(tree.branches) == len(asked)
    assert evaluate.exact_match(net, [tree], rows=1, length=512)[0] == wanted
