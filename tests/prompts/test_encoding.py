"""Beginnings that are remembered change no token of any text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from lift_eval.document import Document
from lift_eval.models.loading import BUNDLED, load_tokenizer
from lift_eval.prompts import encoding
from lift_eval.prompts.encoding import PATTERNS, TextEncoder, cuts_between_words
from lift_eval.prompts.prompt import PromptEncoder
from lift_eval.recipe import PromptSettings
from tests.tiny_models import tiny_tokenizer

TEXT = (
    "The keeper's lamp was lit in 1871 by Ann; it's still there.\n\nWe'll see: 12,345 ships -- 灯 and é.  "
    * 3
)


def trained(*parts: pre_tokenizers.PreTokenizer, bos: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level BPE with merges learned from the text."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(list(parts)) if len(parts) > 1 else parts[0]
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<bos>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    backend.train_from_iterator([TEXT], trainer)
    steps = [processors.ByteLevel(trim_offsets=not bos)]
    if bos:
        steps.append(processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 0)]))
    backend.post_processor = processors.Sequence(steps)
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<bos>")


def split(pattern: str) -> list[pre_tokenizers.PreTokenizer]:
    return [
        pre_tokenizers.Split(Regex(pattern), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]


GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
TOKENIZERS = {
    "bundled": load_tokenizer(str(BUNDLED)),
    "gpt2": trained(GPT2),
    **{f"pattern {number}": trained(*split(each), bos=True) for number, each in enumerate(sorted(PATTERNS))},
}


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(encoding, "MIN_CHARACTERS", 8)
    monkeypatch.setattr(encoding, "OVERLAP", 12)


def whole(
    tokenizer: PreTrainedTokenizerFast, text: str, *, special: bool
) -> tuple[list[int], list[tuple[int, int]]]:
    found = tokenizer(text, add_special_tokens=special, return_offsets_mapping=True)
    return list(found["input_ids"]), list(found["offset_mapping"])


PIECES = st.lists(
    st.sampled_from(
        ["word", "The", "it's", "'s", " ", "  ", "\n", " \n ", "12", "1871", ",", "..", "é", "灯", "<bos>", "\t", "x y"]
    )
    | st.text(max_size=3),
    min_size=4,
    max_size=40,
)  # fmt: skip


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=40, deadline=None)
@given(
    beginning=PIECES,
    ends=st.lists(PIECES, min_size=2, max_size=3),
    spaced=st.booleans(),
    special=st.booleans(),
)
def test_tokens_and_spans_are_those_of_the_whole_text(name, beginning, ends, spaced, special):
    tokenizer = TOKENIZERS[name]
    encode = TextEncoder(tokenizer)
    first = (" " if spaced else "").join(beginning)
    for end in ends:
        text = first + "".join(end)
        if not text.isprintable() and "\ud800" <= max(text) <= "\udfff":
            continue
        found = encode(text, shared=len(first), special=special)
        assert (found.ids, found.spans) == whole(tokenizer, text, special=special)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_beginning_is_encoded_once(name, monkeypatch):
    encode, read = TextEncoder(TOKENIZERS[name]), []
    plain = encode._whole
    monkeypatch.setattr(
        encode, "_whole", lambda text, *, special: read.append(len(text)) or plain(text, special=special)
    )
    for question in ("Who?", "Where was it?", "Why"):
        encode(TEXT + question, shared=len(TEXT), special=False)
    assert sum(length > len(TEXT) / 2 for length in read) == 1


def test_prompts_are_those_of_an_encoder_that_remembers_nothing(monkeypatch):
    tokenizer, document = TOKENIZERS["bundled"], Document(TEXT, "The lamp")
    for truncate in ("prompt", "document"):
        recipe = PromptSettings(max_tokens=120, question_tokens=60, truncate=truncate)
        tool = PromptEncoder(tokenizer, recipe, 1000)
        prompts = [tool.render(document, question) for question in ("Who lit it?", "When?", "W" * 30)]
        found = [tool.encode(prompt, 8) for prompt in prompts]
        with monkeypatch.context() as patch:
            patch.setattr(encoding, "MIN_CHARACTERS", 10**9)
            assert found == [tool.encode(prompt, 8) for prompt in prompts]


def test_a_tokenizer_that_may_look_across_the_cut_is_given_the_whole_text():
    assert all(map(cuts_between_words, TOKENIZERS.values()))
    assert not cuts_between_words(tiny_tokenizer())  # it does not cut into words
    assert not cuts_between_words(trained(pre_tokenizers.ByteLevel(add_prefix_space=True)))
    assert not cuts_between_words(trained(*split(r"\w+ \w+|.")))
    normalizing = trained(GPT2)
    normalizing.backend_tokenizer.normalizer = normalizers.NFC()
    assert not cuts_between_words(normalizing)
    for token in (AddedToken("a b"), AddedToken("ab", rstrip=True), AddedToken("ab", single_word=True)):
        adding = trained(GPT2)
        adding.add_tokens([token])
        assert not cuts_between_words(adding)
