"""The stream: every token is learned once a pass, in order, behind those before it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lift_eval.document import Document
from lift_eval.errors import RecipeError
from lift_eval.lifter.lifter import Lifter
from lift_eval.lifter.listing import list_samples
from lift_eval.memory.workload import largest_steps
from lift_eval.recipe import Recipe, load_recipe
from lift_eval.training.stream import stream_samples
from tests.tiny_models import tiny_model, tiny_tokenizer

TEXT = "The lamp was lit at nine, and the boat came in at ten. The storm rose at noon."


def recipe(**overrides: object) -> Recipe:
    small = {
        "training.samples": "stream", "training.segment_tokens": 48, "training.stride_tokens": 16, "adapter.rank": 4,
        "training.context_epochs": 3, "training.samples_per_step": "all", "training.betas": [0.0, 0.9],
        "training.learning_rate": 1e-3, "precision.dtype": "float32",
    }  # fmt: skip
    return load_recipe(
        "lora", {**small, **{key.replace("__", "."): value for key, value in overrides.items()}}
    )


def test_chunks_stand_behind_the_tokens_before_them() -> None:
    """Temp-LoRA: chunks of 1024 behind up to 2048 tokens."""
    samples = stream_samples(torch.arange(5000), 3072, 1024)
    assert [(int(sample.target[0]), len(sample.target)) for sample in samples] == [
        (0, 1024), (1024, 1024), (2048, 1024), (3072, 1024), (4096, 904),
    ]  # fmt: skip
    assert [len(sample.context) for sample in samples] == [0, 1024, 2048, 2048, 2048]


@given(st.integers(1, 300), st.integers(2, 60), st.integers(1, 60))
def test_every_token_but_the_first_is_learned_once_behind_its_own_past(
    tokens: int, length: int, chunk: int
) -> None:
    chunk = min(chunk, length - 1)
    samples = stream_samples(torch.arange(tokens), length, chunk)
    assert sum(sample.supervised for sample in samples) == tokens - 1
    for sample in samples:
        read = [*sample.context.tolist(), *sample.target.tolist()]
        assert read == list(range(read[0], read[0] + len(read)))
        assert len(read) <= length


def test_a_chunk_has_all_its_passes_before_the_next_begins() -> None:
    tool = Lifter(tiny_model(), tiny_tokenizer(), recipe())
    steps: list[tuple[int, int]] = []
    with tool.lift(Document(TEXT), lambda step, total, _: steps.append((step, total))) as lifted:
        record = lifted.record
    chunks = stream_samples(torch.arange(len(TEXT)), 48, 16)
    assert steps == [(step, 3 * len(chunks)) for step in range(1, 3 * len(chunks) + 1)]
    assert record.supervised_tokens == 3 * (len(TEXT) - 1)
    assert record.trained_tokens == 3 * sum(chunk.tokens for chunk in chunks)
    for first, last in zip(record.losses[::3], record.losses[2::3], strict=True):  # of the same chunk
        assert last < first


def test_a_stream_is_listed_as_it_is_trained() -> None:
    settings = recipe()
    tool = Lifter(tiny_model(), tiny_tokenizer(), settings)
    listed = list(list_samples(Document(TEXT), settings, tool.encoder, ()))
    assert [item.segment for item in listed] == [
        slice(at, min(at + 16, len(TEXT))) for at in range(0, len(TEXT), 16)
    ]
    assert [tool.tokenizer.decode(item.sample.target) for item in listed] == [
        TEXT[at : at + 16] for at in range(0, len(TEXT), 16)
    ]


def test_memory_is_predicted_for_one_chunk_with_all_before_it() -> None:
    (step,) = largest_steps(recipe(), 1000, 2000)
    assert [(len(sample.context), len(sample.target)) for sample in step] == [(32, 16)]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"training__contextualized": True}, "'training.samples: stream' needs 'training.contextualized: false'"),
        ({"training__stride_tokens": 48}, "below 'training.segment_tokens' .48., so that .* got 48"),
        ({"training__joint_epochs": 1}, "'training.samples: stream' cannot be used in stage 2"),
        ({"training__schedule": "constant", "training__warmup": "per_stage"}, "'training.warmup: per_stage' needs"),
        (
            {"training__joint_epochs": 1, "training__joint_segments": False, "auxiliary__strategy": "paragraphs"},
            "'auxiliary.strategy: paragraphs' trains .* so it needs 'training.samples: segments', got 'stream'",
        ),
    ],
)  # fmt: skip
def test_what_a_stream_does_not_go_with_is_refused(change: dict[str, object], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        recipe(**change)


def test_temp_lora_is_as_published() -> None:
    training = load_recipe("temp_lora").training
    assert (training.stride_tokens, training.segment_tokens - training.stride_tokens) == (1024, 2048)
    assert (training.context_epochs, training.learning_rate, training.warmup_steps) == (2, 5e-5, 2)
