"""The questions of a task about one of its documents, as a run puts them and without a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from lm_eval.api.task import Task
from lm_eval.tasks import TaskManager

from lift_eval.distribution.groups import next_documents
from lift_eval.document import Document, find_document, find_question
from lift_eval.errors import DocumentError, RecipeError, nearest
from lift_eval.harness.generation import encoder_of, read_decoding
from lift_eval.prompts.contents.base import Content
from lift_eval.prompts.contents.registry import CONTENTS, content_for
from lift_eval.prompts.form import TaskForm, demonstrated
from lift_eval.prompts.prompt import Prompt, PromptEncoder

NEW_TOKENS = 256
"""Most tokens of an answer where the task does not say, as lm-eval has it."""


@dataclass(frozen=True)
class Question:
    """A question and its prompt.

    Attributes:
        prompt: The prompt, not yet truncated.
        new_tokens: Most tokens of the answer.
        encoder: Encodes it.
        content: What of the document the prompt holds.
        form: The task's form of it. None means that it is not known.
    """

    prompt: Prompt
    new_tokens: int
    encoder: PromptEncoder
    content: Content
    form: TaskForm | None = None

    @property
    def ids(self) -> list[int]:
        """Token ids of the prompt, truncated to leave room for the answer."""
        closed_book = self.prompt.share == 0.0
        shown = (
            demonstrated(self.prompt, self.form, self.encoder, closed_book=closed_book)
            if self.form
            else self.prompt
        )
        return self.content.encode(shown, self.new_tokens, self.encoder).ids

    def without_document(self) -> Question:
        """The same question closed-book."""
        return replace(self, prompt=self.prompt.without_document())


def load_task(name: str, manager: TaskManager) -> Task:
    """Load one task.

    Args:
        name: Its name.
        manager: Knows the task and holds the run's metadata.

    Raises:
        RecipeError: If there is no such task, or the name is that of several.
    """
    if name not in manager.all_subtasks:
        several = "it is a group of tasks; name one of them" if name in manager.all_tasks else ""
        meant = nearest(name, manager.all_subtasks)
        unknown = f"lm-eval has no task of this name{meant}; 'lm_eval ls tasks' lists them"
        raise RecipeError(f"task '{name}'", [several or unknown])
    return manager.load(name)["tasks"][name]


def prompt_styles(task: Task) -> Mapping[str, str]:
    """A task's prompts by name; only ours have several."""
    return (task.config.dataset_kwargs or {}).get("prompts") or {}


def rows_by_document(task: Task) -> dict[Document, list[int]]:
    """The rows that ask about each document, in the order of the data."""
    rows: dict[Document, list[int]] = {}
    for number, row in task.doc_iterator():
        document = find_document(row, str(task.doc_to_text(row)))
        if document is not None:
            rows.setdefault(document, []).append(number)
    return rows


def choose_document(task: Task, number: int) -> tuple[Document, list[int]]:
    """A document of a task and its rows.

    Args:
        task: The task.
        number: Number of the document, from 0 in the order of the data.

    Raises:
        DocumentError: If the task has fewer documents.
    """
    found = list(rows_by_document(task).items())
    if number >= len(found):
        raise DocumentError(f"the task has {len(found)} documents, counted from 0, got {number}")
    return found[number]


def ask(task: Task, document: Document, rows: Iterable[int], encoder: PromptEncoder) -> list[Question]:
    """Put a document's questions as lm-eval does in a run of the recipe.

    The recipe's chat template and system message stand for ``--apply_chat_template`` and ``--system_instruction``.

    Args:
        task: The task.
        document: The document.
        rows: The rows that ask about it.
        encoder: Of the recipe's prompts.

    Returns:
        One question for each row.
    """
    settings = encoder.settings

    def in_chat(messages: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return encoder.apply_chat_template(
            messages,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )

    task.build_all_requests(
        samples=list(rows),
        apply_chat_template=settings.chat_template,
        system_instruction=settings.system,
        chat_template=in_chat if settings.chat_template else None,
    )
    first = {instance.doc_id: instance for instance in reversed(task.instances)}
    other = None
    if CONTENTS[settings.document].needs_other:
        other = next_documents(rows_by_document(task)).get(document)
    content = content_for(document, encoder, other)
    return [_question(first[row], document, content) for row in sorted(first)]


def _question(instance: Any, document: Document, content: Content) -> Question:  # noqa: ANN401 - Instance
    encoder = content.encoder
    text, *others = instance.args
    if instance.request_type == "generate_until":
        new_tokens = read_decoding(others[0], NEW_TOKENS, instance.task_name).max_new_tokens
    else:
        new_tokens = sum(len(encoder.plain_ids(continuation)) for continuation in others)
    prompt = Prompt.around(text, document)
    prompt = replace(prompt, query=find_question(instance.doc, prompt.without_document().text))
    form = TaskForm.of(prompt, document, prompt.query)
    question = Question(prompt, new_tokens, encoder_of(instance.args, encoder), content, form)
    return question.without_document() if content.closed_book else question
