"""The session on one document: train, ask, put on the record what it cost."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch

from lift_eval.adapters.folder import enter
from lift_eval.adapters.state import trainable
from lift_eval.answering.generate import (
    Answer,
    Decoding,
    answer,
    sampling_options,
    warn_of_unfinished_thinking,
)
from lift_eval.document import Document, check_text, document_seed
from lift_eval.errors import DocumentError, GeneratorError, TrainingError
from lift_eval.lifter.adapted_model import AdaptedModel
from lift_eval.lifter.document_entries import DocumentEntries
from lift_eval.memory.predict import chosen_compute
from lift_eval.models.loading import autocast, supports_prefix_sharing
from lift_eval.prompts.contents.registry import CONTENTS, content_for
from lift_eval.prompts.form import TaskForm
from lift_eval.prompts.prompt import EncodedPrompt, Prompt
from lift_eval.recipe import TrainingSettings
from lift_eval.record.peak_memory import watch
from lift_eval.record.record import DocumentRecord
from lift_eval.store import KeptAnswer, KeptAnswers, Training
from lift_eval.synthesis.synthesizer import NO_PAIRS, Synthesis
from lift_eval.training.finetune import FinetuneReport, finetune
from lift_eval.training.pair_samples import PairSamples
from lift_eval.training.stages import build_epochs, document_ids, overlaps, read_once

logger = logging.getLogger(__name__)

OnStep = Callable[[int, int, float], None]

RETRY_FACTOR = 0.1
"""Factor on the learning rate after fine-tuning a document has diverged."""


class LiftedDocument:
    """A document that the model is adapted to.

    Attributes:
        document: The document.
        record: What was done and what it cost.
        is_current: Whether the model belongs to the document now; else it can be neither trained nor asked.
    """

    def __init__(
        self,
        adapted: AdaptedModel,
        document: Document,
        record: DocumentRecord | None = None,
        forms: Sequence[TaskForm] = (),
    ) -> None:
        self._adapted, self._forms = adapted, forms
        self._entries = DocumentEntries(adapted, document, forms)
        self._content = content_for(document, adapted.encoder)
        self._trained = False
        self._decoded = record.questions if record else 0
        self.is_current = False
        self.document = document
        self.record = record or DocumentRecord(
            digest=document.digest,
            title=document.title,
            tokens=len(document_ids(document, adapted.recipe, adapted.encoder)),
        )

    def train(self, on_step: OnStep | None = None, following: Document | None = None) -> None:
        """Fine-tune the adapter on the document, or take it from the store or where it was made; ICL has none.

        Args:
            on_step: Called after each optimizer step with its number, the number of all steps and the loss.
            following: The document that comes next, whose question-answer pairs a server makes meanwhile.

        Raises:
            AdapterError: If the adapter that was made for the document does not fit the model.
            DocumentError: If the recipe's auxiliary task does not fit the document, or no adapter was made for it.
            GeneratorError: If the making of question-answer pairs fails, or gives none and nothing else is trained.
            TrainingError: If the training diverges, and at a tenth of the learning rate too.
        """
        self._check_current()
        if not self._adapted.recipe.trains:
            if made := self._adapted.recipe.adapter.find(self.document):
                with self.record.timed("train"):
                    enter(self._adapted.model, made)
                    self._entries.depend_on(made)
                self._trained = True
            return
        self._adapted.check(self.document)
        if not self._reuse_adapter():
            self._train_or_retry(on_step, following)
        self._trained = True

    def _reuse_adapter(self) -> bool:
        """Put the adapter of an earlier training into the model; false where there is none."""
        record = self.record
        began = time.perf_counter()
        found = self._entries.load_adapter(trainable(self._adapted.model))
        if found is None:
            return False
        training, tensors = found
        self._adapted.restore(tensors)
        if not record.losses:  # it is not from this run, whose record has its costs already
            record.reuse("adapter", training.seconds)
            record.losses = training.losses
            record.trained_tokens = training.trained_tokens
            record.supervised_tokens = training.supervised_tokens
            record.pairs, record.made_pairs = training.pairs, training.made_pairs
            record.retried = training.retried
        record.seconds["train"] += time.perf_counter() - began
        return True

    def _train_or_retry(self, on_step: OnStep | None, following: Document | None) -> None:
        settings = self._adapted.recipe.training
        began = time.perf_counter()
        try:
            self._train(settings, on_step, following)
        except TrainingError as error:
            self.record.seconds["train"] += time.perf_counter() - began
            self.record.retried = str(error)
            logger.warning("%s; the document is trained anew at a tenth of the learning rate", error)
            self._adapted.restore({})
            lower = {"learning_rate": settings.learning_rate * RETRY_FACTOR}
            self._train(settings.model_copy(update=lower), on_step, following)

    def _train(self, settings: TrainingSettings, on_step: OnStep | None, following: Document | None) -> None:
        adapted, record = self._adapted, self.record
        seed = document_seed(adapted.recipe.seed, self.document)
        generator = torch.Generator().manual_seed(seed)
        with closing(self._begin_synthesis(seed)) as synthesis:
            if following is not None and adapted.recipe.auxiliary.in_background:
                adapted.synthesizer.prefetch(following, document_seed(adapted.recipe.seed, following))
            pairs = PairSamples(
                self.document,
                synthesis.pairs,
                adapted.encoder,
                adapted.recipe.auxiliary,
                self._forms,
                freezes=settings.freezes_context,
                distills=settings.distills,
            )
            epochs = build_epochs(self.document, adapted.recipe, adapted.encoder, pairs, generator)
            adapted.compute = chosen_compute(adapted.compute, adapted.recipe, adapted.model, adapted.window)
            forked = torch.random.fork_rng(devices=range(torch.cuda.device_count()))
            with forked, watch(record.memory, "train"), self._entries.teaching() as teacher:
                torch.manual_seed(seed)  # dropout
                report = finetune(
                    adapted.model,
                    epochs if overlaps(adapted.recipe) else list(epochs),
                    settings,
                    compute=adapted.compute,
                    share_prefixes=supports_prefix_sharing(adapted.model),
                    column_cost=adapted.column_cost,
                    teacher=teacher,
                    document=read_once(self.document, adapted.recipe, adapted.encoder),
                    generator=generator,
                    on_step=on_step,
                )
            made = synthesis.result()
        # What memory has taught about this machine holds for the next document too.
        adapted.compute = adapted.compute.model_copy(
            update={
                "micro_batch_tokens": report.micro_batch_tokens,
                "gradient_checkpointing": report.gradient_checkpointing,
            }
        )
        record.pairs = {**made.counts, "untrainable": pairs.untrainable} if made.counts else {}
        record.made_pairs = [[pair.question, pair.answer] for pair in made.pairs]
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
        )
        self._entries.save_adapter(training, trainable(self._adapted.model))

    def _check_trained(self) -> None:
        """Refuse to go on where nothing was trained, and warn where there were few pairs."""
        record = self.record
        cure = (
            "use a higher auxiliary.max_tokens where replies are cut off, another auxiliary.generator where they "
            "cannot be read"
        )
        if not record.losses:
            raise GeneratorError(f"nothing was trained, no pair could be used ({record.pairs_made}); {cure}")
        if record.few_pairs:
            logger.warning("%s: few pairs to train on (%s); %s", self.document.name, record.pairs_made, cure)

    def _begin_synthesis(self, seed: int) -> Synthesis:
        """Make the document's question-answer pairs, or begin to."""
        adapted, record = self._adapted, self.record
        if adapted.recipe.auxiliary.strategy == "none":
            return NO_PAIRS
        with record.timed("synthesis"), watch(record.memory, "synthesis"):
            synthesis = adapted.synthesizer.begin(self.document, seed)
        if synthesis.reused:
            record.reuse("pairs", {"synthesis": synthesis.result().seconds})
        return synthesis

    def save(self, folder: str | Path, *, merged: bool = False) -> None:
        """Write the trained adapter to a folder that peft loads, with a card that says what it is.

        Arguments and errors are those of `AdaptedModel.save_adapter`. PiSSA is written as LoRA over the original base.

        Raises:
            DocumentError: If the document is not lifted, or not any more.
        """
        self._check_current()
        if not self._trained and self._adapted.recipe.trains:
            raise DocumentError(f"document {self.document.name!r} is not trained yet; call train() first")
        self._adapted.save_adapter((self.document.name, self.document.digest), Path(folder), merged=merged)

    @contextmanager
    def base_model(self) -> Iterator[LiftedDocument]:
        """Let the base model answer about the document inside, as if the adapter were not there.

        Yields:
            A session with a record of its own.

        Raises:
            DocumentError: If the document is not lifted any more.
        """
        self._check_current()
        base = LiftedDocument(self._adapted, self.document)
        with self._adapted.unadapted():
            base.is_current = True
            try:
                yield base
            finally:
                base.is_current = False

    def answer(self, questions: Sequence[str], *, closed_book: bool | None = None) -> list[str]:
        """Answer questions about the document, put and decoded as the recipe says.

        Args:
            questions: The questions.
            closed_book: Whether the document is left out of the prompts. None means as the recipe says.

        Returns:
            Their answers, in order, without white space around them.

        Raises:
            DocumentError: If a question is no text or leaves no room in the model's window, if one text stands for the
                list of questions, or if the document is not lifted any more.
        """
        if isinstance(questions, str) or not isinstance(questions, Iterable):
            raise DocumentError(
                f"questions must be a list of texts, got {questions!r}; for one question write answer([question])"
            )
        questions = list(questions)
        for number, question in enumerate(questions):
            check_text(question, f"question {number}")
        recipe, encoder, content = self._adapted.recipe, self._adapted.encoder, self._content
        if closed_book is not None:
            content = CONTENTS["none" if closed_book else "truncated"](self.document, encoder)
        options = sampling_options(self._adapted.model, recipe.decoding)
        decoding = Decoding(recipe.decoding.max_new_tokens, options=options)
        render = partial(encoder.render, self.document, closed_book=content.closed_book)
        prompts = [content.encode(render(question), decoding.max_new_tokens) for question in questions]
        answers = self.decode(prompts, decoding)
        self.record.count_questions(
            [prompt.kept for prompt in prompts],
            [prompt.over_length for prompt in prompts if prompt.over_length],
        )
        return [answer.text.strip() for answer in answers]

    def encode(self, prompt: Prompt, decoding: Decoding) -> EncodedPrompt:
        """Encode a prompt about the document, as the recipe says and with room for the answer."""
        return self._content.encode(prompt, decoding.max_new_tokens)

    def decode(self, prompts: Sequence[EncodedPrompt], decoding: Decoding) -> list[Answer]:
        """Decode answers to prompts, or take them from the store, and add them to the record.

        Raises:
            DocumentError: If the document is not lifted any more.
        """
        self._check_current()
        began = time.perf_counter()
        record = self.record
        decoding = replace(decoding, thinking=self._adapted.encoder.thinking)
        asked = [prompt for prompt in prompts if not prompt.skipped]
        kept = self._reuse_answers(asked, decoding) or self._decode(asked, decoding)
        given = iter(kept.answers)
        answers = [
            Answer("", complete=True) if prompt.skipped else Answer(**dict(next(given))) for prompt in prompts
        ]
        if kept.gates:
            before, known = record.gates or kept.gates, self._decoded
            record.gates = [
                (old * known + new * len(asked)) / (known + len(asked))
                for old, new in zip(before, kept.gates, strict=True)
            ]
        self._decoded += len(asked)
        record.incomplete_answers += sum(not answer.complete for answer in answers)
        record.thinking_tokens += sum(answer.thinking_tokens for answer in answers)
        warn_of_unfinished_thinking(answers, decoding, self.document.name)
        record.seconds["answer"] += time.perf_counter() - began
        return answers

    def _reuse_answers(self, prompts: Sequence[EncodedPrompt], decoding: Decoding) -> KeptAnswers | None:
        """Answers that were given to the same prompts before. None means that there are none."""
        found = self._entries.load_answers(prompts, decoding, trained=self._trained)
        if found is not None:
            self.record.reuse("answers", {"answer": found.seconds})
        return found

    def _decode(self, prompts: Sequence[EncodedPrompt], decoding: Decoding) -> KeptAnswers:
        began = time.perf_counter()
        adapted = self._adapted
        watching = self._trained and len(prompts) > 0
        observed = adapted.recipe.adapter.observe(adapted.model) if watching else nullcontext(list)
        watched = watch(self.record.memory, "answer")
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())), watched, observed as gates:
            torch.manual_seed(document_seed(adapted.recipe.seed, self.document))  # sampling
            answers = answer(
                adapted.model,
                adapted.tokenizer,
                [prompt.ids for prompt in prompts],
                decoding,
                batch=adapted.recipe.compute.answer_batch,
            )
        kept = KeptAnswers(
            answers=[KeptAnswer(**asdict(answer)) for answer in answers],
            gates=gates(),
            seconds=time.perf_counter() - began,
        )
        self._entries.save_answers(kept, prompts, decoding, trained=self._trained)
        return kept

    def _check_current(self) -> None:
        if not self.is_current:
            raise DocumentError(
                f"document {self.document.name!r} is not lifted any more, so the base model would answer; ask inside "
                "its 'with' block"
            )

    @contextmanager
    def scoring(self) -> Iterator[None]:
        """Let lm-eval compute log-likelihoods inside, in the recipe's number formats; the costs go on the record.

        Raises:
            DocumentError: If the document is not lifted any more.
        """
        self._check_current()
        model, record = self._adapted.model, self.record
        watched = watch(record.memory, "answer")
        with record.timed("answer"), torch.inference_mode(), autocast(model.device, model.dtype), watched:
            yield
