"""Keys and values of a document are dropped after reading, as each method's formula says."""

from __future__ import annotations

import math
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

from lift_eval.answering.cache.base import CacheSettings
from lift_eval.answering.cache.columns import read_plainly
from lift_eval.answering.cache.expected_attention import ExpectedAttentionSettings
from lift_eval.answering.cache.snapkv import SnapKVSettings
from lift_eval.answering.cache.streaming import StreamingSettings
from lift_eval.answering.decoding import Decoding
from lift_eval.answering.generate import answer
from lift_eval.answering.reading import Reading
from tests.tiny_models import tiny_model, tiny_tokenizer
from tests.training.samples import moved_model, tokens

N = 90
DOCUMENT = tokens(N, 7)
PROMPTS = [[*DOCUMENT.tolist(), *tokens(3 + 5 * number % 11, number).tolist()] for number in range(5)]
METHODS = [
    StreamingSettings(sinks=3, window=20),
    SnapKVSettings(tokens=30, observed=8, kernel=5),
    ExpectedAttentionSettings(tokens=30, future=16),
]
WHOLE = [
    StreamingSettings(sinks=4, window=N),
    SnapKVSettings(tokens=1.0),
    ExpectedAttentionSettings(tokens=1.0),
]


def names(method: CacheSettings) -> str:
    return method.type


@torch.no_grad()
def kept_columns(model: torch.nn.Module, method: CacheSettings) -> list[list[list[int]]]:
    """For each layer and head, which columns of a plain reading are kept."""
    whole, cut = read_plainly(model, DOCUMENT[None]), method.read(model, DOCUMENT[None])
    return [
        [
            [int((whole_head - key).abs().sum(-1).argmin()) for key in cut_head]
            for whole_head, cut_head in zip(before.keys[0], after.keys[0], strict=True)
        ]
        for before, after in zip(whole.layers, cut.layers, strict=True)
    ]


# --- the formulas --------------------------------------------------------------------------------------------------


def test_streaming_keeps_sinks_and_window():
    expected = [0, 1, 2, *range(N - 20, N)]
    assert kept_columns(tiny_model(), METHODS[0]) == [[expected] * 2] * 2
    assert StreamingSettings(sinks=4, window=6).columns(7) == list(range(7))
    assert StreamingSettings(sinks=4, window=6).columns(3) == [0, 1, 2]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_snapkv_keeps_what_the_last_tokens_attend_to(attention):
    model = tiny_model(attn_implementation="eager")
    with torch.no_grad():
        weights = model(input_ids=DOCUMENT[None], output_attentions=True).attentions
    expected = []
    for layer in weights:
        heads = []
        for pair in layer[0].split(2):  # two heads of queries share one of keys
            received = pair[:, -8:, : N - 8].sum(dim=1).mean(dim=0).tolist()
            pooled = [sum(received[max(at - 2, 0) : at + 3]) / 5 for at in range(N - 8)]
            best = sorted(range(N - 8), key=lambda at: -pooled[at])[: 30 - 8]
            heads.append([*sorted(best), *range(N - 8, N)])
        expected.append(heads)
    assert kept_columns(tiny_model(attn_implementation=attention), METHODS[1]) == expected


