"""The training of one document: its samples, the optimizer steps, what goes on the record and into the store."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import torch

from lift_eval.adapters.state import trainable
from lift_eval.document import Document, document_seed
from lift_eval.errors import GeneratorError, TrainingError
from lift_eval.lifter.adapted_model import AdaptedModel
from lift_eval.lifter.costs import costs
from lift_eval.lifter.document_entries import DocumentEntries
from lift_eval.memory.predict import chosen_compute
from lift_eval.models.loading import supports_prefix_sharing
from lift_eval.prompts.form import TaskForm
from lift_eval.recipe import TrainingSettings
from lift_eval.record.peak_memory import watch
from lift_eval.record.progress import QUIET, OnProgress, StageProgress
from lift_eval.record.record import DocumentRecord
from lift_eval.store import Training
from lift_eval.synthesis.replies import Pair
from lift_eval.synthesis.synthesizer import NO_PAIRS, Synthesis
from lift_eval.training.finetune import FinetuneReport, finetune
from lift_eval.training.pair_samples import PairSamples
from lift_eval.training.samples import Sample
from lift_eval.training.stages import build_epochs, overlaps, read_once

logger = logging.getLogger(__name__)

OnStep = Callable[[int, int, float], None]

RETRY_FACTOR = 0.1
"""Factor on the learning rate after fine-tuning a document has diverged."""


@dataclass(frozen=True)
class Prepared:
    """What a document is trained on.

    Attributes:
        synthesis: The making of its pairs, to be closed in the end.
        pairs: Their samples.
        epochs: The samples of each epoch.
        generator: Source of the order of samples.
    """

    synthesis: Synthesis
    pairs: PairSamples
    epochs: Iterable[Iterable[Sample]]
    generator: torch.Generator

    def close(self) -> None:
        """Let no further pairs be made."""
        self.synthesis.close()


class DocumentTraining:
    """The training of one document.

    Args:
        adapted: The model; its adapter is in its initial state.
        document: The document.
        forms: The prompts in which questions will be put, where they are not the recipe's own.
        entries: Where the adapter is kept.
        record: Where costs are noted.
        progress: Shows how far the document is.
    """

    def __init__(
        self,
        adapted: AdaptedModel,
        document: Document,
        forms: Sequence[TaskForm],
        entries: DocumentEntries,
        record: DocumentRecord,
        progress: StageProgress = QUIET,
    ) -> None:
        self.record, self._progress = record, progress
        self._adapted, self._document, self._forms, self._entries = adapted, document, forms, entries
        self._seed = document_seed(adapted.recipe.seed, document)

    def run(self, on_step: OnStep | None, following: Document | None) -> None:
        """Train the document; arguments and errors are those of `LiftedDocument.train`."""
        settings = self._adapted.recipe.training
        began = time.perf_counter()
        try:
            self._train(settings, on_step, following)
        except TrainingError as error:
            self.record.seconds["train"] += time.perf_counter() - began
            self.record.retried = str(error)
            logger.warning("%s; the document is trained again at a tenth of the learning rate", error)
            self._adapted.restore({})
            lower = {"learning_rate": settings.learning_rate * RETRY_FACTOR}
            self._train(settings.model_copy(update=lower), on_step, following)

    def _train(self, settings: TrainingSettings, on_step: OnStep | None, following: Document | None) -> None:
        adapted = self._adapted
        with closing(self.prepare(settings, following)) as prepared:
            adapted.compute = chosen_compute(adapted.compute, adapted.recipe, adapted.model, adapted.window)
            forked = torch.random.fork_rng(devices=range(torch.cuda.device_count()))
            watched, shown = costs(adapted.model, self.record, "train"), self._progress.stage("training")
            with forked, watched, shown as show, self._entries.teaching() as teacher:
                torch.manual_seed(self._seed)  # dropout
                report = finetune(
                    adapted.model,
                    prepared.epochs,
                    settings,
                    compute=adapted.compute,
                    share_prefixes=supports_prefix_sharing(adapted.model),
                    column_cost=adapted.column_cost,
                    teacher=teacher,
                    document=read_once(self._document, adapted.recipe, adapted.encoder),
                    generator=prepared.generator,
                    on_step=partial(tell_step, show, on_step),
                )
            # What memory has taught about this machine holds for the next document too.
            adapted.compute = adapted.compute.model_copy(
                update={
                    "micro_batch_tokens": report.micro_batch_tokens,
                    "gradient_checkpointing": report.gradient_checkpointing,
                }
            )
            self.conclude(report, prepared)

    def prepare(self, settings: TrainingSettings, following: Document | None = None) -> Prepared:
        """Make the document's samples, or begin to.

        Args:
            settings: Of the training.
            following: The document that comes next, whose pairs a server makes meanwhile.

        Raises:
            DocumentError: If the recipe's auxiliary task does not fit the document.
            GeneratorError: If the making of question-answer pairs fails.
        """
        adapted = self._adapted
        recipe = adapted.recipe
        generator = torch.Generator().manual_seed(self._seed)
        synthesis = self._begin_synthesis()
        if following is not None and recipe.auxiliary.in_background:
            adapted.synthesizer.prefetch(following, document_seed(recipe.seed, following))
        pairs = PairSamples(
            self._document,
            self._arriving(synthesis),
            adapted.encoder,
            recipe.auxiliary,
            self._forms,
            freezes=settings.freezes_context,
            distills=settings.distills,
        )
        epochs = build_epochs(self._document, recipe, adapted.encoder, pairs, generator)
        return Prepared(synthesis, pairs, epochs if overlaps(recipe) else list(epochs), generator)

    def _begin_synthesis(self) -> Synthesis:
        """Make the document's question-answer pairs, or begin to."""
        adapted, record = self._adapted, self.record
        if adapted.recipe.auxiliary.strategy == "none":
            return NO_PAIRS
        shown = self._progress.stage("making pairs")
        with record.timed("synthesis"), watch(record.memory, "synthesis"), shown as show:
            synthesis = adapted.synthesizer.begin(self._document, self._seed, show)
        if synthesis.reused:
            record.reuse("pairs", {"synthesis": synthesis.result().seconds})
        return synthesis

    def _arriving(self, synthesis: Synthesis) -> Iterator[Pair]:
        """The document's pairs; shows how far a server is, from the first pair that is waited for to the last."""
        with self._progress.stage("making pairs") as show:
            yield from synthesis.pairs(show)

    def conclude(self, report: FinetuneReport, prepared: Prepared) -> None:
        """Put the training on the record, and the adapter that the model has now into the store.

        Args:
            report: What was done.
            prepared: What it was done with.

        Raises:
            GeneratorError: If nothing was trained.
        """
        record, synthesis = self.record, prepared.synthesis
        made = synthesis.result()
        record.pairs = {**made.counts, "untrainable": prepared.pairs.untrainable} if made.counts else {}
        record.made_pairs = [[pair.question, pair.answer] for pair in made.pairs]
        if made.operations:  # of a local model; a server's are unknown
            record.operations["synthesis"] = made.operations
        record.seconds["synthesis"] += synthesis.waited
        report.seconds -= synthesis.waited
        record.losses = report.losses
        record.trained_tokens += report.tokens
        record.supervised_tokens += report.supervised
        record.seconds["train"] += report.seconds
        self._check_trained()
        self._keep_adapter(report)

    def _keep_adapter(self, report: FinetuneReport) -> None:
        """Keep the trained adapter in the store, with how it was trained."""
        record = self.record
        synthesis_seconds = record.seconds["synthesis"] + record.reused_seconds.get("synthesis", 0.0)
        training = Training(
            losses=report.losses,
            trained_tokens=report.tokens,
            supervised_tokens=report.supervised,
            pairs=record.pairs,
            made_pairs=record.made_pairs,
            retried=record.retried,
            seconds={"synthesis": synthesis_seconds, "train": record.seconds["train"]},
            operations=record.operations,
        )
        self._entries.save_adapter(training, trainable(self._adapted.model))

    def _check_trained(self) -> None:
        """Refuse to go on where nothing was trained, and warn where there were few pairs."""
        record = self.record
        cure = (
            "use a higher auxiliary.max_tokens where replies are cut off, another auxiliary.generator where they "
            "cannot be read, a smaller passage or chunk where requests do not fit its window"
        )
        if not record.losses:
            raise GeneratorError(f"nothing was trained, no pair could be used ({record.pairs_made}); {cure}")
        if record.few_pairs:
            logger.warning("%s: few pairs to train on (%s); %s", self._document.name, record.pairs_made, cure)


def tell_step(show: OnProgress, on_step: OnStep | None, step: int, steps: int, loss: float) -> None:
    """Show an optimizer step, and tell who asked to be told."""
    show(step, steps, f"loss {loss:.3f}")
    if on_step is not None:
        on_step(step, steps, loss)
