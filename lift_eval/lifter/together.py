"""Documents whose adapters are trained in one batch, before their sessions are opened one after the other."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

import torch

from lift_eval.adapters.stacked import StackedLora
from lift_eval.adapters.state import trainable
from lift_eval.document import Document
from lift_eval.errors import AdapterError, DocumentError, GeneratorError, TrainingError
from lift_eval.lifter.adapted_model import AdaptedModel, TrainedAhead
from lift_eval.lifter.costs import costs
from lift_eval.lifter.document_entries import DocumentEntries
from lift_eval.lifter.document_training import DocumentTraining, OnStep, Prepared, tell_step
from lift_eval.memory.predict import chosen_compute, documents_at_once
from lift_eval.models.loading import supports_prefix_sharing
from lift_eval.prompts.form import TaskForm
from lift_eval.record.progress import QUIET, StageProgress
from lift_eval.record.record import DocumentRecord
from lift_eval.training.finetune import Course, FinetuneReport
from lift_eval.training.stages import document_ids
from lift_eval.training.together import finetune_together

logger = logging.getLogger(__name__)


def train_ahead(
    adapted: AdaptedModel,
    upcoming: Sequence[tuple[Document, Sequence[TaskForm]]],
    progress: StageProgress = QUIET,
) -> None:
    """Train the first of several documents in one batch with the next ones, as many as the recipe says or pay.

    Their sessions find the adapters, and the store keeps each under the key that it has when it is trained alone. A
    document that cannot be trained this way is left to its session.

    Args:
        adapted: The model, adapted to nothing now.
        upcoming: Documents in the order in which their sessions will be opened, each with the prompts in which its
            questions will be put.
        progress: Shows how far the first document is.
    """
    recipe = adapted.recipe
    if not recipe.trains_together or adapted.compute.documents == 1:
        return
    tokens = len(document_ids(upcoming[0][0], recipe, adapted.encoder))
    count = documents_at_once(recipe, adapted.model, tokens, adapted.window)
    together = [
        (document, forms, DocumentEntries(adapted, document, forms)) for document, forms in upcoming[:count]
    ]
    if len(together) < 2 or _is_trained(adapted, together[0][2]):
        return
    untrained = [each for each in together if not _is_trained(adapted, each[2])]
    try:
        _train_together(adapted, untrained, progress)
    except (AdapterError, torch.OutOfMemoryError) as error:
        logger.warning("documents are trained one by one from here on: %s", str(error).partition("\n")[0])
        adapted.compute = adapted.compute.model_copy(update={"documents": 1})
        torch.cuda.empty_cache()


def _is_trained(adapted: AdaptedModel, entries: DocumentEntries) -> bool:
    return entries.key in adapted.ahead or entries.load_adapter(trainable(adapted.model)) is not None


def _train_together(
    adapted: AdaptedModel,
    chosen: Sequence[tuple[Document, Sequence[TaskForm], DocumentEntries]],
    progress: StageProgress,
) -> None:
    with ExitStack() as to_close:
        ready: list[tuple[DocumentTraining, Prepared, DocumentEntries]] = []
        for document, forms, entries in chosen:
            record = DocumentRecord(digest=document.digest)
            training = DocumentTraining(adapted, document, forms, entries, record, progress)
            try:
                adapted.check(document)
                prepared = training.prepare(adapted.recipe.training)
            except (DocumentError, GeneratorError):
                continue  # its session says what is wrong with it
            to_close.callback(prepared.close)
            ready.append((training, prepared, entries))
        if not ready:
            return
        stack = StackedLora(adapted.model, len(ready))
        spent = DocumentRecord(digest="")
        with costs(adapted.model, spent, "train"), progress.stage("training") as show:
            on_step = partial(tell_step, show, None)
            reports = _finetune(adapted, stack, [prepared for _, prepared, _ in ready], on_step)
        read = sum(report.tokens for report in reports if not isinstance(report, TrainingError))
        for number, ((training, prepared, entries), report) in enumerate(zip(ready, reports, strict=True)):
            if isinstance(report, TrainingError):
                continue  # its session trains it anew, at last at a lower rate
            tensors = {name: weight.detach() for name, weight in stack.weights(number).items()}
            training.record.memory |= spent.memory
            training.record.operations["train"] = spent.operations["train"] * report.tokens / (read or 1)
            adapted.restore(tensors)
            try:
                training.conclude(report, prepared)
            except GeneratorError:
                continue
            finally:
                adapted.restore({})
            adapted.ahead[entries.key] = TrainedAhead(training.record, tensors)


def _finetune(
    adapted: AdaptedModel, stack: StackedLora, ready: Sequence[Prepared], on_step: OnStep
) -> list[FinetuneReport | TrainingError]:
    recipe = adapted.recipe
    return finetune_together(
        adapted.model,
        stack,
        [
            Course(
                list(stack.weights(number).values()),
                prepared.epochs,
                recipe.training,
                prepared.generator,
                None if number else on_step,
            )
            for number, prepared in enumerate(ready)
        ],
        compute=chosen_compute(adapted.compute, recipe, adapted.model, adapted.window, documents=len(ready)),
        share_prefixes=supports_prefix_sharing(adapted.model),
        column_cost=adapted.column_cost,
    )
