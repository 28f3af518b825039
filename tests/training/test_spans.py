"""Spans behind a document that is read once and stays as it was read (qTTT)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from transformers import DynamicCache

from lift_eval.adapters.attach import attach
from lift_eval.document import Document
from lift_eval.errors import CheckpointError, DocumentError, RecipeError
from lift_eval.lifter.lifter import Lifter
from lift_eval.lifter.listing import list_samples
from lift_eval.memory.workload import largest_steps
from lift_eval.recipe import ComputeSettings, Recipe, load_recipe
from lift_eval.training.finetune import finetune
from lift_eval.training.spans import draw_spans, span_samples
from tests.adapters.helpers import settings as adapter_settings
from tests.adapters.helpers import trainable
from tests.tiny_models import tiny_model, tiny_tokenizer
from tests.training.samples import tokens

TEXT = "The lamp was lit at nine, and the boat came in at ten. The storm rose at noon."


def recipe(**overrides: object) -> Recipe:
    small = {"training.segment_tokens": 16, "training.stride_tokens": 16, "training.context_epochs": 4}
    changes = {key.replace("__", "."): value for key, value in overrides.items()}
    return load_recipe("qttt", {**small, "precision.dtype": "float32", **changes})


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_spans_lie_anywhere_at_their_true_positions():
    ids = torch.arange(100)
    spans = draw_spans(100, 20, 2000, generator())
    for sample in span_samples(ids, spans):
        whole = torch.cat([sample.prefix, sample.context, sample.target]).tolist()
        assert whole == list(range(len(whole)))
        assert (len(sample.context), len(sample.target)) == (1, 19)
    assert {span.start for span in spans} == set(range(81))
    assert draw_spans(5, 20, 1, generator()) == [slice(0, 5)]


def plain_training(model: nn.Module, ids: Tensor, epochs: list[list[slice]], rate: float) -> list[float]:
    """The same, with transformers' own cache and a full forward pass for each span."""
    kept = DynamicCache(config=model.get_base_model().config)
    with torch.no_grad():
        model(input_ids=ids[None], past_key_values=kept, use_cache=True)
    parameters = list(trainable(model).values())
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.999), eps=1e-3, weight_decay=0.01)
    losses = []
    for spans in epochs:
        optimizer.zero_grad()
        total = 0.0
        for span in spans:
            cache = DynamicCache(config=model.get_base_model().config)
            for number, layer in enumerate(kept.layers):
                cache.update(
                    layer.keys[..., : span.start, :].detach(),
                    layer.values[..., : span.start, :].detach(),
                    number,
                )
            logits = model(input_ids=ids[None, span], past_key_values=cache, use_cache=True).logits[0, :-1]
            labels = ids[span][1:]
            loss = nn.functional.cross_entropy(logits, labels, reduction="sum") / (len(labels) * len(spans))
            loss.backward()
            total += loss.item()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        losses.append(total)
    return losses


@pytest.mark.parametrize("checkpointing", [False, True], ids=["stored", "checkpointed"])
@pytest.mark.parametrize("kind", ["weights", "lora", "gated_memory"])
def test_losses_and_weights_are_those_of_a_plain_implementation(kind: str, checkpointing: bool) -> None:
    """Several steps, so that a cache which followed the weights would be noticed."""
    adapter = recipe().adapter if kind == "weights" else adapter_settings(kind)
    ids = tokens(90, 3)
    epochs = [draw_spans(90, 16, 2, generator(seed)) for seed in range(4)]
    rate = 1e-2
    plain = attach(tiny_model(), adapter, seed=0).double()
    expected = plain_training(plain, ids, epochs, rate)
    model = attach(tiny_model(), adapter, seed=0).double()
    report = finetune(
        model,
        [span_samples(ids, spans) for spans in epochs],
        recipe(training__learning_rate=rate, training__samples_per_step=2, training__eps=1e-3).training,
        compute=ComputeSettings(gradient_checkpointing=checkpointing),
        share_prefixes=True,
        document=ids,
        generator=generator(),
    )
    assert report.losses == pytest.approx(expected, rel=1e-6)
    assert report.tokens == 90 + 4 * 2 * 16
    for name, tensor in trainable(plain).items():
        torch.testing.assert_close(trainable(model)[name], tensor, rtol=1e-4, atol=1e-6, msg=name)


def test_the_document_is_read_once_for_all_steps():
    tool = Lifter(tiny_model(), tiny_tokenizer(), recipe())
    widths: list[int] = []
    tool.model.get_input_embeddings().register_forward_pre_hook(lambda _, ids: widths.append(ids[0].shape[1]))
    steps: list[tuple[int, int]] = []
    with tool.lift(Document(TEXT), lambda step, total, _: steps.append((step, total))) as lifted:
        assert lifted.record.trained_tokens == len(TEXT) + 4 * 16
    assert widths == [len(TEXT), 16, 16, 16, 16]
    assert steps == [(number, 4) for number in (1, 2, 3, 4)]


def test_the_span_of_the_first_epoch_is_listed():
    settings = recipe()
    tool = Lifter(tiny_model(), tiny_tokenizer(), settings)
    (listed,) = list_samples(Document(TEXT), settings, tool.encoder, ())
    assert listed.kind == "span"
    read = torch.cat([listed.sample.context, listed.sample.target])
    assert tool.tokenizer.decode(read) == TEXT[: listed.segment.stop]
    assert tool.tokenizer.decode(listed.sample.target) == TEXT[listed.segment][1:]


def test_memory_is_predicted_with_the_whole_document_before_a_span():
    (step,) = largest_steps(recipe(), 1000, 2000)
    assert [(len(sample.prefix), sample.tokens) for sample in step] == [(984, 16)]
    (step,) = largest_steps(recipe(), 5000, 2000)  # a longer one is refused
    assert [(len(sample.prefix), sample.tokens) for sample in step] == [(1984, 16)]


def test_a_document_beyond_the_window_is_refused():
    tool = Lifter(tiny_model(), tiny_tokenizer(), recipe(), window=60)
    with pytest.raises(DocumentError, match=f"has {len(TEXT)} tokens, .* must fit the model's window of 60"):
        tool.check(Document(TEXT))


def test_a_model_whose_layers_do_not_attend_to_everything_is_refused():
    with pytest.raises(
        CheckpointError, match=r"'training\.samples: spans' and .* need attention to all earlier tokens"
    ):
        Lifter(tiny_model("mistral"), tiny_tokenizer(), recipe())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"training__contextualized": True}, "'training.samples: spans' needs .*, got true and"),
        ({"training__samples_per_step": "all"}, "'training.samples: spans' needs .*, got false and 'all'"),
        ({"training__objective": "distillation"}, "needs 'training.samples: halves'"),
    ],
)  # fmt: skip
def test_what_spans_do_not_go_with_is_refused(change: dict[str, object], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        recipe(**change)


def test_qttt_is_as_published():
    whole = load_recipe("qttt")
    training = whole.training
    assert whole.adapter.targets == ("q_proj",)
    assert (training.context_epochs, training.samples_per_step, training.segment_tokens) == (32, 1, 128)
    assert (training.weight_decay, training.max_grad_norm) == (0.01, 1.0)
    assert 1e-6 <= training.learning_rate <= 1e-5
    assert whole.prompt.document == "full"
