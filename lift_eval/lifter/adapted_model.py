"""The adapted model: what all documents of a run share."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from lift_eval.adapters.attach import attach, unadapted
from lift_eval.adapters.quantization import quantized_bits
from lift_eval.adapters.state import AdapterState
from lift_eval.answering.decoding import Decoding, check_greedy, sampling_options
from lift_eval.answering.reading import Reading
from lift_eval.answering.shared_prefix import MIN_SHARED_TOKENS
from lift_eval.document import Document, Span, document_seed
from lift_eval.errors import AdapterError, CheckpointError, DocumentError, RecipeError
from lift_eval.export.card import write_card
from lift_eval.export.folder import export_adapter, export_merged
from lift_eval.export.scores import document_scores
from lift_eval.lifter.rehearsal import rehearse
from lift_eval.models.checks import check_model, unknown_tokens
from lift_eval.models.loading import (
    autocast,
    base_of,
    context_window,
    quantization_config,
    supports_prefix_sharing,
)
from lift_eval.prompts.contents.registry import CONTENTS
from lift_eval.prompts.prompt import PromptEncoder
from lift_eval.recipe import Recipe
from lift_eval.record.record import DocumentRecord
from lift_eval.store import Store, base_identity, open_store, run_identity
from lift_eval.synthesis.generators import make_generator
from lift_eval.synthesis.replies import Pair
from lift_eval.synthesis.synthesizer import Synthesizer
from lift_eval.training.finetune import column_cost_of
from lift_eval.training.forward import self_information
from lift_eval.training.stages import document_ids, trained_text
from lift_eval.training.teacher import Teacher

logger = logging.getLogger(__name__)

DECIDING_MODULE = "lift_eval.lifter.lifter"
"""All code that decides a result is imported, however indirectly, by this module."""


@dataclass(frozen=True)
class TrainedAhead:
    """A document's adapter that was trained beside those of others, before its session was opened.

    Attributes:
        record: How it was trained, and what that cost.
        tensors: Its trained tensors by name.
    """

    record: DocumentRecord
    tensors: Mapping[str, torch.Tensor]


class AdaptedModel:
    """A base model with a recipe's adapter, and all that does not change from one document to the next.

    Args:
        model: A causal language model of transformers; it gets the recipe's adapter.
        tokenizer: Its fast tokenizer.
        recipe: What to do.
        window: Most tokens of a prompt with its answer. None means the model's own.
        store: Where adapters and answers are kept and found again: a store or the path of its folder. None means that
            nothing is kept.

    Raises:
        AdapterError: If the adapter does not fit the model.
        CheckpointError: If the tokenizer does not fit recipe and model, or the model cannot be trained and asked.
        GeneratorError: If the recipe names a server that the environment does not say how to reach, or that wants
            another key.
        RecipeError: If the recipe's samples are longer than the model's window.
        StoreError: If the store's folder is no path or cannot be made.

    Attributes:
        base_digest: Identity of the base model as it is in memory; empty without a store.
        teacher: The model without its adapter, for distillation. None means that the recipe needs no teacher.
        ahead: Adapters that wait for their sessions, by the keys that they have in a store.
    """

    def __init__(
        self,
        model: Any,  # noqa: ANN401
        tokenizer: Any,  # noqa: ANN401
        recipe: Recipe,
        *,
        window: int | None = None,
        store: Store | str | Path | None = None,
    ) -> None:
        self.recipe = recipe = recipe.settled(tokenizer)
        self.compute = recipe.compute
        self.ahead: dict[str, TrainedAhead] = {}
        self.tokenizer = tokenizer
        self.window = window or context_window(model.config, tokenizer)
        self.encoder = PromptEncoder(tokenizer, recipe.prompt, self.window)
        self.encoder.reader = CONTENTS[recipe.prompt.document].reader(recipe.prompt, self._self_information)
        self._check_window()
        check_model(model, tokenizer)
        self._unknown_tokens = unknown_tokens(model, tokenizer)
        kept = None if store is None else open_store(store)
        self.store, self.base_digest = self._open(kept, model)  # before the adapter changes the base
        quantization = None if quantized_bits(model) else quantization_config(recipe.precision, model.dtype)
        self.model = attach(model, recipe.adapter, seed=recipe.seed, quantization=quantization).eval()
        self._initial = AdapterState.capture(self.model)
        if recipe.trains and recipe.auxiliary.strategy != "none":
            _ = self.synthesizer  # what its generator lacks is told now
        distills = recipe.trains and recipe.training.distills
        self.teacher = Teacher(self.model, self.unadapted, recipe.training) if distills else None
        self._check_attention()
        self.check_decoding(Decoding(1, options=sampling_options(self.model, recipe.decoding)))
        rehearse(
            self.model,
            tokenizer,
            trains=recipe.trains,
            teacher=self.teacher,
            freezes=recipe.trains and recipe.training.samples == "spans",
            reading=self.reading([MIN_SHARED_TOKENS] * 2, adapted=recipe.trains),
        )

    def _check_attention(self) -> None:
        """Refuse a model of which the recipe keeps keys and values that it does not have."""
        recipe, decoding = self.recipe, self.recipe.decoding
        wanted = {
            "'training.samples: spans'": recipe.trains and recipe.training.samples == "spans",
            f"'decoding.cache.type: {decoding.cache.type}'": decoding.cache.compresses,
            "'decoding.adapter: decoding_only'": decoding.adapter == "decoding_only",
        }
        asking = [key for key, wants in wanted.items() if wants]
        if asking and not supports_prefix_sharing(self.model):
            needs = "needs" if len(asking) == 1 else "need"
            raise CheckpointError(
                f"{' and '.join(asking)} {needs} attention to all earlier tokens in every layer, by eager or sdpa, "
                f"which {type(base_of(self.model)).__name__} does not have; use another model, or leave that out of "
                "the recipe"
            )
        decoding.cache.check(self.model)

    def check_decoding(self, decoding: Decoding) -> None:
        """Refuse a way to decode that does not go with how the recipe reads prompts.

        Args:
            decoding: How answers are decoded.

        Raises:
            RecipeError: If it is not greedy, and prompts are not read as usual.
        """
        settings = self.recipe.decoding
        if not settings.reads_plainly:
            wanted_by = (
                f"'decoding.cache.type: {settings.cache.type}' with 'decoding.adapter: {settings.adapter}'"
            )
            check_greedy(self.model, decoding, wanted_by)

    def reading(self, documents: Sequence[int], *, adapted: bool) -> Reading | None:
        """How the recipe reads prompts. None means as usual.

        Args:
            documents: For each prompt, how many tokens there are up to the document's end.
            adapted: Whether the model is adapted to a document; else its base reads anyway.
        """
        settings = self.recipe.decoding
        if settings.reads_plainly:
            return None
        base = self.unadapted if adapted and settings.adapter == "decoding_only" else None
        return Reading(settings.cache if settings.cache.compresses else None, documents, base)

    def check(self, document: Document) -> None:
        """Refuse a document that cannot be trained on, before anything is trained.

        Args:
            document: The document.

        Raises:
            DocumentError: If it has one token, so that there is nothing to predict, or one that the model does not
                know, if no adapter was made for it, or if it is to be read as a whole and does not fit the window.
        """
        self.recipe.adapter.find(document)
        unknown = next((token for token in self._unknown_tokens if token in document.training_text), None)
        if unknown is not None:
            raise DocumentError(
                f"document {document.name!r} holds {unknown!r}, a token that the model has no embedding for; remove "
                "it from the text"
            )
        if self.recipe.trains and self.recipe.training.samples == "spans":
            tokens = len(document_ids(document, self.recipe, self.encoder))
            if tokens > self.window:
                raise DocumentError(
                    f"document {document.name!r} has {tokens} tokens, which 'training.samples: spans' reads as a "
                    f"whole, so they must fit the model's window of {self.window}; use training.samples=segments, or "
                    "a model with a longer window"
                )
        start = trained_text(document, self.recipe)[:200]  # enough to tell one token from many
        if self.recipe.trains and len(self.encoder.plain_ids(start)) < 2:
            raise DocumentError(
                f"document {start!r} has fewer than two tokens, but fine-tuning predicts each token from those before "
                "it; leave it out, or use the recipe icl"
            )

    @contextmanager
    def _prepared(self, document: Document, tokens: int) -> Iterator[None]:
        """Start the adapter for a document of so many tokens; a reset goes back to this start inside."""
        adapter = self.recipe.adapter
        if not adapter.positions(tokens):  # it starts from the same for all documents
            yield
            return
        self.check(document)
        self._check_positions(document, tokens)
        ids, before = document_ids(document, self.recipe, self.encoder), self._initial
        with adapter.prepared(self.model, ids, document_seed(self.recipe.seed, document)):
            self._initial = AdapterState.capture(self.model)
            try:
                yield
            finally:
                self._initial = before

    def _check_positions(self, document: Document, tokens: int) -> None:
        """Refuse a document whose adapter leaves no room in the window for samples and prompts."""
        recipe = self.recipe
        prompt = tokens + recipe.prompt.question_tokens if recipe.prompt.document != "none" else 0
        answer = recipe.auxiliary.reply_tokens if recipe.auxiliary.method.converses else 0
        longest = max(min(self._longest_sample, tokens), min(prompt, recipe.prompt.max_tokens), answer)
        positions = recipe.adapter.positions(tokens)
        if positions + longest > self.window:
            raise DocumentError(
                f"document {document.name!r} gets {positions} positions of adapter '{recipe.adapter.type}' before "
                f"texts of {longest} tokens, which must fit the model's window of {self.window}; set a smaller "
                "adapter.tokens, training.segment_tokens or prompt.max_tokens"
            )

    def kept_pairs(self, document: Document) -> tuple[Pair, ...] | None:
        """A document's question-answer pairs in the store. None means that it has none."""
        found = self.synthesizer.find(document, document_seed(self.recipe.seed, document))
        return None if found is None else found.pairs

    def restore(self, learned: Mapping[str, torch.Tensor]) -> None:
        """Put a trained adapter's tensors into the model; whatever training does not change is as at the start."""
        self._initial.updated(learned).restore(self.model)

    def save_adapter(
        self,
        origin: tuple[str, str],
        folder: Path,
        *,
        merged: bool = False,
        results: str | Path | None = None,
    ) -> None:
        """Write the adapter that the model has now, with a card.

        Args:
            origin: Name and digest of the document that it was trained on.
            folder: A new or empty folder.
            merged: Whether to write the whole base with the adapter in its weights, and the tokenizer.
            results: Results of runs with this adapter, whose scores on the document the card shows.

        Raises:
            AdapterError: If there is no adapter, it cannot be merged, or the folder cannot be written or holds
                something.
            ResultsError: If the results cannot be read.
        """
        if not self.recipe.trains:
            raise AdapterError(f"recipe '{self.recipe.name}' trains no adapter, so there is nothing to save")
        scores = document_scores(Path(results), self.recipe, origin[1]) if results else {}
        config = None
        if merged:
            export_merged(self.model, self.recipe.adapter, folder)
            self.tokenizer.save_pretrained(folder)
        else:
            config = export_adapter(self.model, self.recipe.adapter, folder, self.unadapted)
        write_card(folder, self.model, self.recipe, origin, config, scores)

    def unadapted(self) -> AbstractContextManager[None]:
        """Let the model be its base inside, whatever the adapter has learned."""
        return unadapted(self.model, self._initial, self.recipe.adapter)

    def _self_information(self, text: str) -> list[tuple[Span, float]]:
        """Characters of each token of a text and its self-information under the base model, in nats.

        It is read in windows no longer than a prompt. A token with nothing before it is left out.
        """
        encoding = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        first, base = self.tokenizer.bos_token_id, base_of(self.model)
        before = [] if first is None else [first]
        ids = torch.tensor([*before, *encoding["input_ids"]])
        window = max(self.encoder.limit(0), 2)
        with torch.inference_mode(), self.unadapted(), autocast(base.device, base.dtype):
            values = self_information(base, ids, window) if len(ids) > 1 else torch.empty(0)
        spans = encoding["offset_mapping"][1 - len(before) :]
        return list(zip(spans, values.tolist(), strict=True))

    @cached_property
    def synthesizer(self) -> Synthesizer:
        """Makes the documents' question-answer pairs.

        Raises:
            CheckpointError, GeneratorError: As `make_generator`.
        """
        recipe = self.recipe
        generator = make_generator(
            recipe.auxiliary,
            recipe.precision,
            model=self.model,
            tokenizer=self.tokenizer,
            window=self.window,
            base=self.unadapted,
            thinking=self.encoder.thinking,
            identity=self.unadapted_identity if self.store else "",
        )
        return Synthesizer(recipe.auxiliary, generator, self.store)

    def _open(self, store: Store | None, base: Any) -> tuple[Store | None, str]:  # noqa: ANN401
        """The store, if the base can be told from others, and the identity of the base."""
        identity = base_identity(base) if store is not None else None
        if store is not None and identity is None:
            logger.warning("the base model is not in memory as a whole, so nothing is kept in the store")
        return (None, "") if identity is None else (store, identity)

    @cached_property
    def unadapted_identity(self) -> str:
        """Identity of the base model as it computes without the adapter; the same for most adapters."""
        adapter, precision = self.recipe.adapter, self.recipe.precision
        # Some take a part of the base with them, so that even their base computes a little differently.
        takes_part = adapter.changes_base or adapter.needs_full_precision
        moved = adapter.model_dump(mode="json") if takes_part else None
        return self._identity([moved, precision.model_dump(mode="json"), self.recipe.prompt.think_end])

    @cached_property
    def identity(self) -> str:
        """Identity of what all documents of a run have in common."""
        return self._identity(self.recipe.training_digest)

    def _identity(self, settings: object) -> str:
        return run_identity(
            self.base_digest, self.tokenizer, settings=settings, window=self.window, module=DECIDING_MODULE
        )

    @cached_property
    def column_cost(self) -> float:
        """What attention pays for a column: it decides how samples are laid out, and is the same for all documents."""
        return column_cost_of(self.model)

    @property
    def _longest_sample(self) -> int:
        """Most tokens of a training sample of the document's text; 0 where pairs alone are trained."""
        training = self.recipe.training
        if not training.trains_text:
            return 0
        if training.samples == "spans":  # they stand behind all of the document before them
            return self.window
        if not training.contextualized:
            return training.segment_tokens
        around = self.encoder.plain_ids(self.recipe.prompt.ellipsis + training.recite_instruction)
        return training.segment_tokens + training.window_tokens + len(around)

    def _check_window(self) -> None:
        training, longest = self.recipe.training, self._longest_sample
        if self.recipe.trains and longest > self.window:
            raise RecipeError(
                f"recipe '{self.recipe.name}'",
                [
                    f"a training sample of {longest} tokens must fit the model's window of {self.window}; set a "
                    "smaller training.segment_tokens (and training.stride_tokens)"
                    + (" or training.window_tokens" if training.contextualized else "")
                ],
            )
