"""Settings of generation: what is honoured, and what is told before anything is trained."""

from __future__ import annotations

import pytest

from lift_eval.answering.decoding import Decoding
from lift_eval.errors import RecipeError
from lift_eval.harness.generation import read_decoding


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, Decoding(256, (), {"do_sample": False})),
        ({"until": "\n", "max_gen_toks": 8}, Decoding(8, ("\n",), {"do_sample": False})),
        ({"until": ["a", "", None], "max_new_tokens": 3}, Decoding(3, ("a",), {"do_sample": False})),
        ({"until": None, "temperature": None}, Decoding(256, (), {"do_sample": False})),
        ({"do_sample": False, "temperature": 1.0}, Decoding(256, (), {"do_sample": False})),
        ({"do_sample": False, "top_p": 0.9, "top_k": 5}, Decoding(256, (), {"do_sample": False})),
        ({"temperature": 0.5}, Decoding(256, (), {"temperature": 0.5, "do_sample": True})),
        (
            {"do_sample": True, "temperature": 0.2, "top_p": 0.95, "num_beams": 2},
            Decoding(256, (), {"do_sample": True, "temperature": 0.2, "top_p": 0.95, "num_beams": 2}),
        ),
    ],
)
def test_settings_are_those_of_lm_eval_and_transformers(settings, expected):
    assert read_decoding(settings, 256, "task") == expected


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"stop": ["a"]}, "'stop' cannot be set: use until"),
        ({"max_length": 99}, "'max_length' cannot be set: it would count the prompt too; use max_gen_toks"),
        ({"num_return_sequences": 2}, "'num_return_sequences' cannot be set: a question has one answer; leave it out"),
        ({"temprature": 1}, "unknown key 'temprature' (value 1); did you mean 'temperature'?"),
        ({"max_gen_toks": 0}, "'max_gen_toks' must be greater than or equal to 1, got 0"),
        ({"max_gen_toks": "many"}, "'max_gen_toks' must be a valid integer, got 'many'"),
        ({"top_p": 2}, "'top_p' must be less than or equal to 1, got 2"),
        ({"temperature": -1}, "'temperature' must be greater than or equal to 0, got -1"),
        ({"until": [1]}, "'until.0' must be a valid string, got 1"),
        (
            {"do_sample": True, "temperature": 0},
            "'do_sample: true' needs a 'temperature' above 0, got 0; leave do_sample out for greedy decoding",
        ),
    ],
)  # fmt: skip
def test_what_would_fail_or_be_ignored_is_refused(settings, told):
    with pytest.raises(RecipeError) as caught:
        read_decoding(settings, 256, "loogle_shortqa")
    assert str(caught.value) == f"generation settings of task 'loogle_shortqa': {told}"


def test_all_faults_come_together():
    with pytest.raises(RecipeError, match="2 faults"):
        read_decoding({"max_gen_toks": 0, "stop": "x"}, 256, "task")
