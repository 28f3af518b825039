"""Decoding: batches, shared beginnings, stops and sampling against one prompt at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lift_eval.answering.cache_rows import shared_length
from lift_eval.answering.decoding import Answer, Decoding, end_tokens
from lift_eval.answering.generate import answer
from lift_eval.answering.thinking import Thinking
from tests.adapters.helpers import adapted_model, open_gates
from tests.tiny_models import bigram_model, thinking_tokenizer, tiny_model, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
SHARED = "The keeper of the lighthouse lit the lamp every evening, except when it rained hard. "
PROMPTS = [
    TOKENIZER(SHARED + question)["input_ids"]
    for question in ("Who?", "When was the lamp lit by the keeper?", "Why not?", "Where", "Did it rain hard?")
]
APART = [TOKENIZER(text)["input_ids"] for text in ("Who?", "A much longer question", "x", "yes or no")]
ARCHITECTURES = ["llama", "qwen2", "qwen3", "phi3", "mistral", "gemma2", "gemma3"]


@torch.no_grad()
def greedy_ids(model, prompt: list[int], count: int) -> list[int]:
    """Greedy decoding without a cache, a batch or a mask: the meaning of the word."""
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def greedy(model, prompt: list[int], count: int) -> str:
    ids = greedy_ids(model, prompt, count)
    ends = [place for place, token in enumerate(ids) if token in end_tokens(model, TOKENIZER)]
    return TOKENIZER.decode(ids[: ends[0] if ends else None], skip_special_tokens=True)


def texts(answers: list[Answer]) -> list[str]:
    return [each.text for each in answers]


# --- batches -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompts", [PROMPTS, APART], ids=["shared", "apart"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_batch_answers_as_one_prompt_at_a_time(architecture, attention, prompts):
    if (architecture, attention) == ("gemma2", "sdpa"):
        pytest.skip("transformers has no sdpa attention for Gemma 2")
    model = tiny_model(architecture, attn_implementation=attention)
    expected = [greedy(model, prompt, 8) for prompt in prompts]
    assert len(set(expected)) > 1
    for batch in (2, 16):
        assert texts(answer(model, TOKENIZER, prompts, Decoding(8), batch=batch)) == expected


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "mistral"])
def test_the_common_beginning_is_computed_once_and_changes_nothing(architecture):
    model = tiny_model(architecture)
    computed: list[int] = []
    model.register_forward_pre_hook(
        lambda _, __, kwargs: computed.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    shared = answer(model, TOKENIZER, PROMPTS, Decoding(12), batch=16)
    cost = sum(computed)
    computed.clear()
    assert [answer(model, TOKENIZER, [prompt], Decoding(12), batch=1)[0] for prompt in PROMPTS] == shared
    assert cost <= sum(computed) - (len(PROMPTS) - 1) * len(SHARED) + 20


@pytest.mark.parametrize("kind", ["lora", "gated_memory"])
def test_an_adapted_model_answers_through_the_same_paths(kind):
    model = adapted_model(kind)
    if kind == "gated_memory":
        open_gates(model)
    expected = [greedy(model, prompt, 8) for prompt in PROMPTS]
    assert texts(answer(model, TOKENIZER, PROMPTS, Decoding(8), batch=16)) == expected


def test_answers_equal_those_of_generate():
    model = tiny_model()
    for prompt in (*PROMPTS, *APART):
        ids = model.generate(
            torch.tensor([prompt]), max_new_tokens=10, do_sample=False, pad_token_id=TOKENIZER.pad_token_id
        )
        expected = TOKENIZER.decode(ids[0, len(prompt) :], skip_special_tokens=True)
        assert texts(answer(model, TOKENIZER, [prompt], Decoding(10), batch=1)) == [expected]


def test_equal_prompts_no_prompts_and_prompts_that_begin_each_other():
    model = tiny_model()
    assert answer(model, TOKENIZER, [], Decoding(4), batch=2) == []
    nested = [PROMPTS[0], PROMPTS[0], PROMPTS[0][:-2], PROMPTS[0][:70], PROMPTS[0][:1]]
    assert texts(answer(model, TOKENIZER, nested, Decoding(6), batch=8)) == [
        greedy(model, p, 6) for p in nested
    ]
    assert texts(answer(model, TOKENIZER, nested[:4], Decoding(6), batch=8)) == [
        greedy(model, p, 6) for p in nested[:4]
    ]


def test_a_tokenizer_without_a_padding_token_will_do():
    bare = tiny_tokenizer()
    bare.pad_token = None
    model = tiny_model()
    assert texts(answer(model, bare, APART, Decoding(8), batch=4)) == [greedy(model, p, 8) for p in APART]


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [([[1, 2, 3], [1, 2, 4]], 2), ([[1, 2], [1, 2, 3]], 1), ([[1, 2], [1, 2]], 1), ([[1], [1, 2]], 0), ([[1], [2]], 0)],
)  # fmt: skip
def test_the_shared_beginning_leaves_each_prompt_a_token(prompts, expected):
    assert shared_length(prompts) == expected


# --- ends ----------------------------------------------------------------------------------------------------------


def lettered_model():
    """A model that writes letters only, so that its answers can be cut at any token."""
    model = tiny_model()
    letters = set(TOKENIZER("abcdefghijklmnopqrstuvwxyz")["input_ids"])
    others = [token for token in range(model.config.vocab_size) if token not in letters]
    with torch.no_grad():
        model.lm_head.weight[others] = 0
    return model


def prompt_and_answer(model) -> tuple[list[int], list[int]]:
    """A prompt and the ten tokens of its greedy answer, of which the first six differ."""
    for seed in range(100):
        prompt = torch.randint(0, 256, (12,), generator=torch.Generator().manual_seed(seed)).tolist()
        ids = greedy_ids(model, prompt, 10)
        if len(set(ids[:6])) == 6:
            return prompt, ids
    raise AssertionError("no such prompt")


@pytest.mark.parametrize("where", ["generation config", "generation config's list", "tokenizer"])
def test_either_source_of_end_tokens_ends_an_answer(where):
    """Llama 3 ends a turn with either of two tokens, and no one place knows both."""
    model, tokenizer = lettered_model(), tiny_tokenizer()
    prompt, ids = prompt_and_answer(model)
    if where == "tokenizer":
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(ids[4])
    else:
        model.generation_config.eos_token_id = ids[4] if where == "generation config" else [ids[4], 257]
    assert set(end_tokens(model, tokenizer)) >= {ids[4], 257}
    assert answer(model, tokenizer, [prompt], Decoding(10), batch=1) == [
        Answer(TOKENIZER.decode(ids[:4]), True)
    ]


def test_a_model_without_end_tokens_writes_on():
    model, tokenizer = lettered_model(), tiny_tokenizer()
    model.generation_config.eos_token_id, tokenizer.eos_token = None, None
    prompt, ids = prompt_and_answer(model)
    assert end_tokens(model, tokenizer) == []
    assert answer(model, tokenizer, [prompt], Decoding(10), batch=1) == [Answer(TOKENIZER.decode(ids), False)]


def test_a_stop_string_ends_an_answer_even_across_tokens_and_is_not_part_of_it():
    model = lettered_model()
    prompt, ids = prompt_and_answer(model)
    text = TOKENIZER.decode(ids)
    stop = (text[5:7], text[3:5], "never written")
    assert answer(model, TOKENIZER, [prompt], Decoding(10, stop), batch=1) == [Answer(text[:3], True)]


def test_a_stop_string_ends_the_work_too():
    model = lettered_model()
    prompt, ids = prompt_and_answer(model)
    steps: list[int] = []
    model.register_forward_hook(lambda *_: steps.append(1))
    answer(model, TOKENIZER, [prompt], Decoding(10, (TOKENIZER.decode(ids)[3:5],)), batch=1)
    assert len(steps) == 5


def test_a_stop_string_in_the_prompt_does_not_count():
    model = lettered_model()
    prompt, ids = prompt_and_answer(model)
    stop = (TOKENIZER.decode(prompt[-2:]), TOKENIZER.decode([prompt[-1], ids[0]]))
    assert answer(model, TOKENIZER, [prompt], Decoding(3, stop), batch=1)[0].text == TOKENIZER.decode(ids[:3])


def test_rows_stop_on_their_own():
    model = lettered_model()
    alone = [
        answer(model, TOKENIZER, [p], Decoding(12, ("e", "\n", "t")), batch=1)[0] for p in PROMPTS + APART
    ]
    assert answer(model, TOKENIZER, PROMPTS + APART, Decoding(12, ("e", "\n", "t")), batch=16) == alone


def test_an_answer_cut_off_at_the_most_tokens_is_marked():
    model = lettered_model()
    prompt, ids = prompt_and_answer(model)
    assert not answer(model, TOKENIZER, [prompt], Decoding(4), batch=1)[0].complete
    model.generation_config.eos_token_id = ids[4]
    assert not answer(model, TOKENIZER, [prompt], Decoding(4), batch=1)[0].complete
    assert answer(model, TOKENIZER, [prompt], Decoding(5), batch=1)[0].complete


def test_a_stop_string_that_is_a_special_token_ends_an_answer():
    """A task may name <|end|>, which is no end token of the model and does not show in the text."""
    model, tokenizer = lettered_model(), tiny_tokenizer()
    prompt, ids = prompt_and_answer(model)
    tokenizer.add_special_tokens({"additional_special_tokens": [tokenizer.convert_ids_to_tokens(ids[4])]})
    stop = (tokenizer.decode([ids[4]]),)
    expected = [Answer(TOKENIZER.decode(ids[:4]), True)] * 2
    assert answer(model, tokenizer, [prompt, prompt], Decoding(10, stop), batch=2) == expected


# --- sampling ------------------------------------------------------------------------------------------------------

SAMPLING = Decoding(12, options={"do_sample": True, "temperature": 1.5})


def sampled(seed: int, decoding: Decoding = SAMPLING, model=None) -> list[str]:
    return texts(answer(model or tiny_model(), TOKENIZER, PROMPTS, decoding, batch=16, seed=seed))


@pytest.mark.parametrize(
    "decoding", [SAMPLING, replace(SAMPLING, options={**SAMPLING.options, "typical_p": 0.9})]
)
def test_sampling_follows_the_seed_alone(decoding):
    """Whether we choose or ``generate`` does."""
    torch.manual_seed(3)
    first, state = sampled(0, decoding), torch.get_rng_state()
    torch.manual_seed(4)
    assert sampled(0, decoding) == first != sampled(1, decoding)
    torch.manual_seed(3)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("prompts", [PROMPTS, APART], ids=["shared", "apart"])
@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_what_is_sampled_does_not_depend_on_the_batch(architecture, prompts):
    model = tiny_model(architecture)
    alone = [
        answer(model, TOKENIZER, [prompt], SAMPLING, batch=1, seed=5 + number)[0]
        for number, prompt in enumerate(prompts)
    ]
    assert len({one.text for one in alone}) > 2
    for batch in (1, 2, 16):
        assert answer(model, TOKENIZER, prompts, SAMPLING, batch=batch, seed=5) == alone
    again = answer(model, TOKENIZER, [prompts[0]] * 4, SAMPLING, batch=16, seed=5)
    assert len({one.text for one in again}) == 4  # what is asked several times has several answers


def test_sampling_is_as_hot_as_asked():
    cold = Decoding(12, options={"do_sample": True, "temperature": 1e-4})
    assert sampled(0, cold) == texts(answer(tiny_model(), TOKENIZER, PROMPTS, Decoding(12), batch=16))


def test_sampling_keeps_the_limits_of_the_model_s_own_generation_config():
    """As lm-eval's hf does: a checkpoint that says top_k 1 samples greedily."""
    model = tiny_model()
    model.generation_config.top_k = 1
    assert sampled(0, SAMPLING, model) == texts(
        answer(tiny_model(), TOKENIZER, PROMPTS, Decoding(12), batch=16)
    )


