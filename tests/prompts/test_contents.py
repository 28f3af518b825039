"""What of the document a prompt holds: the whole of it, its end, retrieved passages, or another document."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import pytest
import torch

from lift_eval.document import Document, Span
from lift_eval.errors import DocumentError
from lift_eval.prompts.contents.base import Content
from lift_eval.prompts.contents.registry import CONTENTS, content_for
from lift_eval.prompts.contents.retrieved import Retrieved
from lift_eval.prompts.prompt import Prompt, PromptEncoder
from lift_eval.recipe import PromptSettings
from tests.tiny_models import tiny_tokenizer

DOCUMENT = Document("".join(f"On day {day} the lamp was lit by Ann. " for day in range(20)), "The Lighthouse")
QUESTIONS = ("Who?", "Who lit the lamp on day 19?")


OTHER = Document("The boat came in at ten. " * 30, "The Boat")


def content(
    document: str, *, window: int = 10_000, other: Document | None = OTHER, **settings: object
) -> Content:
    group = PromptSettings.model_validate({"document": document, "bos": False, **settings})
    return content_for(DOCUMENT, PromptEncoder(tiny_tokenizer(), group, window), other)


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


# --- retrieved passages --------------------------------------------------------------------------------------------

LOG = (
    "The lamp was lit. " * 5
    + "Otto built the mill. "
    + "The storm rose. " * 5
    + "Ann sold the mill. "
    + "End. " * 9
)
SPECKS = Document(LOG, "Log")


def retrieved(document: Document = SPECKS, **settings: object) -> Content:
    group = {"document": "retrieved", "template": "{{ document }}|{{ question }}", "bos": False, **settings}
    return content_for(
        document, PromptEncoder(tiny_tokenizer(), PromptSettings.model_validate(group), 10_000)
    )


def shown(made: Content, question: str, reserve: int = 8) -> str:
    assert made.document is not None
    return text_of(made.encode(made.encoder.render(made.document, question), reserve).ids)


def test_the_best_passages_stand_in_the_prompt_in_the_documents_order() -> None:
    made = retrieved(passage_tokens=21, passages=2)
    passages = [LOG[start : start + 21] for start in range(0, len(LOG), 21)]
    mill = [passage for passage in passages if "mill" in passage]
    assert len(mill) == 2
    assert shown(made, "Who sold the mill?") == "\n\n".join(mill) + "|Who sold the mill?"
    encoded = made.encode(made.encoder.render(SPECKS, "Who sold the mill?"), 8)
    assert encoded.kept == pytest.approx(42 / len(LOG))


def test_passages_that_follow_one_another_are_one_text() -> None:
    assert shown(retrieved(passage_tokens=20, passages=99), "Who?") == LOG + "|Who?"


def test_the_score_is_that_of_bm25() -> None:
    """Lucene's: k1 1.5, b 0.75, and idf = ln(1 + (N - n + 0.5) / (n + 0.5))."""
    words = [["a", "b", "b"], ["b", "c"], ["d"] * 3]
    made = retrieved(Document("a b b b c   d d d"), passage_tokens=6)
    assert isinstance(made, Retrieved)
    assert [made._text[slice(*span)].split() for span in made._passages] == words

    def idf(word: str) -> float:
        holding = sum(word in passage for passage in words)
        return math.log(1 + (3 - holding + 0.5) / (holding + 0.5))

    def score(passage: list[str], query: str) -> float:
        norm = 1.5 * (1 - 0.75 + 0.75 * len(passage) * 3 / 8)
        return sum(idf(word) * passage.count(word) / (passage.count(word) + norm) for word in query.split())

    expected = [score(passage, "b c") for passage in words]
    assert made._index.get_scores(["b", "c"]).tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("text", "question", "best"),
    [
        ("磨坊是奥托建的。灯塔是安点亮的。船在十点到达的。", "船何时到？", "船在十点到达的。"),
        ("OTTO made it. ANN left it. BOB lost it.", "bob?", " BOB lost it."),
    ],
)
def test_words_are_found_in_any_case_and_in_scripts_without_spaces(
    text: str, question: str, best: str
) -> None:
    made = retrieved(Document(text), passage_tokens=len(best.encode()), passages=1)
    assert shown(made, question) == f"{best}|{question}"


def test_of_equally_good_passages_the_earlier_are_taken() -> None:
    """And a question that shares no word with the document, or has none, is no error."""
    for question in ("Unheard of", "?!"):
        assert shown(retrieved(passage_tokens=18, passages=2), question) == f"{LOG[:36]}|{question}"


def test_passages_fill_the_budget_and_no_more() -> None:
    made = retrieved(passage_tokens=21, passages=9, max_tokens=80, question_tokens=1)
    encoded = made.encode(made.encoder.render(SPECKS, "Who sold the mill?"), 8)
    assert encoded.shortened == 0
    assert encoded.kept == pytest.approx(
        42 / len(LOG)
    )  # a third, and what is put between them, would not fit


