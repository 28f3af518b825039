"""How a group's requests are done: prompts are encoded, the document is lifted, then the answers are decoded."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch

from lift_eval.answering.decoding import Answer, Decoding, sampling_options
from lift_eval.distribution.groups import Group, Outcome, Request
from lift_eval.document import Document
from lift_eval.errors import DocumentError, GeneratorError, TrainingError
from lift_eval.harness.generation import encoder_of, read_decoding
from lift_eval.harness.grouping import named_in_errors, prompt_of
from lift_eval.lifter.lifter import Lifter
from lift_eval.lifter.session import LiftedDocument
from lift_eval.models.alone import answered_alone
from lift_eval.prompts.contents.base import Content
from lift_eval.prompts.contents.registry import content_for
from lift_eval.prompts.contents.shuffled import shuffled
from lift_eval.prompts.prompt import EncodedPrompt, Prompt
from lift_eval.record.progress import QUIET, StageProgress
from lift_eval.record.record import DocumentRecord

logger = logging.getLogger(__name__)

Respond = Callable[[LiftedDocument], Sequence[Any]]
"""Gets one result for each request of a group out of the model; its prompts are encoded already."""


def lift_and_respond(
    lifter: Lifter,
    group: Group,
    respond: Respond,
    *,
    earlier: DocumentRecord | None = None,
    following: Sequence[Group] = (),
    progress: StageProgress = QUIET,
) -> Outcome:
    """Lift a group's document and do its requests; the base model does those without a document.

    Args:
        lifter: Lifts the document.
        group: The document and its requests.
        respond: Does the requests.
        earlier: The document's record of earlier in the run, to go on with.
        following: What this process does next, in order; some of the documents may be trained with this one.
        progress: Shows how far the document is.

    Returns:
        The results and the record. A document that cannot be trained or asked is given up: its record says why.
    """
    if group.document is None:
        with lifter.base_model() as base:
            return Outcome(tuple(respond(base)), base.record)
    upcoming = [
        (_learned(lifter, one.document, one.other), one.task_forms)
        for one in (group, *following)
        if one.document is not None
    ]
    lifter.train_ahead(upcoming, progress)
    learned, record = upcoming[0][0], earlier
    if learned is not group.document and earlier is None:
        tokens = len(lifter.encoder.plain_ids(group.document.training_text))
        record = DocumentRecord(digest=group.document.digest, title=group.document.title, tokens=tokens)
    with lifter.session(learned, record, group.task_forms, progress) as session:
        try:
            session.train(following=upcoming[1][0] if len(upcoming) > 1 else None)
            results = tuple(respond(session))
        except (torch.OutOfMemoryError, GeneratorError, TrainingError) as error:
            results = ()
            session.record.give_up(error, len({request.question for request in group.requests}))
            logger.error("document given up, its questions count as wrong: %s", session.record.summary())
    if not results:
        torch.cuda.empty_cache()  # the next document starts with what the model needs, no more
    return Outcome(results, session.record)


def _learned(lifter: Lifter, document: Document, other: Document | None) -> Document:
    """The document whose adapter answers questions about a document.

    Raises:
        DocumentError: If it is to be another document's, and the run has no other.
    """
    if lifter.recipe.decoding.learned == "shuffled":
        return shuffled(document)
    if lifter.recipe.decoding.learned == "own":
        return document
    if other is None:
        raise DocumentError(
            "'decoding.learned: wrong' answers with the adapter of another document of the run, but there is no "
            "other; ask about two documents or more in one run"
        )
    return other


def generate(group: Group, lifter: Lifter, most_tokens: int) -> Respond:
    """Answers to the requests of a group.

    Args:
        group: The document and its requests.
        lifter: Encodes and decodes.
        most_tokens: Most tokens of an answer where a task does not say.

    Raises:
        DocumentError: If a prompt leaves no room in the model's window.
    """
    decodings = [_decoding(request, lifter, most_tokens) for request in group.requests]
    content = content_for(group.document, lifter.encoder, group.other)
    prompts = [
        encode(request, prompt_of(request, group, content), decoding.max_new_tokens, content)
        for request, decoding in zip(group.requests, decodings, strict=True)
    ]

    def respond(session: LiftedDocument) -> list[str]:
        answers = [""] * len(prompts)
        asides = [request.aside for request in group.requests]
        for alike in _alike(list(zip(decodings, asides, strict=True))):
            first, some = alike[0], [prompts[index] for index in alike]
            with session.record.answering_aside(len(alike)) if asides[first] else nullcontext():
                decoded = session.decode(some, decodings[first])
            for index, answer in zip(alike, decoded, strict=True):
                answers[index] = answer.text
            if group.document is not None and not asides[first]:
                _count_alone(session, some, decoded, lifter)
        count(session, group, prompts)
        return answers

    return respond


def encode(request: Request, prompt: Prompt, reserve: int, content: Content) -> EncodedPrompt:
    """Encode a request's prompt.

    Args:
        request: The request.
        prompt: Its prompt.
        reserve: Tokens to leave room for.
        content: What of its document the prompt holds.

    Raises:
        DocumentError: If the prompt cannot be made, or leaves no room in the model's window.
    """
    with named_in_errors(request):
        return content.encode(prompt, reserve, encoder_of(request.arguments, content.encoder))


def count(session: LiftedDocument, group: Group, prompts: Sequence[EncodedPrompt]) -> None:
    """Put the questions of a group on the session's record.

    Args:
        session: The session.
        group: The group.
        prompts: The prompt of each request.
    """
    by_question = {
        request.question: prompt.over_length
        for request, prompt in zip(group.requests, prompts, strict=True)
        if prompt.over_length
    }
    session.record.count_questions(
        group.per_question([prompt.kept for prompt in prompts]), list(by_question.values())
    )


def _decoding(request: Request, lifter: Lifter, most_tokens: int) -> Decoding:
    decoding = read_decoding(request.arguments[1], most_tokens, request.task)
    if lifter.recipe.decoding.source == "checkpoint":
        decoding = replace(decoding, options=sampling_options(lifter.model, lifter.recipe.decoding))
    lifter.check_decoding(decoding)
    return decoding


def _count_alone(
    session: LiftedDocument, prompts: Sequence[EncodedPrompt], answers: Sequence[Answer], lifter: Lifter
) -> None:
    """Put on a session's record what its answers would have taken if each question had been asked alone."""
    recipe = lifter.recipe
    adapted = recipe.adapter.type != "none"
    tokens = [
        (len(prompt.ids), answer.tokens)
        for prompt, answer in zip(prompts, answers, strict=True)
        if not prompt.skipped
    ]
    spent = answered_alone(
        lifter.model,
        tokens,
        adapter_reads=adapted and recipe.decoding.adapter == "always",
        adapter_writes=adapted,
    )
    session.record.alone_operations = (session.record.alone_operations or 0) + spent


def _alike(settings: Sequence[tuple[Decoding, bool]]) -> list[list[int]]:
    """Group the places of equal settings, which cannot be hashed."""
    groups: list[list[int]] = []
    for place, setting in enumerate(settings):
        for alike in groups:
            if settings[alike[0]] == setting:
                alike.append(place)
                break
        else:
            groups.append([place])
    return groups