def rotation(position: int, width: int) -> Tensor:
    """Llama's rotary embedding as a matrix."""
    matrix = torch.zeros(width, width, dtype=torch.float64)
    for pair in range(width // 2):
        angle = position * 10000 ** (-2 * pair / width)
        one, other = pair, pair + width // 2
        matrix[one, one] = matrix[other, other] = math.cos(angle)
        matrix[one, other], matrix[other, one] = -math.sin(angle), math.sin(angle)
    return matrix


@torch.no_grad()
def test_expected_attention_keeps_what_its_formula_says():
    model = tiny_model().double()
    cache, inputs = DynamicCache(config=model.config), []
    hooks = [
        layer.self_attn.register_forward_pre_hook(
            lambda _, __, kwargs: inputs.append(kwargs["hidden_states"]), with_kwargs=True
        )
        for layer in model.model.layers
    ]
    model(input_ids=DOCUMENT[None], past_key_values=cache, use_cache=True)
    for hook in hooks:
        hook.remove()
    width, sinks = 8, 4
    mean_rotation = torch.stack([rotation(N + ahead, width) for ahead in range(16)]).mean(0)
    expected = []
    for layer, hidden, read in zip(model.model.layers, inputs, cache.layers, strict=True):
        queries = layer.self_attn.q_proj(hidden)[0, sinks:].view(-1, 4, width)
        heads = []
        for head in range(2):
            keys, values = read.keys[0, head, sinks:], read.values[0, head, sinks:]
            shares = []
            for query_head in (2 * head, 2 * head + 1):
                ours = queries[:, query_head]
                mean = mean_rotation @ ours.mean(0)
                covariance = mean_rotation @ torch.cov(ours.T, correction=0) @ mean_rotation.T
                weights = torch.stack(
                    [
                        torch.exp(key @ mean / width**0.5 + key @ covariance @ key / (2 * width))
                        for key in keys
                    ]
                )
                shares.append(weights / weights.sum())
            scores = torch.stack(shares).mean(0) * values.norm(dim=-1)
            best = (scores.topk(30 - sinks).indices + sinks).sort().values.tolist()
            heads.append([*range(sinks), *best])
        expected.append(heads)
    assert kept_columns(model, METHODS[2]) == expected


# --- answers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "phi3"])
@pytest.mark.parametrize("method", WHOLE, ids=names)
def test_answers_are_the_usual_ones_where_everything_is_kept(method, architecture):
    model, tokenizer = tiny_model(architecture), tiny_tokenizer()
    usual = answer(model, tokenizer, PROMPTS, Decoding(12), batch=16)
    assert (
        answer(model, tokenizer, PROMPTS, Decoding(12), batch=16, reading=Reading(method, [N] * 5)) == usual
    )
    assert (
        answer(model, tokenizer, PROMPTS[:1], Decoding(12), batch=1, reading=Reading(method, [N]))
        == usual[:1]
    )


@torch.no_grad()
def plain_answer(model: torch.nn.Module, base, method, prompt: list[int], most: int, *, held: int = 0) -> str:
    """Token by token, at the true positions, behind what the method keeps of the document."""
    with base():
        cache = method.read(model, torch.tensor([prompt[:N]])) if method else None
        cache = cache or read_plainly(model, torch.tensor([prompt[:N]]))
    new: list[int] = []
    for position in range(N, len(prompt) + most - 1):
        fed = [*prompt, *new][position]
        with base() if position < len(prompt) - held else nullcontext():
            logits = model(
                input_ids=torch.tensor([[fed]]),
                position_ids=torch.tensor([[position]]),
                past_key_values=cache,
                use_cache=True,
            ).logits
        if position >= len(prompt) - 1:
            new.append(int(logits[0, -1].argmax()))
            if new[-1] == 257:
                break
    return tiny_tokenizer().decode(new, skip_special_tokens=True)


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "phi3"])
@pytest.mark.parametrize("method", METHODS, ids=names)
def test_answers_are_those_of_a_plain_implementation(method, architecture):
    model, tokenizer = tiny_model(architecture), tiny_tokenizer()
    reading = Reading(method, [N] * 5)
    found = [one.text for one in answer(model, tokenizer, PROMPTS, Decoding(12), batch=16, reading=reading)]
    assert found == [plain_answer(model, nullcontext, method, prompt, 12) for prompt in PROMPTS]
    usual = [one.text for one in answer(model, tokenizer, PROMPTS, Decoding(12), batch=16)]
    assert found != usual


@pytest.mark.parametrize("method", [None, *METHODS], ids=lambda method: method.type if method else "none")
@pytest.mark.parametrize("kind", ["lora", "gated_memory"])
def test_the_base_reads_and_the_adapter_answers(kind, method):
    model, tokenizer = moved_model(kind).eval(), tiny_tokenizer()
    reading = Reading(method, [N] * 5, model.disable_adapter)
    found = [one.text for one in answer(model, tokenizer, PROMPTS, Decoding(12), batch=16, reading=reading)]
    expected = [plain_answer(model, model.disable_adapter, method, prompt, 12, held=1) for prompt in PROMPTS]
    assert found == expected
    always = answer(model, tokenizer, PROMPTS, Decoding(12), batch=16)
    with model.disable_adapter():
        never = answer(model, tokenizer, PROMPTS, Decoding(12), batch=16)
    assert found not in ([one.text for one in always], [one.text for one in never])


def test_prompts_without_a_document_and_short_ones_are_answered_too():
    model, tokenizer = moved_model().eval(), tiny_tokenizer()
    prompts = [PROMPTS[0], [5, 6], tokens(9, 3).tolist(), PROMPTS[1], [5]]
    documents = [N, 0, 0, N, 0]
    for base in (None, model.disable_adapter):
        reading = Reading(METHODS[0], documents, base)
        together = answer(model, tokenizer, prompts, Decoding(8), batch=16, reading=reading)
        for number, one in enumerate(together):
            alone = Reading(METHODS[0], documents[number : number + 1], base)
            assert answer(model, tokenizer, [prompts[number]], Decoding(8), batch=1, reading=alone) == [one]
    usual = answer(model, tokenizer, [prompts[2]], Decoding(8), batch=1)
    assert (
        answer(model, tokenizer, [prompts[2]], Decoding(8), batch=1, reading=Reading(METHODS[0], [0]))
        == usual
    )