def test_a_budget_that_holds_no_passage_is_refused() -> None:
    made = retrieved(passage_tokens=80, max_tokens=80, question_tokens=1)
    prompt = made.encoder.render(SPECKS, "Who sold the mill?")
    for refused in (made.check, made.encode):
        with pytest.raises(DocumentError, match=r"no passage of 80 tokens .* fits in a prompt of 80 tokens"):
            refused(prompt, 8)
    short = retrieved(Document("The mill."), passage_tokens=80, max_tokens=80, question_tokens=1)
    short.check(short.encoder.render(Document("The mill."), "Who?"), 8)


def test_a_prompt_whose_question_is_not_known_is_the_query() -> None:
    made = retrieved(passage_tokens=21, passages=1)
    prompt = Prompt.around(f"{LOG}\nQ: Who sold it, Ann?", SPECKS)
    assert "Ann sold" in text_of(made.encode(prompt, 8).ids)


def test_an_embedding_model_ranks_passages_by_the_cosine_to_the_question() -> None:
    """Here a text's embedding is how often each letter stands in it."""
    made = retrieved(passage_tokens=21, passages=1, embedder="letters")

    def letters(texts: Sequence[str]) -> torch.Tensor:
        counts = [[text.count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts]
        return torch.nn.functional.normalize(torch.tensor(counts).float(), dim=-1)

    made.encoder.reader = letters
    passages = [LOG[start : start + 21] for start in range(0, len(LOG), 21)]
    nearest = passages[(letters(passages) @ letters(["sea"])[0]).argmax()]
    assert nearest != passages[0]  # which BM25 takes, since the word stands nowhere
    assert shown(made, "sea") == f"{nearest}|sea"


# --- compressed ----------------------------------------------------------------------------------------------------

SENTENCES = ("The lamp was lit. ", "Otto built it. ", "The storm rose. ", "It rose. ", "Ann sold it.")


def compressed(weights: dict[str, float], **settings: object) -> Content:
    """A prompt of 40 tokens whose reader gives each character of some words a weight, and all others none."""
    group = {
        "document": "compressed",
        "template": "{{ document }}|{{ question }}",
        "bos": False,
        "question_tokens": 8,
        "max_tokens": 40,
        "ellipsis": "",
        **settings,
    }
    made = content_for(
        Document("".join(SENTENCES)), PromptEncoder(tiny_tokenizer(), PromptSettings(**group), 10_000)
    )

    def read(text: str) -> list[tuple[Span, float]]:
        values = [0.0] * len(text)
        for word, weight in weights.items():
            for place in re.finditer(word, text):
                values[place.start() : place.end()] = [weight] * len(word)
        return [((place, place + 1), value) for place, value in enumerate(values)]

    made.encoder.reader = read
    return made


def test_the_sentences_that_say_most_for_their_tokens_stand_in_the_prompt_in_order() -> None:
    made = compressed({"Otto": 3.0, "Ann": 4.0, "storm": 1.0})
    kept = "Otto built it. Ann sold it."
    for question in ("Who?", "Why?", "Who sold"):
        assert shown(made, question) == f"{kept}|{question}"
    prompt = made.encoder.render(Document("".join(SENTENCES)), "Who?")
    assert made.encode(prompt, 8).kept == pytest.approx(len(kept) / len("".join(SENTENCES)))
    assert len(made.encode(prompt, 8).ids) <= 40


def test_a_compressor_keeps_words() -> None:
    made = compressed(
        {"lamp": 0.9, "Otto": 0.8, "built": 0.7, "Ann": 0.9, "sold": 0.6}, compressor="a model", max_tokens=33
    )
    assert shown(made, "Who?") == "lamp Otto built Ann sold|Who?"


def test_a_document_that_fits_is_not_compressed_and_one_that_cannot_is_refused() -> None:
    text = "".join(SENTENCES)
    assert shown(compressed({}, max_tokens=400), "Who?") == f"{text}|Who?"
    with pytest.raises(DocumentError, match="no sentence of the document fits in a prompt of 15 tokens"):
        shown(compressed({}, max_tokens=15), "Who?")


# --- another document ----------------------------------------------------------------------------------------------


def test_the_wrong_document_stands_in_the_prompt_truncated_as_the_right_one() -> None:
    wrong, right = (content(name, max_tokens=400) for name in ("wrong", "truncated"))
    prompt = rendered(right)
    encoded = wrong.encode(prompt, 8)
    assert encoded.ids == right.encode(prompt.with_document(OTHER.text), 8).ids
    assert len(encoded.ids) == 400
    assert encoded.kept == 0.0


def test_where_there_is_no_other_document_there_is_no_wrong_one() -> None:
    made = content("wrong", other=None)
    for refused in (made.check, made.encode):
        with pytest.raises(DocumentError, match="but there is no other; ask about two documents or more"):
            refused(rendered(made), 8)


# --- all of them ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONTENTS)
def test_a_prompt_without_the_document_stays_as_it_is(name: str) -> None:
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
        with pytest.raises(DocumentError, match=f"'prompt.document: {name}' needs a prompt with the whole"):
            refused(changed, 8)
