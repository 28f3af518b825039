"""Tokens are drawn as transformers' ``generate`` draws them, and each answer has its own random numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lift_eval.answering.choosing import Draw, chooser, most_probable
from tests.tiny_models import tiny_model
from tests.training.samples import tokens

PROMPT = tokens(12, 3)[None]
SAMPLE: dict[str, Any] = {"do_sample": True}


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        behind: torch.Tensor = model(PROMPT).logits[:, -1]
    return behind


@pytest.mark.parametrize(
    ("config", "options"),
    [
        ({}, {}),
        ({}, {"temperature": 0.6}),
        ({}, {"temperature": 1.7, "top_p": 0.8}),
        ({"top_k": 5, "temperature": 3.0}, {}),
        ({"top_k": 5, "top_p": 0.7}, {"temperature": 1.3}),
        ({"top_k": 5}, {"top_k": 0}),
        ({"top_k": 5}, {"top_k": None}),
        ({}, {"min_p": 0.2}),
        ({"min_p": 0.1}, {"temperature": 2.5, "top_p": 0.9}),
    ],
)
def test_probabilities_are_those_of_generate(config, options):
    model = tiny_model()
    for key, value in config.items():
        setattr(model.generation_config, key, value)
    options = SAMPLE | options
    theirs = model.generate(
        PROMPT,
        max_new_tokens=1,
        output_scores=True,
        return_dict_in_generate=True,
        pad_token_id=258,
        **options,
    )
    ours = Draw(model, options, [0]).probabilities(logits(model))
    torch.testing.assert_close(ours, theirs.scores[0].softmax(dim=-1))


@pytest.mark.parametrize("options", [{"top_k": 0}, {"top_k": 6, "temperature": 0.7}])
def test_tokens_are_drawn_as_often_as_they_are_probable(options):
    model, count = tiny_model(), 20_000
    draw = Draw(model, SAMPLE | options, range(count))
    drawn = draw(logits(model).expand(count, -1), range(count))
    probabilities = draw.probabilities(logits(model))[0].double()
    seen = torch.bincount(torch.tensor(drawn), minlength=len(probabilities)) / count
    assert seen[probabilities == 0].sum() == 0
    deviations = (seen - probabilities) / (probabilities * (1 - probabilities) / count).sqrt().clamp(min=1e-9)
    assert deviations.abs().max() < 4.5
    assert len(set(drawn)) >= 6


def test_tokens_of_one_answer_are_drawn_independently():
    """The second token of many answers is as probable behind each first one."""
    model, count = tiny_model(), 20_000
    draw = Draw(model, SAMPLE | {"top_k": 2}, range(count))
    first, second = (torch.tensor(draw(logits(model).expand(count, -1), range(count))) for _ in range(2))
    likely = int(logits(model).argmax())
    together = ((first == likely) & (second == likely)).double().mean()
    apart = (first == likely).double().mean() * (second == likely).double().mean()
    assert abs(float(together - apart)) < 0.012


def test_what_is_drawn_for_an_answer_depends_on_no_other():
    model = tiny_model()
    rows = logits(model).expand(3, -1) * torch.tensor([[1.0], [0.5], [0.1]])
    together, apart = Draw(model, SAMPLE, [7, 8, 9]), Draw(model, SAMPLE, [9, 8])
    drawn = [together(rows, [0, 1, 2]) for _ in range(20)]
    assert [apart(rows[[2, 1]], [0, 1]) for _ in range(20)] == [[c, b] for _, b, c in drawn]


def test_only_what_we_choose_as_generate_does_is_ours():
    model = tiny_model()
    assert chooser(model, {}, [0]) is most_probable
    assert isinstance(chooser(model, SAMPLE | {"temperature": 0.7}, [0]), Draw)
    for more in ({"repetition_penalty": 1.3}, {"typical_p": 0.9}, {"num_beams": 2}):
        assert chooser(model, more, [0]) is None
        assert chooser(model, SAMPLE | more, [0]) is None
