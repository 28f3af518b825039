"""The self-information of a text under a model."""

from __future__ import annotations

import pytest
import torch

from lift_eval.document import Document
from lift_eval.lifter.lifter import Lifter
from lift_eval.recipe import load_recipe
from lift_eval.training.forward import self_information
from tests.tiny_models import tiny_model, tiny_tokenizer

IDS = torch.randint(0, 256, (50,), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("window", [50, 99, 16, 2])
def test_each_token_is_scored_once_behind_half_a_window_or_more(window: int) -> None:
    model = tiny_model()
    with torch.no_grad():
        made = self_information(model, IDS, window)
        for token in range(1, len(IDS)):
            step = max(window // 2, 1)
            start = 0 if token < window else step * (-(-(token - window + 1) // step))
            assert token < window or token - start >= step
            likely = model(IDS[None, start:token]).logits[0, -1].log_softmax(-1)
            assert made[token - 1].item() == pytest.approx(-likely[IDS[token]].item(), abs=1e-4)


def test_the_trained_adapter_says_nothing_about_what_a_prompt_holds() -> None:
    changes = {
        "prompt.document": "compressed",
        "prompt.max_tokens": 300,
        "training.context_epochs": 2,
        "training.learning_rate": 0.1,
        "adapter.rank": 4,
    }
    lifter = Lifter(tiny_model(), tiny_tokenizer(), load_recipe("lora", changes))
    document = Document("".join(f"On day {day} the lamp was lit by Ann. " for day in range(20)), "Log")
    ids = torch.tensor([256, *tiny_tokenizer()(document.text)["input_ids"]])
    with torch.no_grad():
        expected = self_information(tiny_model(), ids, 300).tolist()
    with lifter.lift(document) as lifted:
        read = lifter.encoder.reader(document.text)
        assert [value for _, value in read] == pytest.approx(expected, abs=1e-4)
        assert [span for span, _ in read] == [(place, place + 1) for place in range(len(document.text))]
        lifted.answer(["Who?"])
        assert 0 < (lifted.record.kept or 0) < 1
