"""The core's one public class: lift a document, ask about it, forget it."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from lift_eval.adapters.attach import attach, unadapted
from lift_eval.adapters.quantization import quantized_bits
from lift_eval.adapters.state import AdapterState
from lift_eval.answering.generate import Answer, Decoding, answer, sampling_options
from lift_eval.document import Document
from lift_eval.errors import DocumentError, GeneratorError, RecipeError, TrainingError
from lift_eval.lifter.rehearsal import rehearse
from lift_eval.memory.predict import chosen_compute
from lift_eval.models.checks import check_model, unknown_tokens
from lift_eval.models.loading import (
    BUNDLED,
    autocast,
    context_window,
    load_config,
    load_model,
    load_tokenizer,
    quantization_config,
    resolve_device,
    supports_prefix_sharing,
)
from lift_eval.prompts.prompt import EncodedPrompt, Prompt, PromptEncoder
from lift_eval.recipe import Recipe, TrainingSettings, load_recipe
from lift_eval.record.peak_memory import watch
from lift_eval.record.record import DocumentRecord
from lift_eval.store import (
    Answers,
    KeptAnswer,
    Store,
    Training,
    answers_key,
    base_identity,
    entry_key,
    open_store,
    run_identity,
)
from lift_eval.synthesis.generators import make_generator
from lift_eval.synthesis.replies import Pair
from lift_eval.synthesis.synthesizer import NO_PAIRS, Synthesis, Synthesizer
from lift_eval.training.finetune import column_cost_of, finetune
from lift_eval.training.pair_samples import PairSamples
from lift_eval.training.stages import build_epochs, document_ids, overlaps, trained_text

logger = logging.getLogger(__name__)

OnStep = Callable[[int, int, float], None]

RETRY_FACTOR = 0.1
"""On the learning rate, where fine-tuning a document has diverged."""


class Lifter:
    """A base model that can be adapted to one document at a time.

    The model is loaded once and gets its adapter once. `lift` trains the adapter on a document and puts it back to
    its initial state afterwards, bit for bit, so that no document leaves a trace in the next.

    Args:
        model: A causal language model of transformers; it gets the recipe's adapter.
        tokenizer: Its fast tokenizer.
        recipe: What to do.
        window: Most tokens of a prompt with its answer; none for the model's own.
        store: Where adapters and answers are kept and found again: a store or the path of its folder. None to keep
            nothing.

    Raises:
        AdapterError: If the adapter does not fit the model.
        CheckpointError: If the tokenizer does not fit recipe and model, or the model cannot be trained and asked.
        GeneratorError: If the recipe names a server that the environment does not say how to reach.
        RecipeError: If the recipe's samples are longer than the model's window.
        StoreError: If the store's folder is no path or cannot be made.

    Attributes:
        lifted: The document that is lifted; None where none is.
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
        self.recipe = recipe
        self.lifted: LiftedDocument | None = None
        self.compute = recipe.compute
        self.tokenizer = tokenizer
        self.window = window or context_window(model.config, tokenizer)
        self.encoder = PromptEncoder(tokenizer, recipe.prompt, self.window)
        self._check_window()
        check_model(model, tokenizer)
        self._unknown_tokens = unknown_tokens(model, tokenizer)
        kept = None if store is None else open_store(store)
        self.store, self._base = self._open(kept, model)  # before the adapter changes the base
        quantization = None if quantized_bits(model) else quantization_config(recipe.precision, model.dtype)
        self.model = attach(model, recipe.adapter, seed=recipe.seed, quantization=quantization).eval()
        self._initial = AdapterState.capture(self.model)
        if recipe.trains and recipe.auxiliary.in_background:
            _ = self.synthesizer  # a missing address or key is told now
        rehearse(self.model, tokenizer, trains=recipe.trains)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path | None = None,
        recipe: str | Path | Recipe | None = None,
        *,
        device: str | None = None,
        device_map: str | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
        attn_implementation: str | None = None,
        store: Store | str | Path | None = None,
    ) -> Lifter:
        """Load a model and its tokenizer.

        Args:
            name: Folder or Hub name of the checkpoint; none for the bundled one.
            recipe: A recipe, its name or its file; none for ``tiny`` with the bundled model, else ``lora``.
            device: E.g. ``cuda``; none for a GPU where there is one, else the CPU.
            device_map: transformers' own, for models larger than one device.
            revision: Branch, tag or commit on the Hub.
            trust_remote_code: Whether code of the checkpoint may run.
            attn_implementation: transformers' own.
            store: Where adapters and answers are kept and found again: a store or the path of its folder. None to keep
            nothing.

        Raises:
            LiftEvalError: As `load_model`, `load_recipe` and the constructor do.
        """
        recipe = recipe or ("tiny" if name is None else "lora")
        resolved = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
        source = str(name or BUNDLED)
        kept = None if store is None else open_store(store)  # before the weights are loaded
        load_config(source, revision=revision, trust_remote_code=trust_remote_code)
        bos = resolved.prompt.bos
        tokenizer = load_tokenizer(source, revision, trust_remote_code=trust_remote_code, bos=bos)
        model = load_model(
            source,
            resolved.precision,
            device=resolve_device(device),
            quantize=not resolved.adapter.needs_full_precision,
            device_map=device_map,
            revision=revision,
            trust_remote_code=trust_remote_code,
            attn_implementation=attn_implementation,
        )
        return cls(model, tokenizer, resolved, store=kept)

    @contextmanager
    def lift(self, document: Document, on_step: OnStep | None = None) -> Iterator[LiftedDocument]:
        """Adapt the model to a document; inside the context it is adapted, after it never was.

        Args:
            document: The document.
            on_step: Called after each optimizer step with its number, the number of all steps and the loss.

        Yields:
            The lifted document, to be asked inside the context.

        Raises:
            DocumentError: If another document is lifted already.
        """
        with self.lifting(document) as lifted:
            lifted.train(on_step)
            yield lifted

    @contextmanager
    def lifting(self, document: Document, record: DocumentRecord | None = None) -> Iterator[LiftedDocument]:
        """The same in two steps: the document is lifted when its ``train`` is called.

        Args:
            document: The document.
            record: Of the same document earlier in the run, to go on with; none to begin one.

        Yields:
            The document.

        Raises:
            DocumentError: If another document is lifted already.
        """
        with self._only(LiftedDocument(self, document, record)) as lifted:
            try:
                yield lifted
            finally:
                self._initial.restore(self.model)

    @contextmanager
    def unlifted(self) -> Iterator[LiftedDocument]:
        """The base model, for questions about no document.

        Raises:
            DocumentError: If a document is lifted.
        """
        base = LiftedDocument(self, Document("(no document)"))
        with self._only(base), unadapted(self.model, self._initial, self.recipe.adapter):
            yield base

    @contextmanager
    def _only(self, lifted: LiftedDocument) -> Iterator[LiftedDocument]:
        """Let a document be the one that the model is adapted to, or about to be."""
        if self.lifted is not None:
            raise DocumentError(
                f"a model holds one document at a time, and {self.lifted.document.name!r} is lifted; leave its 'with' "
                f"block before {lifted.document.name!r} is lifted"
            )
        self.lifted = lifted
        try:
            yield lifted
        finally:
            self.lifted = None

    def check(self, document: Document) -> None:
        """Refuse a document that cannot be trained on, before anything is trained.

        Args:
            document: The document.

        Raises:
            DocumentError: If it has one token, so that there is nothing to predict, or one that the model does not
                know.
        """
        unknown = next((token for token in self._unknown_tokens if token in document.training_text), None)
        if unknown is not None:
            raise DocumentError(
                f"document {document.name!r} holds {unknown!r}, a token that the model has no embedding for; take it "
                "out of the text"
            )
        start = trained_text(document, self.recipe)[:200]  # enough to tell one token from many
        if self.recipe.trains and len(self.encoder.plain_ids(start)) < 2:
            raise DocumentError(
                f"document {start!r} has less than two tokens, and fine-tuning predicts each token from those before "
                "it; leave it out, or use the recipe icl"
            )

    def kept_pairs(self, document: Document) -> tuple[Pair, ...] | None:
        """A document's question-answer pairs in the store; None where it has none."""
        found = self.synthesizer.find(document, document_seed(self.recipe.seed, document))
        return None if found is None else found.pairs

    def restore(self, learned: Mapping[str, torch.Tensor]) -> None:
        """Put a trained adapter's tensors into the model; whatever training does not change is as at the start."""
        self._initial.updated(learned).restore(self.model)

    @cached_property
    def synthesizer(self) -> Synthesizer:
        """Makes the documents' question-answer pairs.

        Raises:
            GeneratorError: If the recipe names a server that the environment does not say how to reach.
        """
        recipe = self.recipe
        # Some adapters take a part of the base with them, so that even their base computes a little differently.
        base = [group.model_dump(mode="json") for group in (recipe.adapter, recipe.precision)]
        generator = make_generator(
            recipe.auxiliary,
            recipe.precision,
            model=self.model,
            tokenizer=self.tokenizer,
            window=self.window,
            base=partial(unadapted, self.model, self._initial),
            identity=self._identity(base) if self.store else "",
        )
        return Synthesizer(recipe.auxiliary, generator, self.store)

    def _open(self, store: Store | None, base: Any) -> tuple[Store | None, str]:  # noqa: ANN401
        """The store, if the base can be told from others, and the identity of the base."""
        identity = base_identity(base) if store is not None else None
        if store is not None and identity is None:
            logger.warning("the base model is not in memory as a whole, so nothing is kept in the store")
        return (None, "") if identity is None else (store, identity)

    @cached_property
    def identity(self) -> str:
        """Identity of what all documents of a run have in common."""
        return self._identity(self.recipe.training_digest)

    def _identity(self, settings: object) -> str:
        return run_identity(
            self._base, self.tokenizer, settings=settings, window=self.window, module=__name__
        )

    @cached_property
    def column_cost(self) -> float:
        """What attention pays for a column: it decides how samples are laid out, and is the same for all documents."""
        return column_cost_of(self.model)

    def _check_window(self) -> None:
        training = self.recipe.training
        if not self.recipe.trains:
            return
        longest = training.segment_tokens
        if training.contextualized:
            around = self.recipe.prompt.ellipsis + training.recite_instruction
            longest += training.window_tokens + len(self.encoder.plain_ids(around))
        if longest > self.window:
            raise RecipeError(
                f"recipe '{self.recipe.name}'",
                [
                    f"a training sample of {longest} tokens must fit the model's window of {self.window}; set a "
                    "smaller training.segment_tokens (and training.stride_tokens)"
                    + (" or training.window_tokens" if training.contextualized else "")
                ],
            )


