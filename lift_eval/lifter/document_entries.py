"""What the store holds of one document: its trained adapter, what its teacher said, and the answers given with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from lift_eval.adapters.folder import CONFIG_FILE, WEIGHTS_FILE
from lift_eval.answering.decoding import Decoding
from lift_eval.document import Document, document_seed
from lift_eval.lifter.adapted_model import AdaptedModel
from lift_eval.prompts.form import TaskForm
from lift_eval.prompts.prompt import EncodedPrompt
from lift_eval.store import Distributions, KeptAnswers, Training, answers_key, entry_key
from lift_eval.store.code import hash_of_file
from lift_eval.training.teacher import MostLikely, Teacher


class DocumentEntries:
    """The entries of one document in a store, to be read and written; without a store nothing is found or kept.

    Args:
        adapted: The adapted model; it names the store.
        document: The document.
        forms: The prompts of the tasks that ask about it.
    """

    def __init__(self, adapted: AdaptedModel, document: Document, forms: Sequence[TaskForm] = ()) -> None:
        self._adapted = adapted
        decide = adapted.recipe.trains and adapted.recipe.auxiliary.asks_as_task
        self._forms = [form.text for form in forms] if decide else []
        self._store = adapted.store
        self._document = document
        self._made: list[str] = []

    def depend_on(self, folder: Path) -> None:
        """Let what is kept depend on an adapter that was made for the document elsewhere.

        Args:
            folder: The adapter's.
        """
        self._made = [hash_of_file(folder / name) for name in (CONFIG_FILE, WEIGHTS_FILE)]

    @property
    def key(self) -> str:
        """Key of the trained adapter."""
        return entry_key(
            "adapters",
            run=self._adapted.identity,
            document=self._document.digest,
            forms=self._forms,
            made=self._made,
        )

    def load_adapter(self, like: Mapping[str, Tensor]) -> tuple[Training, dict[str, Tensor]] | None:
        """How the adapter was trained, and its tensors. None means that it is not kept.

        Args:
            like: Tensors of the same names, shapes and number formats.
        """
        return None if self._store is None else self._store.load_tensors(Training, self.key, like)

    def save_adapter(self, training: Training, tensors: Mapping[str, Tensor]) -> None:
        """Keep a trained adapter."""
        if self._store is not None:
            adapted = self._adapted
            whole = {
                **self._about,
                "base": adapted.base_digest,
                "settings": adapted.recipe.model_dump(mode="json"),
            }
            self._store.save_tensors(self.key, training, tensors, whole)

    @contextmanager
    def teaching(self) -> Iterator[Teacher | None]:
        """Let the recipe's teacher know what it has said about the document's pairs in earlier runs, of any adapter.

        Yields:
            The teacher, which is not asked twice about the same; afterwards what it has said is kept. None means that
            the recipe needs no teacher.
        """
        teacher = self._adapted.teacher
        if teacher is None:
            yield None
            return
        teacher.said = before = self._load_distributions()
        known = len(before)
        try:
            yield teacher
        finally:
            if len(teacher.said) > known:
                self._save_distributions(teacher.said)
            teacher.said = {}

    @property
    def _distributions_key(self) -> str:
        """Key of what the teacher says about the document's pairs, however they are put and learned."""
        adapted, training = self._adapted, self._adapted.recipe.training
        return entry_key(
            "distributions",
            teacher=adapted.unadapted_identity,
            document=self._document.digest,
            pairs=adapted.synthesizer.key(self._document, document_seed(adapted.recipe.seed, self._document)),
            top_k=training.teacher_top_k,
            temperature=training.temperature,
        )

    def _load_distributions(self) -> dict[str, MostLikely]:
        if self._store is None or self._adapted.recipe.auxiliary.strategy == "none":
            return {}  # of a document's text each epoch has other samples
        found = self._store.load_tensors(Distributions, self._distributions_key)
        if found is None:
            return {}
        counts = list(found[0].samples.values())
        ids, log_probabilities = (
            torch.split(found[1][name], counts) for name in ("ids", "log_probabilities")
        )
        return dict(zip(found[0].samples, zip(ids, log_probabilities, strict=True), strict=True))

    def _save_distributions(self, said: Mapping[str, MostLikely]) -> None:
        if self._store is None:
            return
        ids, log_probabilities = (torch.cat(parts) for parts in zip(*said.values(), strict=True))
        self._store.save_tensors(
            self._distributions_key,
            Distributions(samples={identity: len(each) for identity, (each, _) in said.items()}),
            {"ids": ids, "log_probabilities": log_probabilities},
            self._about,
        )

    def load_answers(
        self, prompts: Sequence[EncodedPrompt], decoding: Decoding, *, trained: bool
    ) -> KeptAnswers | None:
        """Answers to the same prompts, all decoded together. None means that they are not kept.

        Args:
            prompts: The prompts.
            decoding: How answers are decoded.
            trained: Whether the document's adapter answers, or the base model.
        """
        if self._store is None:
            return None
        found = self._store.load(KeptAnswers, self._answers_key(prompts, decoding, trained=trained))
        return found if found is not None and len(found.answers) == len(prompts) else None

    def save_answers(
        self, answers: KeptAnswers, prompts: Sequence[EncodedPrompt], decoding: Decoding, *, trained: bool
    ) -> None:
        """Keep answers for `load_answers`."""
        if self._store is not None:
            self._store.save(self._answers_key(prompts, decoding, trained=trained), answers, self._about)

    def _answers_key(self, prompts: Sequence[EncodedPrompt], decoding: Decoding, *, trained: bool) -> str:
        settings, ids = self._adapted.recipe.decoding, [prompt.ids for prompt in prompts]
        documents = [prompt.before_question for prompt in prompts] if settings.cache.compresses else []
        how = {**asdict(decoding), "reading": settings.reading, "documents": documents}
        return answers_key(self.key, ids, adapted=trained, decoding=how)

    @property
    def _about(self) -> dict[str, str]:
        """For the reader of a list of entries, and for an export."""
        return {
            "document": self._document.name,
            "digest": self._document.digest,
            "recipe": self._adapted.recipe.name,
            "model": str(self._adapted.model.config._name_or_path),
        }
