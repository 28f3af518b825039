"""The session on one document: train, ask, put on the record what it cost."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch

from lift_eval.adapters.folder import enter
from lift_eval.adapters.state import trainable
from lift_eval.answering.decoding import Answer, Decoding, sampling_options, warn_of_unfinished_thinking
from lift_eval.answering.generate import answer
from lift_eval.document import Document, check_question, document_seed
from lift_eval.errors import DocumentError
from lift_eval.lifter.adapted_model import AdaptedModel
from lift_eval.lifter.costs import costs, stored_bytes
from lift_eval.lifter.document_entries import DocumentEntries
from lift_eval.lifter.document_training import DocumentTraining, OnStep
from lift_eval.models.loading import autocast
from lift_eval.prompts.contents.registry import CONTENTS, content_for
from lift_eval.prompts.form import TaskForm
from lift_eval.prompts.prompt import EncodedPrompt, Prompt
from lift_eval.record.progress import QUIET, StageProgress
from lift_eval.record.record import DocumentRecord
from lift_eval.store import KeptAnswer, KeptAnswers
from lift_eval.training.stages import document_ids

logger = logging.getLogger(__name__)


class LiftedDocument:
    """A document to which the model is adapted.

    Attributes:
        document: The document.
        record: What was done and what it cost.
        is_current: Whether the model belongs to the document now; otherwise it can be neither trained nor asked.
    """

    def __init__(
        self,
        adapted: AdaptedModel,
        document: Document,
        record: DocumentRecord | None = None,
        forms: Sequence[TaskForm] = (),
        progress: StageProgress = QUIET,
    ) -> None:
        self._adapted, self._forms, self._progress = adapted, forms, progress
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
        """Fine-tune the adapter on the document, or load it from the store or a folder; ICL has none.

        Args:
            on_step: Called after each optimizer step with its number, the number of all steps and the loss.
            following: The next document, whose question-answer pairs a server makes in the meantime.

        Raises:
            AdapterError: If the adapter that was made for the document does not fit the model.
            DocumentError: If the recipe's auxiliary task does not fit the document, or no adapter was made for it.
            GeneratorError: If generating question-answer pairs fails, or gives none and nothing else is trained.
            TrainingError: If training diverges, also at a tenth of the learning rate.
        """
        self._check_current()
        if self._adapted.recipe.trains:
            self._adapted.check(self.document)
            if not (self._take_ahead() or self._reuse_adapter()):
                training = DocumentTraining(
                    self._adapted, self.document, self._forms, self._entries, self.record, self._progress
                )
                training.run(on_step, following)
            self._trained = True
        elif made := self._adapted.recipe.adapter.find(self.document):
            with self.record.timed("train"):
                enter(self._adapted.model, made)
                self._entries.depend_on(made)
            self._trained = True
        self.record.stored_bytes = stored_bytes(
            self._adapted.model, self.document, learned=self._trained, closed_book=self._content.closed_book
        )

    def _take_ahead(self) -> bool:
        """Put the adapter that was trained beside those of other documents into the model; false where none was."""
        ahead = self._adapted.ahead
        trained = ahead.pop(self._entries.key, None) if ahead else None  # the key is a hash of all code
        if trained is None:
            return False
        self._adapted.restore(trained.tensors)
        self.record.add_training(trained.record)
        return True

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
            for name, value in training.model_dump(exclude={"seconds", "operations"}).items():
                setattr(record, name, value)
            record.add_operations(training.operations)
        record.seconds["train"] += time.perf_counter() - began
        return True

    def save(self, folder: str | Path, *, merged: bool = False, results: str | Path | None = None) -> None:
        """Write the trained adapter to a folder that peft loads, with a model card.

        Arguments and errors are those of `AdaptedModel.save_adapter`. PiSSA is written as LoRA over the original base.

        Raises:
            DocumentError: If the document is not lifted, or no longer.
        """
        self._check_current()
        if not self._trained and self._adapted.recipe.trains:
            raise DocumentError(f"document {self.document.name!r} is not trained yet; call train() first")
        origin = (self.document.name, self.document.digest)
        self._adapted.save_adapter(origin, Path(folder), merged=merged, results=results)

    @contextmanager
    def base_model(self) -> Iterator[LiftedDocument]:
        """Let the base model answer about the document inside, as if there were no adapter.

        Yields:
            A session with its own record.

        Raises:
            DocumentError: If the document is no longer lifted.
        """
        self._check_current()
        base = LiftedDocument(self._adapted, self.document, progress=self._progress)
        with self._adapted.unadapted():
            base.is_current = True
            try:
                yield base
            finally:
                base.is_current = False

    def answer(self, questions: Sequence[str], *, closed_book: bool | None = None) -> list[str]:
        """Answer questions about the document with the recipe's prompt and decoding.

        Args:
            questions: The questions.
            closed_book: Whether the document is left out of the prompts. None means that the recipe decides.

        Returns:
            Their answers, in order, without white space around them.

        Raises:
            DocumentError: If a question is no text, has no word or leaves no room in the model's window, if one text
                stands for the list of questions, or if the document is no longer lifted.
        """
        if isinstance(questions, str) or not isinstance(questions, Iterable):
            raise DocumentError(
                f"questions must be a list of texts, got {questions!r}; for one question write answer([question])"
            )
        questions = list(questions)
        for number, question in enumerate(questions):
            check_question(question, f"question {number}")
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
        """Decode answers to prompts, or load them from the store, and add them to the record.

        Raises:
            DocumentError: If the document is no longer lifted.
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
        record.prompt_tokens += sum(len(prompt.ids) for prompt in asked)
        record.answer_tokens += sum(answer.tokens for answer in answers)
        record.seconds["answer"] += time.perf_counter() - began
        return answers

    def _reuse_answers(self, prompts: Sequence[EncodedPrompt], decoding: Decoding) -> KeptAnswers | None:
        """Answers that were given to the same prompts before. None means that there are none."""
        found = self._entries.load_answers(prompts, decoding, trained=self._trained)
        if found is not None:
            self.record.reuse("answers", {"answer": found.seconds})
            self.record.add_operations(found.operations)
        return found

    def _decode(self, prompts: Sequence[EncodedPrompt], decoding: Decoding) -> KeptAnswers:
        began = time.perf_counter()
        adapted = self._adapted
        watching = self._trained and len(prompts) > 0
        observed = adapted.recipe.adapter.observe(adapted.model) if watching else nullcontext(list)
        watched = costs(adapted.model, self.record, "answer")
        with watched as spent, observed as gates, self._progress.stage("answering") as show:
            answers = answer(
                adapted.model,
                adapted.tokenizer,
                [prompt.ids for prompt in prompts],
                decoding,
                batch=adapted.recipe.compute.answer_batch,
                seed=document_seed(adapted.recipe.seed, self.document),
                on_answered=show,
                reading=adapted.reading([one.before_question for one in prompts], adapted=self._trained),
            )
        kept = KeptAnswers(
            answers=[KeptAnswer(**asdict(answer)) for answer in answers],
            gates=gates(),
            seconds=time.perf_counter() - began,
            operations=spent,
        )
        self._entries.save_answers(kept, prompts, decoding, trained=self._trained)
        return kept

    def _check_current(self) -> None:
        if not self.is_current:
            raise DocumentError(
                f"document {self.document.name!r} is no longer lifted, so the base model would answer; ask inside its "
                "'with' block"
            )

    @contextmanager
    def scoring(self) -> Iterator[None]:
        """Let lm-eval compute log-likelihoods inside, in the recipe's number formats; the costs go on the record.

        Raises:
            DocumentError: If the document is no longer lifted.
        """
        self._check_current()
        model, record = self._adapted.model, self.record
        measured = costs(model, record, "answer")
        with record.timed("answer"), torch.inference_mode(), autocast(model.device, model.dtype), measured:
            yield
