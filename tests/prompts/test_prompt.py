"""Prompts: rendering, special tokens, and what truncation in the middle keeps."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizer

from lift_eval.document import Document
from lift_eval.errors import CheckpointError, DocumentError, RecipeError
from lift_eval.prompts.prompt import Prompt, PromptEncoder
from lift_eval.recipe import PromptSettings
from tests.tiny_models import BOS, tiny_tokenizer

DOCUMENT = Document("The lamp was lit by Ann. " * 40, "The Lighthouse")
DOTS = tiny_tokenizer()("...")["input_ids"]
BOS_ID = tiny_tokenizer().bos_token_id


def encoder(
    window: int = 10_000, *, adds_bos: bool = False, chat: bool = False, **settings: object
) -> PromptEncoder:
    return PromptEncoder(
        tiny_tokenizer(adds_bos=adds_bos, chat_template=chat), PromptSettings(**settings), window
    )


def text_of(ids: list[int]) -> str:
    return tiny_tokenizer().decode(ids)


def parts_of(prompt: Prompt) -> list[str]:
    return [prompt.text[start:stop] for start, stop in prompt.places]


# --- rendering -----------------------------------------------------------------------------------------------------


def test_the_prompt_of_loogle_is_as_published():
    prompt = encoder().render(DOCUMENT, "Who lit the lamp?")
    assert prompt.text == (
        f"The article The Lighthouse: \n{DOCUMENT.text}\nPlease answer the question based on The Lighthouse.\n"
        "Question: Who lit the lamp?\nAnswer: "
    )
    assert parts_of(prompt) == [DOCUMENT.text]


def test_a_closed_book_prompt_holds_no_document():
    prompt = encoder().render(DOCUMENT, "Who?", closed_book=True)
    assert prompt.text == 'Please answer the question based on "The Lighthouse".\nQuestion: Who?\nAnswer: '
    assert encoder().encode(prompt, 8).kept == 0.0


def test_the_document_is_put_as_it_is_even_if_it_looks_like_a_template():
    document = Document("{{ question }} {% raw %} <|end|> \\n")
    prompt = encoder().render(document, "{{ 1 + 1 }}?")
    assert parts_of(prompt) == [document.text]
    assert "{{ 1 + 1 }}?" in prompt.text


@pytest.mark.parametrize(
    "template",
    [
        "{{ document }}{{ question.__class__.__mro__ }}",
        "{{ document }}{{ question.nothing.more }}",
        "{{ document }}{{ question + 1 }}",
        "{{ document }}{{ question }}{{ 1 / 0 }}",
        "{{ document }}{{ question }}{% for n in range(10 ** 9) %}{% endfor %}",
    ],
)
def test_a_template_that_fails_or_reaches_out_is_told_in_one_line(template):
    with pytest.raises(RecipeError, match="a template fails on this document") as refused:
        encoder(template=template).render(DOCUMENT, "Who?")
    assert "\n" not in str(refused.value)


def test_a_template_may_show_the_document_twice():
    prompt = encoder(template="{{ document }}|{{ question }}|{{ document }}").render(
        Document("Text."), "Why?"
    )
    assert prompt.text == "Text.|Why?|Text."
    assert parts_of(prompt) == ["Text.", "Text."]


def test_the_chat_template_wraps_the_prompt_and_the_document_is_still_found():
    wrapped = encoder(chat=True, chat_template=True, system="Be brief.").render(DOCUMENT, "Who?")
    assert wrapped.text.startswith(f"{BOS}<|start|>system\nBe brief.<|end|>\n<|start|>user\nThe article")
    assert wrapped.text.endswith("Answer: <|end|>\n<|start|>assistant\n")
    assert parts_of(wrapped) == [DOCUMENT.text]


def test_without_the_chat_template_the_system_message_stands_right_before_the_prompt():
    plain = encoder().render(DOCUMENT, "Who?")
    assert encoder(system="Be brief. ").render(DOCUMENT, "Who?").text == f"Be brief. {plain.text}"


def test_a_template_that_refuses_a_system_message_is_not_given_it_and_one_that_fails_is_told():
    refusing = encoder(chat=True, chat_template=True, system="Be brief.")
    refusing.tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{{ m.content }}{% endfor %}{{ effort }}"
    )
    plain = encoder().render(DOCUMENT, "Who?").text
    assert refusing.render(DOCUMENT, "Who?").text == plain
    refusing.tokenizer.chat_template = "{{ raise_exception('nothing') }}"
    with pytest.raises(RecipeError, match="the chat template fails: nothing"):
        refusing.render(DOCUMENT, "Who?")


def test_the_chat_template_is_given_the_recipe_s_variables():
    told = encoder(chat=True, chat_template=True, chat_template_args={"effort": "low"}, enable_thinking=False)
    told.tokenizer.chat_template = "{{ effort }} {{ enable_thinking }}"
    assert told.in_chat("Who?") == "low False"


def test_around_finds_the_document_in_a_finished_prompt_and_takes_it_out():
    prompt = Prompt.around(f"Read: {DOCUMENT.text} Who?", DOCUMENT)
    assert prompt.places == ((6, 6 + len(DOCUMENT.text)),)
    assert prompt.without_document() == Prompt("Read:  Who?")
    assert prompt.with_document("[it]").text == "Read: [it] Who?"
    assert Prompt.around("Who?", DOCUMENT) == Prompt("Who?")
    assert Prompt.around("Who?", None) == Prompt("Who?", located=False)


LINES = Document("  The lamp was lit.\n\nBy Ann,\tat nine.\u3000灯台。\n " * 9)


@pytest.mark.parametrize(
    "change",
    [
        str.strip,
        lambda text: " ".join(text.split()),
        lambda text: "".join(text.split()),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace(" ", "\u00a0\n"),
    ],
)
def test_the_document_is_found_whatever_became_of_its_white_space(change):
    text = change(LINES.text)
    prompt = Prompt.around(f"Read:{text}|Who?", LINES)
    assert [part.split() for part in parts_of(prompt)] == [text.split()]
    assert "".join(prompt.without_document().text.split()) == "Read:|Who?"
    assert encoder().encode(prompt, 8).kept == 1.0


def test_every_place_of_the_document_is_found_and_taken_out():
    prompt = Prompt.around(f"{DOCUMENT.text}\nWhen? Noon.\n\n{DOCUMENT.text.strip()}\nWho?", DOCUMENT)
    assert parts_of(prompt) == [DOCUMENT.text, DOCUMENT.text.strip()]
    assert prompt.without_document() == Prompt("\nWhen? Noon.\n\n\nWho?")


@pytest.mark.parametrize(
    ("text", "located"),
    [
        (DOCUMENT.text.upper(), False),
        (DOCUMENT.text[:-100], False),
        (DOCUMENT.text.replace(" was lit", "&nbsp;was lit"), True),  # not a piece of it is left
        ("The lamp was lit.", True),
        ("", True),
    ],
)
def test_a_prompt_with_parts_of_the_document_is_not_closed_book(text, located):
    prompt = Prompt.around(f"{text}\nWho?", DOCUMENT)
    assert prompt == Prompt(f"{text}\nWho?", located=located)
    assert encoder().encode(prompt, 8).kept == (0.0 if located else None)


# --- special tokens ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("adds_bos", "bos", "text", "expected"),
    [
        (True, None, "Who?", 1),  # the tokenizer's own way
        (False, None, "Who?", 0),
        (True, None, f"{BOS}Who?", 1),  # a chat template wrote it: not again
        (True, True, "Who?", 1),
        (True, True, f"{BOS}Who?", 1),
        (True, False, "Who?", 0),
        (True, False, f"{BOS}Who?", 1),
    ],
)
def test_a_prompt_begins_with_one_bos_or_none(adds_bos, bos, text, expected):
    ids = encoder(adds_bos=adds_bos, bos=bos).encode(Prompt(text), 8).ids
    assert ids.count(BOS_ID) == expected
    assert (ids[0] == BOS_ID) == bool(expected)


# --- truncation of prompts -----------------------------------------------------------------------------------------


def test_the_published_way_cuts_the_middle_of_the_whole_prompt():
    tool = encoder(adds_bos=True, max_tokens=300)
    prompt = tool.render(DOCUMENT, "Who lit the lamp?")
    whole = tool.tokenizer(prompt.text)["input_ids"]
    encoded = tool.encode(prompt, 50)
    assert encoded.ids == [*whole[: 150 - len(DOTS)], *DOTS, *whole[-150:]]
    assert encoded.ids[0] == BOS_ID


def test_the_window_leaves_room_for_the_answer():
    assert len(encoder(400).encode(encoder().render(DOCUMENT, "Who?"), 120).ids) == 280
    assert len(encoder(400, max_tokens=200).encode(encoder().render(DOCUMENT, "Who?"), 120).ids) == 200


def test_questions_that_fit_their_room_share_one_cut_of_the_document():
    tool = encoder(max_tokens=500, truncate="document", question_tokens=200)
    encoded = [tool.encode(tool.render(DOCUMENT, q), 8) for q in ("Who?", "Where was the lamp?", "W" * 60)]
    assert len({prompt.cut for prompt in encoded}) == 1
    shared = text_of(encoded[0].ids).index("Question: ")
    assert len({tuple(prompt.ids[:shared]) for prompt in encoded}) == 1
    assert all(text_of(prompt.ids).endswith("Answer: ") for prompt in encoded)
    longer = tool.encode(tool.render(DOCUMENT, "W" * 250), 8)
    assert longer.cut != encoded[0].cut
    assert len(longer.ids) == 500
    assert "W" * 250 in text_of(longer.ids)


@pytest.mark.parametrize("truncate", ["prompt", "document"])
@pytest.mark.parametrize("limit", [500, 5000])
def test_what_comes_before_the_question_is_the_same_for_all_questions(truncate, limit):
    tool = encoder(max_tokens=limit, truncate=truncate, question_tokens=200)
    encoded = [tool.encode(tool.render(DOCUMENT, q), 8) for q in ("Who?", "Where was the lamp?", "W" * 60)]
    (before,) = {prompt.before_question for prompt in encoded}
    (same,) = {text_of(prompt.ids[:before]) for prompt in encoded}
    if limit == 5000 or truncate == "document":
        assert same.endswith("lit by Ann. ")
        assert text_of(encoded[0].ids[before:]).startswith("\nPlease answer")
        assert ("..." in same) == (limit == 500)
    else:
        assert before == 250 - len(DOTS)
    assert tool.encode(tool.render(DOCUMENT, "Who?", closed_book=True), 8).before_question == 0


def test_a_question_is_never_cut_where_the_document_alone_may_be():
    tool = encoder(max_tokens=400, truncate="document", question_tokens=10)
    question = "".join(chr(97 + i % 26) for i in range(200))
    assert question in text_of(tool.encode(tool.render(DOCUMENT, question), 8).ids)


@pytest.mark.parametrize("truncate", ["prompt", "document"])
@pytest.mark.parametrize("closed_book", [False, True])
def test_a_window_smaller_than_the_question_is_an_error(truncate, closed_book):
    tool = encoder(120, truncate=truncate)
    with pytest.raises(DocumentError) as caught:
        tool.encode(tool.render(DOCUMENT, "Who lit the lamp?" * 10, closed_book=closed_book), 50)
    assert "but only 70 fit (window 120, 50 reserved for the answer, prompt.max_tokens 7800)" in str(
        caught.value
    )
    with pytest.raises(DocumentError, match="only 0 fit"):
        tool.encode(tool.render(DOCUMENT, "Who?", closed_book=closed_book), 200)


def test_two_places_of_the_document_are_cut_alike_and_what_either_keeps_counts():
    text = f"{DOCUMENT.text}\nWhen? Noon.\n\n{DOCUMENT.text}\nWho?"
    prompt = Prompt.around(text, DOCUMENT)
    apart = encoder(max_tokens=500, truncate="document", question_tokens=10).encode(prompt, 8)
    first, examples, second, question = text_of(apart.ids).replace("\n\n", "\n").split("\n")
    assert (examples, question) == ("When? Noon.", "Who?")
    assert abs(len(first) - len(second)) <= 1
    assert apart.kept == pytest.approx((len(first) - len("...")) / len(DOCUMENT.text), abs=0.01)
    assert text_of(apart.ids[: apart.before_question]) == first
    # Cut as a whole it has the beginning of the first and the end of the second.
    assert encoder(max_tokens=700).encode(prompt, 8).kept == pytest.approx(0.69, abs=0.01)
    assert encoder(max_tokens=1100).encode(prompt, 8).kept == 1.0


@pytest.mark.parametrize("truncate", ["prompt", "document"])
def test_a_prompt_whose_document_is_not_located_is_cut_in_its_own_middle(truncate):
    tool = encoder(max_tokens=300, truncate=truncate)
    for prompt in (
        Prompt.around(f"{DOCUMENT.text.upper()}\nWho?", DOCUMENT),
        Prompt.around("W" * 900, None),
    ):
        tool.check_room(prompt, 8)
        encoded = tool.encode(prompt, 8)
        whole = tool.plain_ids(prompt.text)
        assert encoded.ids == [*whole[: 150 - len(DOTS)], *DOTS, *whole[-150:]]
        assert encoded.kept is None
        with pytest.raises(DocumentError, match="of the prompt only 0 fit"):
            encoder(100, truncate=truncate).check_room(prompt, 100)


@settings(deadline=None, max_examples=60)
@given(
    before=st.text("ab é", max_size=30),
    document=st.text("xyz 灯🗼", min_size=1, max_size=120).filter(str.strip),
    after=st.text("cd ü", max_size=30),
    limit=st.integers(1, 260),
    truncate=st.sampled_from(["prompt", "document"]),
    adds_bos=st.booleans(),
)  # fmt: skip
def test_kept_and_cut_against_a_count_of_characters(before, document, after, limit, truncate, adds_bos):
    """One token is one byte here, so that every character of the result can be traced to its place."""
    tool = encoder(limit + 5, adds_bos=adds_bos, truncate=truncate, question_tokens=20)
    place_of = (len(before), len(before) + len(document))
    prompt = Prompt(before + document + after, (place_of,))
    place = [i for i, char in enumerate(prompt.text) for _ in char.encode()]
    inside = [place_of[0] <= i < place_of[1] for i in place]
    rest = inside.count(False) + adds_bos
    try:
        encoded = tool.encode(prompt, 5)
    except DocumentError:
        room = limit - (max(20 - rest, 0) if truncate == "document" and limit > 20 else 0)
        assert room - rest < 2 * len(DOTS)
        return
    assert len(encoded.ids) <= limit
    whole = tool.tokenizer(prompt.text)["input_ids"]
    if encoded.ids == whole:
        assert (encoded.kept, encoded.cut) == (1.0, (0, 0))
        return
    if truncate == "prompt":
        first, last = limit // 2 - len(DOTS), limit - limit // 2
        assert encoded.ids == [*whole[:first], *DOTS, *whole[len(whole) - last :]]
        gone = range(first - adds_bos, len(place) - last)
    else:
        room = len(encoded.ids) - rest
        first, last = room // 2 - len(DOTS), room - room // 2
        start, stop = inside.index(True), inside.index(True) + inside.count(True)
        assert encoded.ids[: adds_bos + start] == whole[: adds_bos + start]
        gone = range(start + first, stop - last)
    lost = sorted({place[i] - place_of[0] for i in gone if i >= 0 and inside[i]})
    assert encoded.cut == (lost[0], lost[-1] + 1) if lost else encoded.cut[0] == encoded.cut[1]
    assert encoded.kept == pytest.approx(1 - len(lost) / len(document))


# --- tokenizers that do not fit ------------------------------------------------------------------------------------


def test_a_slow_tokenizer_is_refused():
    with pytest.raises(CheckpointError, match="must be a fast one"):
        PromptEncoder(PreTrainedTokenizer.__new__(PreTrainedTokenizer), PromptSettings(), 100)


def test_a_missing_chat_template_is_told_before_any_work():
    with pytest.raises(CheckpointError, match=r"set prompt\.chat_template=false"):
        encoder(chat_template=True)