def test_greedy_means_greedy_whatever_the_generation_config_says():
    model = tiny_model()
    expected = answer(model, TOKENIZER, PROMPTS, Decoding(12), batch=16)
    model.generation_config.do_sample, model.generation_config.temperature = True, 5.0
    assert answer(model, TOKENIZER, PROMPTS, Decoding(12), batch=16) == expected


def test_the_model_is_left_without_gradients_and_the_caller_s_modes_alone():
    model = tiny_model()
    answer(model, TOKENIZER, APART, Decoding(2), batch=4)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    loss = model(input_ids=torch.tensor([APART[1]]), labels=torch.tensor([APART[1]])).loss
    loss.backward()  # nothing that answering left behind stands in the way of training


# --- at least so many tokens ---------------------------------------------------------------------------------------


def test_a_stop_string_that_is_a_token_is_held_back_at_first():
    model, prompt = tiny_model(seed=1), PROMPTS[0]
    (first,) = greedy_ids(model, prompt, 1)
    stop = TOKENIZER.decode([first])
    assert answer(model, TOKENIZER, [prompt], Decoding(8, (stop,)), batch=1) == [Answer("", True)]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt])).logits[0, -1]
    logits[[first, *end_tokens(model, TOKENIZER)]] = -torch.inf
    second = int(logits.argmax())
    after = greedy_ids(model, [*prompt, second], 7)
    kept = after[: after.index(first)] if first in after else after
    (found,) = answer(model, TOKENIZER, [prompt], Decoding(8, (stop,), {"min_new_tokens": 1}), batch=1)
    assert found == Answer(TOKENIZER.decode([second, *kept]), first in after)


