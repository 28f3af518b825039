"""A task's own prompt, found in a request, and demonstrations put in it."""

from __future__ import annotations

from lift_eval.distribution.groups import Group
from lift_eval.document import Document, find_question
from lift_eval.prompts.form import TaskForm, demonstrated, put_in_form
from lift_eval.prompts.prompt import Prompt, PromptEncoder
from lift_eval.recipe import PromptSettings
from lift_eval.settings import Demonstration
from tests.tiny_models import tiny_tokenizer

DOCUMENT = Document("The lamp was lit by Ann. " * 20, "Lights")
ROW = {"context": DOCUMENT.text, "question": "Who lit the lamp?", "answer": "Ann"}
ASKED = "{title}\n\n{text}\n\nQuestion: {question}\nAnswer:"
SHOWN = Demonstration(
    title="Mills", passage="The mill is by the sea.", question="Where is it?", answer="by the sea"
)


def encoder(*, chat: bool = False, **settings: object) -> PromptEncoder:
    return PromptEncoder(tiny_tokenizer(chat_template=chat), PromptSettings(**settings), 10_000)


def asked(title: str, text: str, question: str) -> str:
    return ASKED.format(title=title, text=text, question=question)


def form_of(text: str, row: dict[str, str] = ROW) -> TaskForm | None:
    prompt = Prompt.around(text, DOCUMENT)
    return TaskForm.of(prompt, DOCUMENT, find_question(row, prompt.without_document().text))


def test_another_question_stands_in_the_very_prompt_of_the_task():
    text = asked("Lights", DOCUMENT.text, ROW["question"])
    form = form_of(text)
    assert form is not None
    prompt = put_in_form(form, DOCUMENT, "Where is Ann?", encoder())
    assert prompt.text == text.replace(ROW["question"], "Where is Ann?")
    assert [prompt.text[start:stop] for start, stop in prompt.places] == [DOCUMENT.text]


def test_closed_book_the_document_is_taken_out_and_nothing_else():
    text = asked("Lights", DOCUMENT.text, ROW["question"])
    form = form_of(text)
    assert form is not None
    closed = put_in_form(form, DOCUMENT, ROW["question"], encoder(), closed_book=True)
    assert closed == Prompt.around(text, DOCUMENT).without_document()


def test_pairs_are_not_put_as_questions_about_something_else():
    about, closed, unrelated = (
        form_of(text)
        for text in (
            asked("Lights", DOCUMENT.text, ROW["question"]),
            f"This is about Lights.\n\nQuestion: {ROW['question']}\nAnswer:",
            f"Question: {ROW['question']}\nAnswer:",
        )
    )
    forms = {"own": about, "closed_book": closed, "forgetting": unrelated}
    assert Group(DOCUMENT, (), (), forms=forms).task_forms == (about, closed)
    assert Group(DOCUMENT, (), (), forms={"forgetting": unrelated}).task_forms == (unrelated,)


def test_a_prompt_that_does_not_show_its_question_has_no_form():
    assert form_of(f"{DOCUMENT.text}\nSummarise the text.") is None
    assert (
        form_of(DOCUMENT.text, {"context": DOCUMENT.text, "input": "Ann"}) is None
    )  # only within the document


def test_braces_and_slots_in_a_question_change_nothing():
    form = form_of(asked("Lights", DOCUMENT.text, ROW["question"]))
    assert form is not None
    question = "What is {title} or \x02document\x03?"
    assert question in form.fill("Lights", "text", question)


def test_demonstrations_stand_before_the_question_in_the_same_form():
    text = asked("Lights", DOCUMENT.text, ROW["question"])
    form = form_of(text)
    assert form is not None
    prompt = put_in_form(form, DOCUMENT, ROW["question"], encoder(demonstrations=[SHOWN]))
    assert prompt.text == asked("Mills", SHOWN.passage, SHOWN.question) + " by the sea\n\n" + text
    assert [prompt.text[start:stop] for start, stop in prompt.places] == [DOCUMENT.text]


def test_a_space_at_the_end_of_the_prompt_goes_to_the_answers_where_some_are_shown():
    text = asked("Lights", DOCUMENT.text, ROW["question"]) + " "
    form = form_of(text)
    assert form is not None
    shown = put_in_form(form, DOCUMENT, ROW["question"], encoder(demonstrations=[SHOWN])).text
    assert shown == asked("Mills", SHOWN.passage, SHOWN.question) + " by the sea\n\n" + text[:-1]
    assert put_in_form(form, DOCUMENT, ROW["question"], encoder()).text == text


def test_closed_book_demonstrations_have_no_passage():
    form = form_of(asked("Lights", DOCUMENT.text, ROW["question"]))
    assert form is not None
    prompt = put_in_form(form, DOCUMENT, "Who?", encoder(demonstrations=[SHOWN]), closed_book=True)
    assert prompt.text == asked("Mills", "", SHOWN.question) + " by the sea\n\n" + asked("Lights", "", "Who?")


def test_in_a_chat_demonstrations_begin_the_users_message():
    chat = encoder(chat=True, chat_template=True, system="Be brief.", demonstrations=[SHOWN])
    text = chat.in_chat(asked("Lights", DOCUMENT.text, ROW["question"]), system="Be brief.")
    form = form_of(text)
    assert form is not None
    prompt = demonstrated(Prompt.around(text, DOCUMENT), form, chat, closed_book=False)
    shown = asked("Mills", SHOWN.passage, SHOWN.question) + " by the sea\n\n"
    assert prompt.text == chat.in_chat(
        shown + asked("Lights", DOCUMENT.text, ROW["question"]), system="Be brief."
    )


def test_the_recipes_own_prompt_has_its_demonstrations_too():
    own = encoder(demonstrations=[SHOWN], template="{{ document }}\nQ: {{ question }}\nA:", answer_prefix=" ")
    prompt = own.render(DOCUMENT, "Who?")
    assert prompt.text == f"{SHOWN.passage}\nQ: Where is it?\nA: by the sea\n\n{DOCUMENT.text}\nQ: Who?\nA:"
    assert [prompt.text[start:stop] for start, stop in prompt.places] == [DOCUMENT.text]