class LiftedDocument:
    """A document that the model is adapted to.

    Attributes:
        document: The document.
        record: What was done and what it cost.
    """

    def __init__(self, lifter: Lifter, document: Document, record: DocumentRecord | None = None) -> None:
        self._lifter = lifter
        self._adapted = False
        self._decoded = record.questions if record else 0
        self.document = document
        self.record = record or DocumentRecord(
            digest=document.digest,
            title=document.title,
            tokens=len(document_ids(document, lifter.recipe, lifter.encoder)),
        )

    def train(self, on_step: OnStep | None = None, following: Document | None = None) -> None:
        """Fine-tune the adapter on the document, or take it from the store; nothing to do without an adapter.

        Args:
            on_step: Called after each optimizer step with its number, the number of all steps and the loss.
            following: The document that comes next, whose question-answer pairs a server makes meanwhile.

        Raises:
            DocumentError: If the recipe's auxiliary task does not fit the document.
            GeneratorError: If the making of question-answer pairs fails, or gives none and nothing else is trained.
            TrainingError: If the training diverges, and at a tenth of the learning rate too.
        """
        self._check_lifted()
        if not self._lifter.recipe.trains:
            return
        self._lifter.check(self.document)
        if not self._reuse_adapter():
            self._train_or_retry(on_step, following)
        self._adapted = True

    def _train_or_retry(self, on_step: OnStep | None, following: Document | None) -> None:
        settings = self._lifter.recipe.training
        began = time.perf_counter()
        try:
            self._train(settings, on_step, following)
        except TrainingError as error:
            self.record.seconds["train"] += time.perf_counter() - began
            self.record.retried = str(error)
            logger.warning("%s; the document is trained anew at a tenth of the learning rate", error)
            self._lifter.restore({})
            lower = {"learning_rate": settings.learning_rate * RETRY_FACTOR}
            self._train(settings.model_copy(update=lower), on_step, following)

    def _train(self, settings: TrainingSettings, on_step: OnStep | None, following: Document | None) -> None:
        lifter, record = self._lifter, self.record
        seed = document_seed(lifter.recipe.seed, self.document)
        generator = torch.Generator().manual_seed(seed)
        with closing(self._begin_synthesis(seed)) as synthesis:
            if following is not None and lifter.recipe.auxiliary.in_background:
                lifter.synthesizer.prefetch(following, document_seed(lifter.recipe.seed, following))
            pairs = PairSamples(
                self.document,
                synthesis.pairs,
                lifter.encoder,
                lifter.recipe.auxiliary,
                freezes=settings.freezes_context,
            )
            epochs = build_epochs(self.document, lifter.recipe, lifter.encoder, pairs, generator)
            lifter.compute = chosen_compute(lifter.compute, lifter.recipe, lifter.model, lifter.window)
            with torch.random.fork_rng(devices=_cuda_devices()), watch(record.memory, "train"):
                torch.manual_seed(seed)  # dropout
                report = finetune(
                    lifter.model,
                    epochs if overlaps(lifter.recipe) else list(epochs),
                    settings,
                    compute=lifter.compute,
                    share_prefixes=supports_prefix_sharing(lifter.model),
                    column_cost=lifter.column_cost,
                    generator=generator,
                    on_step=on_step,
                )
            counts = synthesis.result().counts
        # What memory has taught about this machine holds for the next document too.
        lifter.compute = lifter.compute.model_copy(
            update={
                "micro_batch_tokens": report.micro_batch_tokens,
                "gradient_checkpointing": report.gradient_checkpointing,
            }
        )
        record.pairs = {**counts, "untrainable": pairs.untrainable} if counts else {}
        record.seconds["synthesis"] += synthesis.waited
        report.seconds -= synthesis.waited
        record.losses = report.losses
        record.trained_tokens += report.tokens
        record.supervised_tokens += report.supervised
        record.seconds["train"] += report.seconds
        self._check_trained()
        if lifter.store is not None:
            synthesis_seconds = record.seconds["synthesis"] + record.reused_seconds.get("synthesis", 0.0)
            training = Training(
                losses=report.losses,
                trained_tokens=report.tokens,
                supervised_tokens=report.supervised,
                pairs=record.pairs,
                retried=record.retried,
                seconds={"synthesis": synthesis_seconds, "train": record.seconds["train"]},
            )
            lifter.store.save_adapter(self._key, training, trainable(lifter.model), self._about)

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
        lifter, record = self._lifter, self.record
        if lifter.recipe.auxiliary.strategy == "none":
            return NO_PAIRS
        began = time.perf_counter()
        with watch(record.memory, "synthesis"):
            synthesis = lifter.synthesizer.begin(self.document, seed)
        if synthesis.reused:
            record.reuse("pairs", {"synthesis": synthesis.result().seconds})
        record.seconds["synthesis"] += time.perf_counter() - began
        return synthesis

    def answer(self, questions: Sequence[str]) -> list[str]:
        """Answer questions about the document, put and decoded as the recipe says.

        Args:
            questions: The questions.

        Returns:
            Their answers, in order, without white space around them.

        Raises:
            DocumentError: If a question leaves no room in the model's window, if one text stands for the list of
                questions, or if the document is not lifted any more.
        """
        if isinstance(questions, str):
            raise DocumentError(
                f"questions must be a list, got the text {questions!r}; for one question write answer([question])"
            )
        recipe = self._lifter.recipe
        closed_book = recipe.prompt.document == "none"
        options = sampling_options(self._lifter.model, recipe.decoding)
        decoding = Decoding(recipe.decoding.max_new_tokens, options=options)
        prompts = [
            self.encode(
                self._lifter.encoder.render(self.document, question, closed_book=closed_book), decoding
            )
            for question in questions
        ]
        answers = self.decode(prompts, decoding)
        self.count([prompt.kept for prompt in prompts])
        return [answer.text.strip() for answer in answers]

    def encode(self, prompt: Prompt, decoding: Decoding) -> EncodedPrompt:
        """Encode a prompt about the document, truncated to leave room for the answer."""
        return self._lifter.encoder.encode(prompt, decoding.max_new_tokens)

    def decode(self, prompts: Sequence[EncodedPrompt], decoding: Decoding) -> list[Answer]:
        """Decode answers to prompts, or take them from the store, and add them to the record.

        Raises:
            DocumentError: If the document is not lifted any more.
        """
        self._check_lifted()
        began = time.perf_counter()
        record = self.record
        kept = self._reuse_answers(prompts, decoding) or self._decode(prompts, decoding)
        answers = [Answer(one.text, one.complete) for one in kept.answers]
        if kept.gates:
            before, asked = record.gates or kept.gates, self._decoded
            record.gates = [
                (old * asked + new * len(prompts)) / (asked + len(prompts))
                for old, new in zip(before, kept.gates, strict=True)
            ]
        self._decoded += len(prompts)
        record.incomplete_answers += sum(not answer.complete for answer in answers)
        record.seconds["answer"] += time.perf_counter() - began
        return answers

    def _decode(self, prompts: Sequence[EncodedPrompt], decoding: Decoding) -> Answers:
        began = time.perf_counter()
        lifter = self._lifter
        watching = self._adapted and len(prompts) > 0
        observed = lifter.recipe.adapter.observe(lifter.model) if watching else nullcontext(list)
        watched = watch(self.record.memory, "answer")
        with torch.random.fork_rng(devices=_cuda_devices()), watched, observed as gates:
            torch.manual_seed(document_seed(lifter.recipe.seed, self.document))  # sampling
            answers = answer(
                lifter.model,
                lifter.tokenizer,
                [prompt.ids for prompt in prompts],
                decoding,
                batch=lifter.recipe.compute.answer_batch,
            )
        kept = Answers(
            answers=[KeptAnswer(text=answer.text, complete=answer.complete) for answer in answers],
            gates=gates(),
            seconds=time.perf_counter() - began,
        )
        if lifter.store is not None:
            lifter.store.save(self._answers_key(prompts, decoding), kept, self._about)
        return kept

    def _check_lifted(self) -> None:
        if self._lifter.lifted is not self:
            raise DocumentError(
                f"document {self.document.name!r} is not lifted any more, so the base model would answer; ask inside "
                "its 'with' block"
            )

    def count(self, kept: Sequence[float | None]) -> None:
        """Put questions on the record.

        Args:
            kept: For each question, the share of the document that its prompt holds; None where it is not known.
        """
        record = self.record
        known = [share for share in kept if share is not None]
        total = (record.kept or 0.0) * (record.questions - record.not_located) + sum(known)
        record.questions += len(kept)
        record.not_located += len(kept) - len(known)
        located = record.questions - record.not_located
        record.kept = total / located if located else None

    @contextmanager
    def scoring(self) -> Iterator[None]:
        """Computation by another's hand, lm-eval's log-likelihoods: in our number formats and on our record.

        Raises:
            DocumentError: If the document is not lifted any more.
        """
        self._check_lifted()
        began = time.perf_counter()
        model = self._lifter.model
        watched = watch(self.record.memory, "answer")
        with torch.inference_mode(), autocast(model.device, model.dtype), watched:
            yield
        self.record.seconds["answer"] += time.perf_counter() - began

    # --- the store ---------------------------------------------------------------------------------------------

    def _reuse_adapter(self) -> bool:
        """Put the adapter of an earlier training into the model; false where there is none."""
        lifter, record = self._lifter, self.record
        if lifter.store is None:
            return False
        began = time.perf_counter()
        found = lifter.store.load_adapter(self._key, trainable(lifter.model))
        if found is None:
            return False
        training, tensors = found
        lifter.restore(tensors)
        if not record.losses:  # it is not from this run, whose record has its costs already
            record.reuse("adapter", training.seconds)
            record.losses = training.losses
            record.trained_tokens = training.trained_tokens
            record.supervised_tokens = training.supervised_tokens
            record.pairs = training.pairs
            record.retried = training.retried
        record.seconds["train"] += time.perf_counter() - began
        return True

    def _reuse_answers(self, prompts: Sequence[EncodedPrompt], decoding: Decoding) -> Answers | None:
        """Answers that the same adapter gave to the same prompts; none where there are none."""
        store = self._lifter.store
        found = store.load(Answers, self._answers_key(prompts, decoding)) if store is not None else None
        if found is None or len(found.answers) != len(prompts):
            return None
        self.record.reuse("answers", {"answer": found.seconds})
        return found

    @property
    def _key(self) -> str:
        return entry_key("adapters", run=self._lifter.identity, document=self.document.digest)

    def _answers_key(self, prompts: Sequence[EncodedPrompt], decoding: Decoding) -> str:
        return answers_key(
            self._key,
            [prompt.ids for prompt in prompts],
            adapted=self._adapted,
            decoding=asdict(decoding),
        )

    @property
    def _about(self) -> dict[str, str]:
        lifter = self._lifter
        return {
            "document": self.document.name,
            "recipe": lifter.recipe.name,
            "model": str(lifter.model.config._name_or_path),
        }


def trainable(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of an adapted model that training changes."""
    return {name: tensor for name, tensor in model.named_parameters() if tensor.requires_grad}


def document_seed(seed: int, document: Document) -> int:
    """Seed of all that is random about one document: it depends on no other document, no order and no worker."""
    return int(hashlib.sha256(f"{seed}:{document.digest}".encode()).hexdigest()[:15], 16)


def _cuda_devices() -> list[int]:
    return list(range(torch.cuda.device_count()))
