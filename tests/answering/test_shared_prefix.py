"""Questions decoded as branches of one row give the answers that they give alone."""

from __future__ import annotations

from itertools import chain

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lift_eval.adapters.gated_memory import record_gates
from lift_eval.answering import key_values, together
from lift_eval.answering import shared_prefix as branches
from lift_eval.answering.cache_rows import group_rows
from lift_eval.answering.decoding import Decoding
from lift_eval.answering.generate import answer
from lift_eval.answering.key_values import KeyValues
from tests.tiny_models import tiny_model, tiny_tokenizer
from tests.training.samples import moved_model, tokens

BEGINNING = tokens(300, 7).tolist()
PROMPTS = [[*BEGINNING, *tokens(3 + 5 * number % 11, number).tolist()] for number in range(9)]


@pytest.fixture
def branched(monkeypatch):
    """Counts how often branches are decoded."""
    calls = []
    whole = together.decode_behind_prefix

    def counted(*args: object, **kwargs: object) -> list[list[int]]:
        calls.append(args)
        return whole(*args, **kwargs)

    monkeypatch.setattr(together, "decode_behind_prefix", counted)
    return calls


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "phi3"])
def test_answers_are_those_of_one_at_a_time(architecture, attention, branched):
    model, tokenizer = tiny_model(architecture, attn_implementation=attention), tiny_tokenizer()
    decoding = Decoding(max_new_tokens=24)
    alone = [answer(model, tokenizer, [prompt], decoding, batch=1)[0] for prompt in PROMPTS]
    assert not branched
    assert answer(model, tokenizer, PROMPTS, decoding, batch=16) == alone
    assert len(branched) == 1
    assert len({one.text for one in alone}) > 1


@pytest.mark.parametrize("kind", ["lora", "gated_memory"])
def test_the_same_with_an_adapter(kind, branched):
    model, tokenizer = moved_model(kind).eval(), tiny_tokenizer()
    decoding = Decoding(max_new_tokens=16)
    alone = [answer(model, tokenizer, [prompt], decoding, batch=1)[0] for prompt in PROMPTS]
    assert answer(model, tokenizer, PROMPTS, decoding, batch=16) == alone
    assert branched


def test_every_branch_ends_for_itself(branched):
    """By a stop string, by an end token, or at the most tokens allowed; the others go on."""
    model, tokenizer = tiny_model(), tiny_tokenizer()
    free = answer(model, tokenizer, PROMPTS, Decoding(max_new_tokens=24), batch=16)
    stop = next(one.text[5:6] for one in free if len(one.text) > 5)
    decoding = Decoding(max_new_tokens=24, stop=(stop,))
    alone = [answer(model, tokenizer, [prompt], decoding, batch=1)[0] for prompt in PROMPTS]
    found = answer(model, tokenizer, PROMPTS, decoding, batch=16)
    assert found == alone
    assert {one.complete for one in found} == {True, False} or all(one.complete for one in found)
    assert not any(stop in one.text for one in found)

    widths: list[int] = []
    model.get_input_embeddings().register_forward_pre_hook(lambda _, ids: widths.append(ids[0].shape[1]))
    answer(model, tokenizer, PROMPTS, decoding, batch=16)
    assert widths[2] <= len(PROMPTS)
    assert widths[-1] < len(PROMPTS)  # finished branches have left


@pytest.mark.parametrize("setting", [{"repetition_penalty": 1.3}, {"no_repeat_ngram_size": 2}])
def test_other_ways_to_decode_are_left_to_generate(setting, branched):
    model, tokenizer = tiny_model(), tiny_tokenizer()
    answer(model, tokenizer, PROMPTS, Decoding(4, options=setting), batch=16)
    assert not branched
    for key, value in setting.items():
        setattr(model.generation_config, key, value)
    for options in ({}, {"do_sample": True}):
        answer(model, tokenizer, PROMPTS, Decoding(4, options=options), batch=16)
        assert not branched


# --- rows ----------------------------------------------------------------------------------------------------------

