"""The core's one public class: lift a document, ask about it, forget it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from lift_eval.adapters import AdapterState, attach, needs_full_precision, unadapted
from lift_eval.adapters.quantization import quantized_bits
from lift_eval.answering import Answer, Decoding, answer
from lift_eval.document import Document
from lift_eval.errors import RecipeError
from lift_eval.loading import (
    BUNDLED,
    attends_fully,
    autocast,
    context_window,
    load_model,
    load_tokenizer,
    quantization_config,
    resolve_device,
)
from lift_eval.prompt import EncodedPrompt, Prompt, PromptEncoder
from lift_eval.recipe import Recipe, load_recipe
from lift_eval.record import DocumentRecord
from lift_eval.training.contextualized import contextualized_samples, draw_windows
from lift_eval.training.finetune import finetune
from lift_eval.training.samples import Sample
from lift_eval.training.segments import segment_samples, segments

OnStep = Callable[[int, int, float], None]


class Lifter:
    """A base model that can be adapted to one document at a time.

    The model is loaded once and gets its adapter once. `lift` trains the adapter on a document and puts it back to
    its initial state afterwards, bit for bit, so that no document leaves a trace in the next.

    Args:
        model: A causal language model of transformers; it gets the recipe's adapter.
        tokenizer: Its fast tokenizer.
        recipe: What to do.
        window: Most tokens of a prompt with its answer; none for the model's own.

    Raises:
        AdapterError: If the adapter does not fit the model.
        CheckpointError: If the tokenizer does not fit the recipe.
        RecipeError: If the recipe's samples are longer than the model's window.
    """

    def __init__(self, model: Any, tokenizer: Any, recipe: Recipe, *, window: int | None = None) -> None:  # noqa: ANN401
        self.recipe = recipe
        self.tokenizer = tokenizer
        self.window = window or context_window(model.config, tokenizer)
        self.encoder = PromptEncoder(tokenizer, recipe.prompt, self.window)
        self._check_window()
        quantization = None if quantized_bits(model) else quantization_config(recipe.precision, model.dtype)
        self.model = attach(model, recipe.adapter, seed=recipe.seed, quantization=quantization).eval()
        self._initial = AdapterState.capture(self.model)

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

        Raises:
            LiftEvalError: As `load_model`, `load_recipe` and the constructor do.
        """
        recipe = recipe or ("tiny" if name is None else "lora")
        resolved = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
        source = str(name or BUNDLED)
        tokenizer = load_tokenizer(source, revision, trust_remote_code=trust_remote_code)
        model = load_model(
            source,
            resolved.precision,
            device=resolve_device(device),
            quantize=not needs_full_precision(resolved.adapter),
            device_map=device_map,
            revision=revision,
            trust_remote_code=trust_remote_code,
            attn_implementation=attn_implementation,
        )
        return cls(model, tokenizer, resolved)

    @contextmanager
    def lift(self, document: Document, on_step: OnStep | None = None) -> Iterator[LiftedDocument]:
        """Adapt the model to a document; inside the context it is adapted, after it never was.

        Args:
            document: The document.
            on_step: Called after each optimizer step with its number, the number of all steps and the loss.

        Yields:
            The lifted document, to be asked.
        """
        with self.lifting(document) as lifted:
            lifted.train(on_step)
            yield lifted

    @contextmanager
    def lifting(self, document: Document) -> Iterator[LiftedDocument]:
        """The same in two steps: the document is lifted when its ``train`` is called."""
        try:
            yield LiftedDocument(self, document)
        finally:
            self._initial.restore(self.model)

    @contextmanager
    def unlifted(self) -> Iterator[LiftedDocument]:
        """The base model, for questions about no document."""
        with unadapted(self.model, self._initial):
            yield LiftedDocument(self, Document("(no document)"))

    def epochs(self, document: Document, generator: torch.Generator) -> list[list[Sample]]:
        """The samples of each epoch of both stages."""
        ids = torch.tensor(self.encoder.plain_ids(document.training_text))
        training = self.recipe.training
        epochs: list[list[Sample]] = []
        for _ in range(training.epochs):
            if epochs and not (training.contextualized and training.window_draw == "epoch"):
                epochs.append(epochs[0])
            else:
                epochs.append(self._segment_samples(ids, generator))
        return epochs

    def _segment_samples(self, ids: torch.Tensor, generator: torch.Generator) -> list[Sample]:
        training = self.recipe.training
        length, stride = training.segment_tokens, training.stride_tokens
        if not training.contextualized:
            return segment_samples(ids, length, stride)
        count = len(segments(ids, length, stride))
        return contextualized_samples(
            ids,
            length,
            stride,
            windows=[draw_windows(len(ids), training.window_tokens, generator) for _ in range(count)],
            ellipsis=torch.tensor(self.encoder.plain_ids(self.recipe.prompt.ellipsis)),
            instruction=torch.tensor(self.encoder.plain_ids(training.recite_instruction)),
        )

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

    def __init__(self, lifter: Lifter, document: Document) -> None:
        self._lifter = lifter
        self.document = document
        self.record = DocumentRecord(
            document.digest, document.title, tokens=len(lifter.encoder.plain_ids(document.training_text))
        )

    def train(self, on_step: OnStep | None = None) -> None:
        """Fine-tune the adapter on the document; nothing to do for a recipe without an adapter.

        Args:
            on_step: Called after each optimizer step with its number, the number of all steps and the loss.
        """
        lifter, record = self._lifter, self.record
        if not lifter.recipe.trains:
            return
        seed = document_seed(lifter.recipe.seed, self.document)
        generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=_cuda_devices()):
            torch.manual_seed(seed)  # dropout
            report = finetune(
                lifter.model,
                lifter.epochs(self.document, generator),
                lifter.recipe.training,
                compute=lifter.recipe.compute,
                share_prefixes=attends_fully(lifter.model),
                generator=generator,
                on_step=on_step,
            )
        record.losses = report.losses
        record.trained_tokens = report.tokens
        record.supervised_tokens = report.supervised
        record.seconds["train"] = report.seconds

    def answer(self, questions: Sequence[str]) -> list[str]:
        """Answer questions about the document, put and decoded as the recipe says.

        Args:
            questions: The questions.

        Returns:
            Their answers, in order.

        Raises:
            DocumentError: If a question leaves no room in the model's window.
        """
        recipe = self._lifter.recipe
        closed_book = recipe.prompt.document == "none"
        sampling = {"do_sample": True, "temperature": recipe.decoding.temperature}
        options = sampling if recipe.decoding.temperature else {}
        decoding = Decoding(recipe.decoding.max_new_tokens, options=options)
        prompts = [
            self.encode(
                self._lifter.encoder.render(self.document, question, closed_book=closed_book), decoding
            )
            for question in questions
        ]
        return [answer.text for answer in self.decode(prompts, decoding)]

    def encode(self, prompt: Prompt, decoding: Decoding) -> EncodedPrompt:
        """Encode a prompt about the document, truncated to leave room for the answer."""
        return self._lifter.encoder.encode(prompt, decoding.max_new_tokens)

    def decode(self, prompts: Sequence[EncodedPrompt], decoding: Decoding) -> list[Answer]:
        """Decode answers to prompts, and add them to the record."""
        began = time.perf_counter()
        lifter, record = self._lifter, self.record
        with torch.random.fork_rng(devices=_cuda_devices()):
            torch.manual_seed(document_seed(lifter.recipe.seed, self.document))  # sampling
            answers = answer(
                lifter.model,
                lifter.tokenizer,
                [prompt.ids for prompt in prompts],
                decoding,
                batch=lifter.recipe.compute.answer_batch,
            )
        kept = record.kept * record.questions + sum(prompt.kept for prompt in prompts)
        record.questions += len(prompts)
        record.kept = kept / max(record.questions, 1)
        record.incomplete_answers += sum(not answer.complete for answer in answers)
        record.seconds["answer"] += time.perf_counter() - began
        return answers

    @contextmanager
    def scoring(self, questions: int) -> Iterator[None]:
        """Computation by another's hand, lm-eval's log-likelihoods: in our number formats and on our record."""
        began = time.perf_counter()
        model = self._lifter.model
        with torch.inference_mode(), autocast(model.device, model.dtype):
            yield
        self.record.questions += questions
        self.record.seconds["answer"] += time.perf_counter() - began


def document_seed(seed: int, document: Document) -> int:
    """Seed of all that is random about one document: it depends on no other document, no order and no worker."""
    return int(hashlib.sha256(f"{seed}:{document.digest}".encode()).hexdigest()[:15], 16)


def _cuda_devices() -> list[int]:
    return list(range(torch.cuda.device_count()))
