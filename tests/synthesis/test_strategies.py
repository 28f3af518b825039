"""What a generator is asked about with each strategy."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lift_eval.answering.decoding import Answer
from lift_eval.document import Document
from lift_eval.errors import DocumentError, RecipeError
from lift_eval.recipe import AuxiliarySettings
from lift_eval.settings import Demonstration
from lift_eval.synthesis.base import Passage
from lift_eval.synthesis.paragraphs import split_paragraphs
from lift_eval.synthesis.replies import read_reply

SENTENCES = [f"Sentence {number} is about the mill." for number in range(40)]
DOCUMENT = Document(" ".join(SENTENCES), "The mill")
BARE = "{{ passage }}"


def chosen(document: Document = DOCUMENT, seed: int = 0, **group: object) -> list[Passage]:
    asked = AuxiliarySettings(**group)
    return list(asked.method.choose(document, asked, torch.Generator().manual_seed(seed)))


@settings(deadline=None)  # the first sentence waits for an import
@given(st.integers(0, 2**60), st.integers(1, 60))
def test_a_passage_is_consecutive_sentences(seed: int, count: int) -> None:
    for passage in chosen(seed=seed, strategy="passages", pairs=3, request=BARE, passage_sentences=count):
        assert passage.text in DOCUMENT.text
        first = SENTENCES.index(passage.text.split(" is ")[0] + " is about the mill.")
        assert passage.text == " ".join(SENTENCES[first : first + count])
        assert passage.text.count("mill.") == min(count, 40)
        assert passage.request() == passage.text


def test_a_passage_has_16_sentences_and_lies_anywhere() -> None:
    passages = chosen(strategy="passages", pairs=200)
    assert {passage.text.count("mill.") for passage in passages} == {16}
    assert {passage.text.split()[1] for passage in passages} == {str(place) for place in range(25)}


@pytest.mark.parametrize(
    "text", ["灯塔建于1842年。没有人知道谁点亮了它。", "जहाज़ 1842 में बना था। माल नमक था। "]
)
def test_documents_of_other_scripts_have_as_many_passages_as_sentences(text: str) -> None:
    assert len(chosen(Document(text * 40), strategy="sentences")) == 80


@pytest.mark.parametrize("strategy", ["passages", "sentences"])
def test_a_document_with_next_to_no_sentences_is_told(
    strategy: str, caplog: pytest.LogCaptureFixture
) -> None:
    chosen(Document("กาลครั้งหนึ่งมีเรือลำหนึ่ง " * 100, "เรือ"), strategy=strategy)
    assert "document 'เรือ': only 1 sentence found in 2700 characters" in caplog.text
    caplog.clear()
    chosen(Document("A short note without an end"), strategy=strategy)
    chosen(DOCUMENT, strategy=strategy)
    assert caplog.text == ""


def test_the_seed_decides_the_places() -> None:
    assert chosen(seed=5, strategy="passages") == chosen(seed=5, strategy="passages")
    assert chosen(seed=5, strategy="passages") != chosen(seed=6, strategy="passages")


def test_each_sentence_comes_with_the_text_before_it() -> None:
    template = "[{{ title }}|{{ context }}|{{ sentence }}]"
    document = Document("One is here. Two is here. Three is here.", "T")
    requests = [passage.request() for passage in chosen(document, strategy="sentences", request=template)]
    assert requests == [
        "[T||One is here.]",
        "[T|One is here.|Two is here.]",
        "[T|One is here. Two is here.|Three is here.]",
    ]


def test_context_is_whole_sentences_within_its_limit() -> None:
    passages = chosen(strategy="sentences", request="{{ context }}", context_characters=100)
    assert passages[0].request() == ""
    assert [len(passage.request()) <= 100 for passage in passages] == [True] * 40
    assert passages[-1].request() == " ".join(SENTENCES[36:39])
    assert all(
        passage.request() == ""
        for passage in chosen(strategy="sentences", request="{{ context }}", context_characters=0)
    )


def test_the_rest_is_asked_for_by_number_and_without_what_is_there() -> None:
    (passage,) = chosen(Document("One is here.", "T"), strategy="sentences", pairs=10)
    first, rest = passage.request(), passage.request(["Who?", "Where?"])
    assert "at most 10 different" in first
    assert "again" not in first
    assert "at most 8 different" in rest
    assert "None of these may be asked again:\n- Who?\n- Where?\nReply with JSON only:" in rest


PARAGRAPHS = Document("\n\n".join(f"Paragraph {k}: Text number {k}.\nSee Paragraph 1." for k in range(1, 31)))


def test_paragraphs_are_found_by_their_names() -> None:
    found = split_paragraphs(PARAGRAPHS.text, "Paragraph {{ number }}")
    assert [name for name, _ in found] == [f"Paragraph {k}" for k in range(1, 31)]
    assert found[9][1] == "Paragraph 10: Text number 10.\nSee Paragraph 1.\n\n"
    assert "".join(text for _, text in found) == PARAGRAPHS.text


def test_each_paragraph_is_asked_about_before_any_is_again() -> None:
    answers = [passage.answer for passage in chosen(PARAGRAPHS, strategy="paragraphs", pairs=60)]
    assert len(set(answers[:30])) == len(set(answers[30:])) == 30


def test_paragraphs_are_drawn_with_replacement_where_the_recipe_says_so() -> None:
    group = {"strategy": "paragraphs", "paragraph_draw": "replacement"}
    answers = [passage.answer for passage in chosen(PARAGRAPHS, pairs=60, **group)]
    assert len(answers) == 60
    assert len(set(answers[:30])) < 30
    assert answers == [passage.answer for passage in chosen(PARAGRAPHS, pairs=60, **group)]


def test_a_request_shows_a_paragraph_without_the_blank_line_behind_it() -> None:
    requests = [p.request() for p in chosen(PARAGRAPHS, strategy="paragraphs", request="[{{ passage }}]")]
    assert all(request.endswith("See Paragraph 1.]") for request in requests)


def test_a_document_without_paragraphs_is_refused() -> None:
    with pytest.raises(DocumentError, match="no line begins with 'Paragraph 1'"):
        chosen(strategy="paragraphs")


def test_a_template_that_fails_says_so() -> None:
    with pytest.raises(RecipeError, match="template fails"):
        chosen(strategy="passages", request="{{ passage.missing.more }}")[0].request()


def test_a_template_cannot_reach_out() -> None:
    with pytest.raises(RecipeError, match="template fails"):
        chosen(strategy="passages", request="{{ passage.__class__.__mro__ }}")[0].request()


SHOWN = Demonstration(
    title="Mills", passage="The mill is by the sea.", question="Where is it?", answer="by the sea"
)


@pytest.mark.parametrize(
    ("reply", "replied"),
    [
        ("labels", "Question: Where is it?\nAnswer: by the sea"),
        ("json", '{"pairs": [{"question": "Where is it?", "answer": "by the sea"}]}'),
    ],
)
def test_a_request_shows_its_demonstrations_as_they_would_be_asked_and_answered(reply, replied):
    settings = AuxiliarySettings(
        strategy="sentences", request="Text: {{ sentence }}\n", reply=reply, demonstrations=[SHOWN]
    )
    request = Passage.of(
        Document("Ann lit the lamp."), settings, "Ann lit the lamp.", sentence="Ann lit the lamp."
    ).request()
    assert request == f"Text: The mill is by the sea.\n{replied}\n\nText: Ann lit the lamp.\n"
    read = read_reply(Answer(replied, complete=True), settings)
    assert [(pair.question, pair.answer) for pair in read.pairs] == [("Where is it?", "by the sea")]
