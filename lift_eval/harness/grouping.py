"""From lm-eval's requests to groups about one document, checked before anything is trained; and back to its log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from lm_eval.api.instance import Instance

from lift_eval.distribution.groups import Group, Request, group_by_document
from lift_eval.document import ASIDE, find_question
from lift_eval.errors import DocumentError
from lift_eval.harness.documents import Documents
from lift_eval.harness.forms import TaskForms
from lift_eval.harness.generation import encoder_of, read_decoding
from lift_eval.lifter.lifter import Lifter
from lift_eval.prompts.contents.base import Content
from lift_eval.prompts.contents.registry import content_for
from lift_eval.prompts.form import TaskForm, demonstrated
from lift_eval.prompts.prompt import Prompt


def group_requests(
    kind: str,
    instances: Sequence[Instance],
    found: Documents,
    forms: TaskForms,
    lifter: Lifter | None,
    most_tokens: int,
) -> list[Group]:
    """Group requests by document, and refuse what cannot be done.

    Args:
        kind: ``generate_until``, ``loglikelihood`` or ``loglikelihood_rolling``.
        instances: The requests as lm-eval hands them on.
        found: Finds their documents.
        forms: Of the run's tasks; those of these requests are added.
        lifter: Does the requests. None means that only workers have one: they check what it takes a model to check.
        most_tokens: Most tokens of an answer where a task does not say.

    Raises:
        DocumentError: If a document cannot be found or trained on, or a prompt leaves no room in the model's window.
        RecipeError: If a task's settings of generation are wrong.
    """
    requests, documents, prompts = [], [], []
    for instance in instances:
        aside = instance.doc.get("prompt_style") in ASIDE
        request = Request(str(instance.task_name), int(instance.doc_id), tuple(instance.args), aside=aside)
        with named_in_errors(request):
            document, prompt = found.find(instance.doc, request)
            if lifter is not None and document is not None:
                lifter.check(document)
            query = find_question(instance.doc, prompt.without_document().text) if prompt.located else ""
            if document is not None and prompt.text and kind != "loglikelihood_rolling":
                forms.note(request.task, document, TaskForm.of(prompt, document, query))
        requests.append(replace(request, query=query))
        documents.append(document)
        prompts.append(replace(prompt, query=query))
    groups = [forms.given_to(group) for group in group_by_document(requests, documents)]
    for group in groups:
        _check_room(kind, group, [prompts[place] for place in group.places], lifter, most_tokens)
    return groups


def _check_room(
    kind: str, group: Group, prompts: Sequence[Prompt], lifter: Lifter | None, most_tokens: int
) -> None:
    """Refuse early what does not fit the model's window."""
    content = None if lifter is None else content_for(group.document, lifter.encoder, group.other)
    for request, prompt in zip(group.requests, prompts, strict=True):
        with named_in_errors(request):
            reserve = 0
            if kind == "generate_until":
                reserve = read_decoding(request.arguments[1], most_tokens, request.task).max_new_tokens
            elif kind == "loglikelihood" and content is not None:
                reserve = len(content.encoder.plain_ids(request.arguments[1]))
            if content is not None and reserve and request.arguments[0]:
                encoder = encoder_of(request.arguments, content.encoder)
                content.check(_demonstrated(prompt, request, group, content), reserve, encoder)


def prompt_of(request: Request, group: Group, content: Content) -> Prompt:
    """A request's prompt, behind the recipe's demonstrations.

    Args:
        request: The request.
        group: Its group.
        content: What of the document the prompt will hold.
    """
    prompt = Prompt.around(request.arguments[0], group.document, request.query)
    return _demonstrated(prompt, request, group, content)


def _demonstrated(prompt: Prompt, request: Request, group: Group, content: Content) -> Prompt:
    form = group.forms.get(request.task)
    if form is None or not request.arguments[0]:
        return prompt
    return demonstrated(prompt, form, content.encoder, closed_book=content.closed_book)


@contextmanager
def named_in_errors(request: Request) -> Iterator[None]:
    """Let errors inside say which request they are about."""
    try:
        yield
    except DocumentError as error:
        raise DocumentError(f"task '{request.task}', row {request.row}: {error}") from None


def shorten_logged(instances: Sequence[Instance], groups: Sequence[Group]) -> None:
    """Let lm-eval log each prompt with the document's hash in place of its text, which may have 100,000 words."""
    for group in groups:
        if group.document is not None:
            for place in group.places:
                text, *others = instances[place].args
                prompt = Prompt.around(text, group.document).with_document(group.document.mark)
                instances[place].arguments = (prompt.text, *others)
