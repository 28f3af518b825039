"""What answers take that share nothing, by formula, against the count while each is given by itself."""

from __future__ import annotations

from typing import Any

import pytest

from lift_eval.answering.decoding import Decoding
from lift_eval.models.alone import answered_alone
from tests.store.runs import DOCUMENTS, QUESTIONS, lifter

METHODS: dict[str, dict[str, Any]] = {
    "reading": {"adapter__type": "none", "training__context_epochs": 0},
    "lora": {},
    "cartridge": {"adapter__type": "cartridge", "adapter__tokens": 8},
    "reading by the base": {"adapter__type": "weights", "decoding__adapter": "decoding_only"},
}


@pytest.mark.parametrize("name", METHODS)
def test_answers_that_are_given_one_at_a_time_take_what_the_formula_says(name: str) -> None:
    tool = lifter(None, **METHODS[name])
    document, decoding = DOCUMENTS[0], Decoding(4)
    with tool.lift(document) as session:
        prompts = [
            session.encode(tool.encoder.render(document, question), decoding) for question in QUESTIONS
        ]
        answers = [session.decode([prompt], decoding)[0] for prompt in prompts]
        tokens = [(len(prompt.ids), answer.tokens) for prompt, answer in zip(prompts, answers, strict=True)]
        learned = tool.recipe.trains
        reads = learned and tool.recipe.decoding.adapter == "always"
        found = answered_alone(tool.model, tokens, adapter_reads=reads, adapter_writes=learned)
        assert session.record.operations["answer"] == pytest.approx(found, rel=0.03)