CUT = [
    [*BEGINNING[:100], *tokens(80, 50 + number // 3).tolist(), *tokens(4 + number % 3, number).tolist()]
    for number in range(8)
]
"""Prompts whose middle was cut at three places: rests longer than the beginning, alike for three at a time."""


def test_prompts_that_go_apart_early_have_rows_of_their_own():
    assert group_rows(PROMPTS) == [sorted(range(9), key=lambda index: PROMPTS[index])]
    rows = [set(row) for row in group_rows(CUT)]
    assert sorted(map(min, rows)) == [0, 3, 6]
    assert {0, 1, 2} in rows
    assert {6, 7} in rows


def test_rows_that_share_equally_much_have_equally_many_prompts():
    short = [[*BEGINNING, number] for number in range(20)]
    long = [[*BEGINNING, 100 + number, *tokens(len(BEGINNING) // 2, number).tolist()] for number in range(7)]
    rows = group_rows([*short, *long])
    sizes = {len(row) for row in rows}
    assert max(sizes) - min(sizes) <= 1
    assert sorted(chain(*rows)) == list(range(27))


def test_prompts_that_share_more_than_the_rest_stay_together():
    one, other = (tokens(4 * len(BEGINNING), 60 + number).tolist() for number in range(2))
    prompts = [
        [*BEGINNING, *chunk, number] for chunk, count in ((one, 2), (other, 6)) for number in range(count)
    ]
    assert sorted(sorted(row) for row in group_rows(prompts)) == [[0, 1], [2, 3, 4, 5, 6, 7]]


@pytest.mark.parametrize("batch", [1, 2, 16])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_rows_side_by_side_answer_as_one_prompt_at_a_time(attention, batch, branched):
    model, tokenizer = tiny_model(attn_implementation=attention), tiny_tokenizer()
    decoding = Decoding(max_new_tokens=12)
    alone = [answer(model, tokenizer, [prompt], decoding, batch=1)[0] for prompt in CUT]
    assert answer(model, tokenizer, CUT, decoding, batch=batch) == alone
    assert len({one.text for one in alone}) > 3
    assert branched


def test_the_same_when_read_in_pieces_and_when_memory_must_grow(monkeypatch):
    monkeypatch.setattr(branches, "CHUNK", 7)
    monkeypatch.setattr(branches, "SPARE", 0)
    monkeypatch.setattr(key_values, "SPARE", 1)
    model, tokenizer = tiny_model("qwen3"), tiny_tokenizer()
    decoding = Decoding(max_new_tokens=12)
    for prompts in (CUT, PROMPTS):
        alone = [answer(model, tokenizer, [prompt], decoding, batch=1)[0] for prompt in prompts]
        assert answer(model, tokenizer, prompts, decoding, batch=16) == alone


def test_rows_end_for_themselves_and_leave():
    model, tokenizer = tiny_model(), tiny_tokenizer()
    free = [answer(model, tokenizer, [prompt], Decoding(16), batch=1)[0].text for prompt in CUT]
    pieces = [[text[i : i + 2] for i in range(1, len(text) - 1)] for text in free]
    others = "\0".join(free[6:])
    decoding = Decoding(
        16, stop=tuple(next(each for each in row if each not in others) for row in pieces[:3])
    )
    alone = [answer(model, tokenizer, [prompt], decoding, batch=1)[0] for prompt in CUT]
    widths: list[int] = []
    model.get_input_embeddings().register_forward_pre_hook(lambda _, ids: widths.append(len(ids[0])))
    assert answer(model, tokenizer, CUT, decoding, batch=16) == alone
    assert {one.complete for one in alone} == {True, False}
    assert max(widths) == len(group_rows(CUT)) > widths[-1]


APART = [tokens(20 + 7 * number % 40, 90 + number).tolist() for number in range(10)]
"""Requests that begin unlike each other."""


@pytest.mark.parametrize("refilled", [1, 2, 4])
@pytest.mark.parametrize("prompts", [APART, CUT], ids=["apart", "cut"])
def test_a_finished_row_makes_room_for_the_next(prompts, refilled, monkeypatch, branched):
    monkeypatch.setattr(branches, "REFILLED", refilled)
    model, tokenizer = tiny_model(), tiny_tokenizer()
    free = [answer(model, tokenizer, [prompt], Decoding(24), batch=1)[0].text for prompt in prompts]
    decoding = Decoding(24, stop=(free[0][2:4], free[1][9:11], free[2][5:7]))
    alone = [answer(model, tokenizer, [prompt], decoding, batch=1)[0] for prompt in prompts]
    assert len({len(one.text) for one in alone}) > 2
    shapes: list[tuple[int, int]] = []
    model.get_input_embeddings().register_forward_pre_hook(lambda _, ids: shapes.append(tuple(ids[0].shape)))
    assert answer(model, tokenizer, prompts, decoding, batch=2) == alone
    assert branched
    assert max(rows for rows, _ in shapes) == 2
    if refilled == 4 and prompts is APART:  # rows stay full while others wait
        last_entry = max(place for place, (_, columns) in enumerate(shapes) if columns > 1)
        assert {rows for rows, columns in shapes[:last_entry] if columns == 1} == {2}


REQUESTS = [[*BEGINNING[:100], *tokens(8 + number % 9, 120 + number).tolist()] for number in range(60)]
"""Requests of which several stand in a row."""


@pytest.mark.parametrize(("batch", "rows"), [(4, {2, 3}), (16, {6, 8})])
def test_what_is_left_moves_together(batch, rows, monkeypatch, branched):
    """Into two rows while others wait; evenly into all that are left when none do."""
    moved: list[int] = []
    spread = KeyValues.spread

    def noted(memory: KeyValues, sources: Tensor, columns: Tensor, start: int) -> None:
        moved.append(len(sources))
        spread(memory, sources, columns, start)

    monkeypatch.setattr(KeyValues, "spread", noted)
    monkeypatch.setattr(branches, "REFILLED", 2)
    model, tokenizer = tiny_model(), tiny_tokenizer()
    free = [answer(model, tokenizer, [prompt], Decoding(24), batch=1)[0].text for prompt in REQUESTS]
    decoding = Decoding(24, stop=tuple(text[3:5] for number, text in enumerate(free) if number % 9))
    alone = [answer(model, tokenizer, [prompt], decoding, batch=1)[0] for prompt in REQUESTS]
    assert answer(model, tokenizer, REQUESTS, decoding, batch=batch) == alone
    assert branched
    assert set(moved) == rows


def test_the_beginning_is_read_once_however_many_rows_there_are():
    model, tokenizer = tiny_model(), tiny_tokenizer()
    read: list[int] = []
    model.get_input_embeddings().register_forward_pre_hook(lambda _, ids: read.append(ids[0].numel()))
    answer(model, tokenizer, CUT, Decoding(1), batch=2)
    assert sum(read) == 100 + 3 * 80 + sum(len(prompt) - 180 for prompt in CUT)


def test_padding_beside_branches_does_not_count_as_open_gates():
    model, tokenizer = moved_model("gated_memory").eval(), tiny_tokenizer()
    with record_gates(model) as record:
        answer(model, tokenizer, CUT, Decoding(3), batch=16)
    read = 100 + 3 * 80 + sum(len(prompt) - 180 for prompt in CUT)
    written = 2 * len(CUT)
    assert {int(count) for count in record._counts.values()} == {read + written}


@settings(max_examples=15, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 3), min_size=2, max_size=6),
    rests=st.lists(st.integers(1, 30), min_size=6, max_size=6),
    batch=st.integers(1, 4),
    middle=st.integers(0, 120),
)  # fmt: skip
def test_any_prompts_that_begin_alike_answer_as_one_at_a_time(cuts, rests, batch, middle):
    model, tokenizer = tiny_model(), tiny_tokenizer()
    prompts = [
        [*BEGINNING[:70], *tokens(middle, cut).tolist(), *tokens(rest, 20 + number).tolist()]
        for number, (cut, rest) in enumerate(zip(cuts, rests, strict=False))
    ]
    decoding = Decoding(5)
    alone = [answer(model, tokenizer, [prompt], decoding, batch=1)[0] for prompt in prompts]
    assert answer(model, tokenizer, prompts, decoding, batch=batch) == alone


def test_half_precision_runs():
    model, tokenizer = tiny_model(dtype=torch.bfloat16), tiny_tokenizer()
    assert len(answer(model, tokenizer, PROMPTS, Decoding(4), batch=16)) == len(PROMPTS)
