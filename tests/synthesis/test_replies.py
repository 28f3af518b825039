"""Reading what a generator wrote."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lift_eval.answering.decoding import Answer
from lift_eval.recipe import AuxiliarySettings
from lift_eval.synthesis.replies import Pair, Reading, end_of_form, read_reply

PASSAGES = AuxiliarySettings(strategy="passages")
SENTENCES = AuxiliarySettings(strategy="sentences")
LABELS_ONLY = AuxiliarySettings(strategy="sentences", reply="labels")
PARAGRAPHS = AuxiliarySettings(strategy="paragraphs")
ALL = [PASSAGES, SENTENCES, LABELS_ONLY, PARAGRAPHS, AuxiliarySettings(strategy="passages", reply="json")]


def read(reply: str, settings: AuxiliarySettings, answer: str = "", *, complete: bool = True) -> Reading:
    return read_reply(Answer(reply, complete), settings, answer)


PAIR = Pair("Who built it?", "Lena Moor", "Lena Moor built it.")


@pytest.mark.parametrize(
    "reply",
    [
        "Question: Who built it?\nAnswer: Lena Moor\nEvidence: Lena Moor built it.",
        "Sure! Here it is.\n\nQuestion: Who built it?\n\nAnswer: Lena Moor\n\nEvidence: Lena Moor built it.\n\nBye",
        "**Question:** Who built it?\n**Answer:** Lena Moor\n**Evidence:** Lena Moor built it.",
        "- question: Who built it?\n- answer: Lena Moor\n- evidence: Lena Moor built it.",
        "Evidence: Lena Moor built it.\nQuestion:\nWho built it?\nAnswer: Lena Moor",
        "Question: Who built it?\nAnswer: Lena Moor\nEvidence: Lena Moor built it.\nQuestion: Another?\nAnswer: No",
    ],
)
def test_labels_are_found_however_a_model_sets_them(reply: str) -> None:
    assert read(reply, PASSAGES) == Reading((PAIR,))


@pytest.mark.parametrize(
    "reply", ["", "Lena Moor built it.", "Question: Who?\nAnswer: She", "Question: Answer:"]
)
def test_a_missing_label_is_unparsed(reply: str) -> None:
    assert read(reply, PASSAGES) == Reading(unparsed=1)


def test_evidence_is_optional_where_it_is_not_asked_for() -> None:
    reading = read("Question: Who built it?\nAnswer: Lena Moor", LABELS_ONLY)
    assert reading == Reading((Pair("Who built it?", "Lena Moor"),))


def test_labels_are_the_recipes() -> None:
    settings = AuxiliarySettings(strategy="sentences", reply="labels", labels=("Frage:", "Antwort:"))
    assert read("Frage: Wer?\nAntwort: Sie", settings) == Reading((Pair("Wer?", "Sie"),))


@pytest.mark.parametrize("settings", ALL)
def test_none_means_that_there_is_nothing_to_ask(settings: AuxiliarySettings) -> None:
    assert read(" None\n", settings) == Reading(no_pair=True)


@pytest.mark.parametrize(
    "frame",
    [
        "{}",
        "```json\n{}\n```",
        "Here you are [as asked]:\n{}\nAnything else?",
        "{{not json}} {}",
        "As in [1]: {}",
        '{{"note": 1}}{}',
    ],
)
def test_json_is_found_in_fences_and_chatter(frame: str) -> None:
    body = json.dumps(
        {"pairs": [{"question": "Who?", "answer": "She"}, {"question": "When?", "answer": "1840"}]}
    )
    assert read(frame.format(body), SENTENCES) == Reading((Pair("Who?", "She"), Pair("When?", "1840")))


@pytest.mark.parametrize(
    "item", ['{"question": "Who?"}', '{"question": "Who?", "answer": 5}', '"Who?"', "null", "[]"]
)
def test_json_of_another_type_is_unparsed(item: str) -> None:
    sound = '{"question": "When?", "answer": "1840"}'
    assert read(f'{{"pairs": [{item}, {sound}]}}', SENTENCES) == Reading((Pair("When?", "1840"),), unparsed=1)


def test_the_published_form_of_a_reply_is_read() -> None:
    body = json.dumps({"qa_list": [{"question": "Who?", "answer": "She"}]})
    assert read(body, SENTENCES) == Reading((Pair("Who?", "She"),))


def test_pairs_without_a_list_around_them_are_all_read() -> None:
    lines = '{"question": "Who?", "answer": "She"}\n{"question": "When?", "answer": "1840"}'
    assert read(lines, SENTENCES) == Reading((Pair("Who?", "She"), Pair("When?", "1840")))


TEN = [Pair(f"What of {number}?", f'"{number}", [or] {{so}}') for number in range(10)]
LISTS = ['{"pairs": %s}', '{"qa_list": %s}', "%s", "```json\n%s\n```"]


@given(st.integers(0, 10_000), st.sampled_from(LISTS), st.sampled_from([None, 2]))
def test_every_whole_pair_of_a_cut_reply_is_read(cut: int, around: str, indent: int | None) -> None:
    items = [{"question": pair.question, "answer": pair.answer} for pair in TEN]
    reply = around % json.dumps(items, indent=indent)
    reply = reply[: cut % len(reply)]
    whole = reply.count("}", 0, len(reply)) - reply.count("{so}")
    reading = read(reply, SENTENCES, complete=False)
    assert reading.pairs == tuple(TEN[: min(whole, 10)])


@pytest.mark.parametrize(
    ("cut", "pairs"),
    [
        ("Question: Who?\nAnswer: Lena Mo", ()),
        ("Question: Who?\nAnswer: She\n\nI chose thi", (Pair("Who?", "She"),)),
        ("Question: Who?\nAnswer: She\nEvidence: Lena bu", (Pair("Who?", "She"),)),
    ],
)
def test_the_last_value_of_a_cut_labelled_reply_is_not_whole(cut: str, pairs: tuple[Pair, ...]) -> None:
    assert read(cut, LABELS_ONLY, complete=False).pairs == pairs


@pytest.mark.parametrize(
    ("form", "more"),
    [
        ("Question: Who?\nAnswer: She", "\n\nSentence: The mill"),
        ("Sure!\n**Answer:** She\n**Question:**\nWho?", "\n"),
        ("Question: Who?\nAnswer: She", "\nQuestion: What?\nAnswer: It\n"),
        ("Question: Who?\nAnswer: She", "\nEvidence: Lena built it"),
    ],
)
def test_a_labelled_reply_is_complete_with_the_line_of_its_last_value(form: str, more: str) -> None:
    ends = [end_of_form((form + more)[:place], LABELS_ONLY) for place in range(len(form + more))]
    assert ends == [None] * (len(form) + 1) + [len(form)] * (len(more) - 1)
    assert read(form, LABELS_ONLY) == read(form + more, LABELS_ONLY) == Reading((Pair("Who?", "She"),))


def test_a_form_lacks_what_the_recipe_asks_for() -> None:
    assert end_of_form("Question: Who?\nAnswer: She\n\n", PASSAGES) is None
    assert end_of_form("Question: Who?\nAnswer:\n", LABELS_ONLY) is None


def test_a_cut_summary_is_none() -> None:
    assert read("It rains. Then it", PARAGRAPHS, "Paragraph 3", complete=False).pairs == ()


def test_a_list_of_no_pairs_means_that_there_is_nothing_to_ask() -> None:
    assert read('{"pairs": []}', SENTENCES) == Reading(no_pair=True)


def test_half_a_surrogate_pair_never_reaches_the_tokenizer() -> None:
    reply = '{"pairs": [{"question": "\\ud800?", "answer": "x"}]}'
    assert read(reply, SENTENCES) == Reading(unparsed=1)


def test_a_summary_is_the_question_of_its_paragraph() -> None:
    assert read(" It rains.\n", PARAGRAPHS, "Paragraph 3") == Reading((Pair("It rains.", "Paragraph 3"),))


@given(st.text(), st.sampled_from(ALL))
@example("[" * 100_000, SENTENCES)
@example('{"pairs":' * 20_000, SENTENCES)
@example(" " * 50_000 + "Question", PASSAGES)
def test_no_reply_raises(reply: str, settings: AuxiliarySettings) -> None:
    reading = read(reply, settings, "Paragraph 1")
    assert all(isinstance(value, str) for pair in reading.pairs for value in (pair.question, pair.answer))


WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).map(str.strip).filter(bool)


@given(
    st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=5), st.sampled_from(["", "```json\n", "Sure: "])
)
def test_json_gives_back_what_was_put_in(pairs: list[tuple[str, str]], before: str) -> None:
    reply = before + json.dumps({"pairs": [{"question": q, "answer": a} for q, a in pairs]})
    assert read(reply, SENTENCES) == Reading(tuple(Pair(q, a) for q, a in pairs))


LINE = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="*_:"), min_size=1
)
LINES = LINE.map(str.strip).filter(bool)


@given(LINES, LINES, LINES)
def test_labels_give_back_what_was_put_in(question: str, answer: str, evidence: str) -> None:
    reply = f"Question: {question}\nAnswer: {answer}\nEvidence: {evidence}"
    assert read(reply, PASSAGES) == Reading((Pair(question, answer, evidence),))
