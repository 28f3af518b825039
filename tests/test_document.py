"""The document: what counts as one, where it is found, when two are the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lift_eval.document import MIN_CHARACTERS, Document, find_document, find_field, occurrences
from lift_eval.errors import DocumentError

TEXT = "The lighthouse stood on the cliff. " * 20
OTHER = "Ships passed at night. " * 12


@pytest.mark.parametrize("text", ["", " ", "\n\t ", "\u2003"])
def test_an_empty_document_is_refused_by_name(text):
    with pytest.raises(
        DocumentError, match="document 'Cliff' is empty: its text must contain at least one word, got "
    ):
        Document(text, "Cliff")


@pytest.mark.parametrize("text", ["a", "灯台", "🗼", "e\u0301", "\x00", "\u202eright to left"])
def test_any_other_text_is_a_document(text):
    assert Document(text).text == text
    assert len(Document(text).digest) == 64


@pytest.mark.parametrize(("text", "title"), [("half \ud83d a pair", ""), ("text", "\udc00")])
def test_half_of_a_surrogate_pair_is_refused(text, title):
    """json.loads makes it of a cut emoji; no tokenizer reads it."""
    with pytest.raises(DocumentError, match="valid Unicode"):
        Document(text, title)


@pytest.mark.parametrize(
    ("text", "title"), [(None, ""), (b"bytes", ""), (["text"], ""), ("text", None), ("text", 3)]
)
def test_what_is_no_string_is_refused(text, title):
    with pytest.raises(DocumentError, match="must be a string, got "):
        Document(text, title)


def test_training_text_is_title_newline_text():
    assert Document("Text.", "Title").training_text == "Title\nText."
    assert Document("Text.").training_text == "Text."


_texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(_texts, _texts, _texts)
def test_title_and_text_are_parted_in_the_digest(title, middle, text):
    """Moving characters between title and text makes another document."""
    one, other = Document(f"{middle}{text}.", title), Document(f"{text}.", f"{title}{middle}")
    assert one.digest == Document(f"{middle}{text}.", title).digest
    assert (one.digest == other.digest) == (one == other) == (not middle)


# --- where a row holds its document --------------------------------------------------------------------------------


def test_context_is_the_document_even_where_another_field_is_longer():
    row = {"context": "Short.", "title": "Cliff", "notes": TEXT}
    assert find_document(row, f"{TEXT} Short. Why?") == Document("Short.", "Cliff")


@pytest.mark.parametrize("context", [None, "", "  ", ["a list"]])
def test_without_a_context_the_longest_string_of_the_prompt_is_the_document(context):
    row = {"context": context, "input": OTHER, "passage": TEXT, "unused": TEXT * 2, "answer": "a" * 300}
    assert find_document(row, f"Read: {OTHER} {TEXT} Why?") == Document(TEXT)


def test_a_short_string_or_one_outside_the_prompt_is_no_document():
    assert find_document({"question": "Why?" * 10}, "Why?" * 10) is None
    assert find_document({"text": TEXT}, "another prompt") is None
    assert find_document({}, "prompt") is None
    edge = "x" * MIN_CHARACTERS
    assert find_document({"text": edge}, edge) == Document(edge)
    assert find_document({"text": edge[1:]}, edge) is None
    assert find_document({"text": " " * MIN_CHARACTERS}, " " * MIN_CHARACTERS) is None


def test_a_template_that_strips_and_replaces_white_space_does_not_hide_the_document():
    row = {"passage": f"  {TEXT}\n{OTHER}", "question": "Why? " * 50}
    prompt = f"Read:\n{' '.join(row['passage'].split())}\n{row['question'].strip()}"
    assert find_field(row, prompt) == "passage"
    assert find_document(row, prompt) == Document(row["passage"])


@given(
    st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=4),
    st.lists(st.text("cd \n", max_size=5), min_size=1, max_size=4),
    st.lists(st.sampled_from(["", " ", "\n\n", "\u3000\t"]), min_size=20, max_size=20),
)
def test_every_occurrence_of_a_text_is_found_whatever_white_space_is_in_it(words, others, spaces):
    """The words of the text and those of the prompt around it have no letter in common."""
    gaps = iter(spaces)
    copies = ["".join(word + next(gaps) for word in words).strip() for _ in others[1:]]
    parts = [others[0], *(part for pair in zip(copies, others[1:], strict=True) for part in pair)]
    prompt = "c".join(parts)
    found = [prompt[start:stop] for start, stop in occurrences(" ".join(words), prompt)]
    assert found == copies


def test_the_field_that_is_asked_for_wins_over_all_others():
    row = {"context": OTHER, "body": "Short.", "title": 3}
    assert find_document(row, "prompt", "body") == Document("Short.")


@pytest.mark.parametrize("row", [{"text": TEXT, "id": 3}, {"body": 3}, {"body": None}])
def test_a_field_that_is_missing_or_no_text_is_told_with_the_fields_there_are(row):
    with pytest.raises(
        DocumentError, match="document_field='body' must name a text field of the row, which has "
    ) as caught:
        find_document(row, TEXT, "body")
    for key, value in row.items():
        assert f"{key} ({type(value).__name__})" in str(caught.value)


def test_the_field_that_is_asked_for_must_not_be_empty():
    with pytest.raises(DocumentError, match="is empty"):
        find_document({"body": " "}, "prompt", "body")