def test_a_longer_stop_string_does_not_count_within_the_first_tokens():
    model = tiny_model()
    whole = greedy(model, PROMPTS[0], 8)
    stop = whole[:2]
    assert stop not in whole[2:]
    (found,) = answer(model, TOKENIZER, [PROMPTS[0]], Decoding(8, (stop,), {"min_new_tokens": 2}), batch=1)
    assert found == Answer(whole, False)


# --- thinking ------------------------------------------------------------------------------------------------------


def thinks(text: str, prompts: tuple[str, ...], *, most: int = 20, **options) -> list[Answer]:
    """Answers of a model that writes a text by heart."""
    tokenizer = thinking_tokenizer()
    decoding = Decoding(most, ("\n",), options, Thinking.of(tokenizer))
    ids = [tokenizer(prompt)["input_ids"] for prompt in prompts]
    return answer(bigram_model(text), tokenizer, ids, decoding, batch=4)


@pytest.mark.parametrize("options", [{}, {"num_beams": 2}])
@pytest.mark.parametrize("prompts", [("Who:",), (f"{SHARED}Who:", f"{SHARED}What:")], ids=["alone", "shared"])
def test_thinking_is_no_part_of_an_answer_and_no_stop_string_counts_in_it(prompts, options):
    found = thinks(":<think>\nb</think>\tAd\n", prompts, **options)
    assert found == [Answer("Ad", complete=True, thinking_tokens=4)] * len(prompts)


def test_thinking_that_the_prompt_has_begun_is_thinking_too():
    known = "<think>\nb</think>Ad\n"
    assert thinks(known, ("Who:<think>",)) == [Answer("Ad", complete=True, thinking_tokens=3)]
    assert thinks(known, ("Who:<think>",), most=2) == [Answer("", complete=False, thinking_tokens=2)]


def test_an_answer_without_thinking_is_as_ever():
    assert thinks(":Ad\n", ("Who:",)) == [Answer("Ad", complete=True)]


def test_an_answer_that_ends_within_its_thinking_is_empty_and_not_complete():
    assert thinks(":<think>\nb</think>Ad\n", ("Who:",), most=3) == [
        Answer("", complete=False, thinking_tokens=3)
    ]
