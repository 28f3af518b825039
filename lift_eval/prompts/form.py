"""The prompt in which a task puts its questions, found in one of its requests."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from lift_eval.document import Document
from lift_eval.prompts.prompt import DOCUMENT_SLOT, Prompt, PromptEncoder

_QUESTION_SLOT, _TITLE_SLOT = "\x02question\x03", "\x02title\x03"


@dataclass(frozen=True)
class TaskForm:
    """A task's prompt with slots for what changes from one question to the next.

    Attributes:
        text: The whole prompt as a model gets it, chat template, system message and few-shot examples included.
    """

    text: str

    @classmethod
    def of(cls, prompt: Prompt, document: Document, question: str) -> TaskForm | None:
        """Find the form of a question's prompt.

        Args:
            prompt: The prompt, with the places of the document.
            document: The document.
            question: The question, as `find_question` finds it; empty where it is not known.

        Returns:
            The form. None means that the question is not known.
        """
        if not question:
            return None
        text = prompt.with_document(DOCUMENT_SLOT).text.replace(question, _QUESTION_SLOT)
        return cls(_with_title_slots(text, document.title))

    @property
    def names_document(self) -> bool:
        """Whether it holds the document or its title."""
        return DOCUMENT_SLOT in self.text or _TITLE_SLOT in self.text

    def fill(self, title: str, document: str, question: str) -> str:
        """The prompt of another question, perhaps about another document."""
        values = {_TITLE_SLOT: title, DOCUMENT_SLOT: document, _QUESTION_SLOT: question}
        return re.sub("|".join(map(re.escape, values)), lambda slot: values[slot[0]], self.text)


def _with_title_slots(text: str, title: str) -> str:
    """A text with slots in the places of a title, where it stands as words of its own."""
    return re.sub(rf"(?<!\w){re.escape(title)}(?!\w)", _TITLE_SLOT, text) if title.strip() else text


def put_in_form(
    form: TaskForm, document: Document, question: str, encoder: PromptEncoder, *, closed_book: bool = False
) -> Prompt:
    """Put a question as a task does, behind the recipe's demonstrations.

    Args:
        form: The task's form.
        document: The document.
        question: The question.
        encoder: Of the recipe's prompts.
        closed_book: Whether the document is left out.
    """
    text = form.fill(document.title, "" if closed_book else DOCUMENT_SLOT, question)
    prompt = Prompt.joined(text.split(DOCUMENT_SLOT), document.text)
    return demonstrated(prompt, form, encoder, closed_book=closed_book)


def demonstrated(prompt: Prompt, form: TaskForm, encoder: PromptEncoder, *, closed_book: bool) -> Prompt:
    """Put the recipe's demonstrations into a task's prompt, in its own form, before its first words.

    Spaces at the end of a prompt in plain text go to the answers: most tokenizers join a space with the word behind it,
    so that a model that has seen the answers in the demonstrations finds no word to go on with behind a space.

    Args:
        prompt: The prompt.
        form: Its form.
        encoder: Of the recipe's prompts.
        closed_book: Whether the prompt is to hold no document; then demonstrations have no passage either.
    """
    if not encoder.settings.demonstrations:
        return prompt
    start, stop = encoder.users_words(form.text)
    words = TaskForm(form.text[start:stop].rstrip(" "))
    if stop == len(form.text) and len(prompt.text.rstrip(" ")) >= max(
        (end for _, end in prompt.places), default=0
    ):
        prompt = replace(prompt, text=prompt.text.rstrip(" "))

    def put(title: str, passage: str, question: str) -> str:
        return words.fill(title, "" if closed_book else passage, question)

    return prompt.with_text_at(start, encoder.demonstrate(put, answer_prefix(words.text)))


def answer_prefix(prompt: str) -> str:
    """What stands between a task's prompt and an answer, as in lm-eval: a space, unless the prompt ends in one."""
    return "" if prompt[-1:].isspace() else " "
