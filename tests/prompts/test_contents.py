"""What of the document a prompt holds: the whole of it, or its end."""

from __future__ import annotations

import pytest

from lift_eval.document import Document
from lift_eval.errors import DocumentError
from lift_eval.prompts.contents.base import Content
from lift_eval.prompts.contents.registry import CONTENTS, content_for
from lift_eval.prompts.prompt import Prompt, PromptEncoder
from lift_eval.recipe import PromptSettings
from tests.tiny_models import tiny_tokenizer

DOCUMENT = Document("".join(f"On day {day} the lamp was lit by Ann. " for day in range(20)), "The Lighthouse")
QUESTIONS = ("Who?", "Who lit the lamp on day 19?")


def content(document: str, *, window: int = 10_000, **settings: object) -> Content:
    group = PromptSettings.model_validate({"document": document, "bos": False, **settings})
    return content_for(DOCUMENT, PromptEncoder(tiny_tokenizer(), group, window))


def rendered(made: Content, question: str = QUESTIONS[0]) -> Prompt:
    return made.encoder.render(DOCUMENT, question)


def text_of(ids: list[int]) -> str:
    return str(tiny_tokenizer().decode(ids))


# --- the whole document --------------------------------------------------------------------------------------------


def test_the_full_document_stands_in_the_prompt_whatever_its_budget() -> None:
    made = content("full", max_tokens=100)
    prompt = rendered(made)
    encoded = made.encode(prompt, 8)
    assert text_of(encoded.ids) == prompt.text
    assert (encoded.kept, encoded.shortened, encoded.over_length) == (1.0, 0, "")


@pytest.mark.parametrize("truncate", ["prompt", "document"])
def test_the_full_document_may_fill_the_window_to_the_last_token(truncate: str) -> None:
    tokens = len(content("full").encode(rendered(content("full")), 8).ids)
    fits, not_quite = (content("full", window=tokens + 8 + more, truncate=truncate) for more in (0, -1))
    fits.check(rendered(fits), 8)
    assert len(fits.encode(rendered(fits), 8).ids) == tokens
    told = f"document: full'\\) has {tokens} tokens, but only {tokens - 1} fit .*prompt.over_length=skip or truncate"
    for refused in (not_quite.check, not_quite.encode):
        with pytest.raises(DocumentError, match=told):
            refused(rendered(not_quite), 8)


def test_a_document_over_length_is_skipped_or_truncated_to_the_window_if_the_recipe_says_so() -> None:
    skip, cut = (content("full", window=400, over_length=action) for action in ("skip", "truncate"))
    skipped = skip.encode(rendered(skip), 8)
    assert (skipped.ids, skipped.kept, skipped.skipped) == ([], 0.0, True)
    truncated = cut.encode(rendered(cut), 8)
    assert (len(truncated.ids), truncated.over_length) == (392, "truncate")
    assert text_of(truncated.ids).endswith("Question: Who?\nAnswer: ")
    for made in (skip, cut):
        made.check(rendered(made), 8)


# --- the end -------------------------------------------------------------------------------------------------------


def test_the_end_is_the_documents_last_tokens_within_the_budget() -> None:
    made = content("end", max_tokens=400, question_tokens=1, ellipsis="")
    prompt = rendered(made)
    encoded = made.encode(prompt, 8)
    before, after = prompt.text.split(DOCUMENT.text)
    room = 400 - len(before + after)
    assert text_of(encoded.ids) == before + DOCUMENT.text[-room:] + after
    assert encoded.kept == pytest.approx(room / len(DOCUMENT.text))
    assert encoded.cut == (0, len(DOCUMENT.text) - room)


def test_questions_share_one_end_which_begins_with_the_ellipsis() -> None:
    made = content("end", max_tokens=500, question_tokens=200)
    texts = [text_of(made.encode(rendered(made, question), 8).ids) for question in QUESTIONS]
    ends = {text.split("\nPlease answer")[0] for text in texts}
    assert len(ends) == 1
    assert ends.pop().startswith("The article The Lighthouse: \n...")


def test_a_short_document_is_its_own_end() -> None:
    made = content("end")
    assert text_of(made.encode(rendered(made), 8).ids) == rendered(made).text


# --- all of them ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONTENTS)
def test_a_recipe_names_each_content_and_a_prompt_without_the_document_stays_as_it_is(name: str) -> None:
    made = content(name)
    closed_book = Prompt.around("Who?", DOCUMENT)
    made.check(closed_book, 8)
    assert text_of(made.encode(closed_book, 8).ids) == "Who?"
    bare = content_for(None, made.encoder)
    assert text_of(bare.encode(Prompt.around("Who?", None), 8).ids) == "Who?"


@pytest.mark.parametrize("name", CONTENTS)
def test_a_prompt_that_holds_the_document_changed_is_refused_where_its_place_is_needed(name: str) -> None:
    made = content(name)
    changed = Prompt.around(f"{DOCUMENT.text.upper()}\nWho?", DOCUMENT)
    if not made.needs_place:
        assert text_of(made.encode(changed, 8).ids) == changed.text
        return
    assert not made.leaves(changed, 1, 8)
    for refused in (made.check, made.encode):
        with pytest.raises(
            DocumentError, match=f"'prompt.document: {name}' needs a prompt that holds the whole"
        ):
            refused(changed, 8)
