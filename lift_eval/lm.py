"""The model class ``lift`` of lm-evaluation-harness.

    lm_eval --model lift --model_args pretrained=M,recipe=lora,training.learning_rate=5e-4 --tasks loogle_shortqa

All requests of a run are grouped by the document they are about. Each document is fine-tuned once, its requests are
answered, and the adapter is reset. With the recipe ``icl`` the same line runs without an adapter.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from lm_eval import utils
from lm_eval.api.instance import Instance
from lm_eval.api.model import CacheHook
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import normalize_gen_kwargs
from tqdm import tqdm

from lift_eval.adapters import needs_full_precision
from lift_eval.answering import Decoding
from lift_eval.document import Document, find_document
from lift_eval.errors import DocumentError, GeneratorError, RecipeError, StoreError, nearest
from lift_eval.lifter import LiftedDocument, Lifter
from lift_eval.loading import BUNDLED, load_config, load_model, resolve_device
from lift_eval.prompt import EncodedPrompt, Prompt
from lift_eval.recipe import Recipe, load_recipe
from lift_eval.record import RunRecord, versions
from lift_eval.store import open_store

logger = logging.getLogger(__name__)

OWN_ARGUMENTS = (
    "pretrained", "recipe", "document_field", "device", "device_map", "attn_implementation", "store",
)  # fmt: skip
HF_ARGUMENTS = (
    "revision", "subfolder", "tokenizer", "max_length", "batch_size", "max_batch_size", "trust_remote_code",
    "add_bos_token", "prefix_token_id", "chat_template_args", "enable_thinking", "think_end_token",
    "softmax_dtype", "logits_cache",
)  # fmt: skip
"""Arguments of lm-eval's ``hf`` model that keep their meaning."""

REPLACED_ARGUMENTS = {
    "peft": "the recipe's 'adapter' group makes the adapter",
    "load_in_4bit": "use precision.quantization=nf4",
    "load_in_8bit": "use precision.quantization=int8",
    "dtype": "use precision.dtype=float32 or precision.dtype=bfloat16",
    "parallelize": "use device_map=auto",
}

UNSAID_DEVICE = "cuda:0"
BUNDLED_TASKS = "lift_tiny"

# What is done with the requests of one document: the lifted document (none where requests have no document) and the
# requests' places in the run.
Work = Callable[[LiftedDocument, Sequence[int]], None]


class LiftLM(HFLM):  # type: ignore[misc]
    """Any causal language model, fine-tuned on each document before it answers.

    Args:
        pretrained: Folder or Hub name of the base model; none for the bundled one.
        recipe: A shipped recipe's name or a recipe file; none for ``tiny`` with the bundled model, else ``lora``.
        document_field: Field of the data set's rows that holds the document; none to find it.
        device: E.g. ``cuda``; none for a GPU where there is one, else the CPU. lm-eval's command line says
            ``cuda:0`` where the user says nothing, so that is taken for nothing said.
        device_map: transformers' own, for models larger than one device.
        attn_implementation: transformers' own.
        store: Folder of what is kept between runs; none for the user's cache folder, ``off`` to keep nothing.
        model_args: Dotted keys of the recipe, and `HF_ARGUMENTS`.

    Raises:
        RecipeError: With every unknown or wrong argument, before any weight is loaded.
        CheckpointError: If the base model cannot be loaded.
        StoreError: If the store's folder cannot be made.
    """

    def __init__(
        self,
        pretrained: str | None = None,
        recipe: str | None = None,
        document_field: str | None = None,
        device: str | None = None,
        device_map: str | None = None,
        attn_implementation: str | None = None,
        store: str | bool | None = None,
        **model_args: Any,  # noqa: ANN401
    ) -> None:
        hf_arguments = {key: value for key, value in model_args.items() if key in HF_ARGUMENTS}
        others = {key: value for key, value in model_args.items() if key not in HF_ARGUMENTS}
        self.recipe = recipe_from_arguments(recipe or ("lora" if pretrained else "tiny"), others)
        self.document_field = document_field
        self.record = RunRecord()
        self._bundled = pretrained is None
        self._device_map = device_map
        self._attn_implementation = attn_implementation
        source = str(pretrained or BUNDLED)
        load_config(source, revision=hf_arguments.get("revision", "main"))
        opened = open_store(store)
        began = time.perf_counter()
        super().__init__(
            pretrained=source,
            device=str(resolve_device(None if device == UNSAID_DEVICE else device)),
            **hf_arguments,
        )
        self.lifter = Lifter(self.model, self.tokenizer, self.recipe, window=self.max_length, store=opened)
        self._model = self.lifter.model
        self.record.load_seconds = time.perf_counter() - began

    def _create_model(self, pretrained: str, **hf_arguments: Any) -> None:  # noqa: ANN401
        """Load the base model as the core does; called by HFLM once it knows device and tokenizer."""
        self._model = load_model(
            pretrained,
            self.recipe.precision,
            device=self.device,
            quantize=not needs_full_precision(self.recipe.adapter),
            device_map=self._device_map,
            revision=hf_arguments.get("revision"),
            subfolder=hf_arguments.get("subfolder") or "",
            trust_remote_code=bool(hf_arguments.get("trust_remote_code")),
            attn_implementation=self._attn_implementation,
        )

    # --- the three kinds of requests ---------------------------------------------------------------------------

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Answer requests, each from the model adapted to its document.

        Args:
            requests: Of one or several tasks.
            disable_tqdm: Whether to hide the progress bar.

        Returns:
            The answers in the order of the requests; an empty one where the document was given up.
        """
        documents = self._documents(requests)
        decodings = [self._decoding(request.args[1]) for request in requests]
        prompts = [
            self._encode(request, document, decoding.max_new_tokens)
            for request, document, decoding in zip(requests, documents, decodings, strict=True)
        ]
        answers = [""] * len(requests)

        def work(lifted: LiftedDocument, places: Sequence[int]) -> None:
            for decoding, alike in _by_decoding(decodings, places):
                for place, decoded in zip(
                    alike, lifted.decode([prompts[place] for place in alike], decoding), strict=True
                ):
                    answers[place] = decoded.text
                    self.cache_hook.add_partial("generate_until", requests[place].args, decoded.text)

        self._each_document(requests, documents, work, quiet=disable_tqdm)
        return answers

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Score continuations, each by the model adapted to its document.

        Args:
            requests: Of one or several tasks.
            disable_tqdm: Whether to hide the progress bar.

        Returns:
            For each request the log-likelihood and whether greedy decoding would give the continuation; minus
            infinity where the document was given up.
        """
        documents = self._documents(requests)
        pairs = [
            self._encode_scored(request, document)
            for request, document in zip(requests, documents, strict=True)
        ]
        scores = [(float("-inf"), False)] * len(requests)

        def work(lifted: LiftedDocument, places: Sequence[int]) -> None:
            encoded = [(requests[place].args, *pairs[place]) for place in places]
            with lifted.scoring(len(places)):
                for place, score in zip(
                    places, self._loglikelihood_tokens(encoded, disable_tqdm=True), strict=True
                ):
                    scores[place] = score

        self._each_document(requests, documents, work, quiet=disable_tqdm)
        return scores

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Score whole texts in disjoint windows, each text by the model adapted to its document.

        Args:
            requests: Of one or several tasks.
            disable_tqdm: Whether to hide the progress bar.

        Returns:
            The log-likelihood of each request's text; minus infinity where the document was given up.
        """
        scores = [float("-inf")] * len(requests)

        def work(lifted: LiftedDocument, places: Sequence[int]) -> None:
            with lifted.scoring(len(places)):
                for place in places:
                    windows = utils.get_rolling_token_windows(
                        token_list=self.tok_encode(requests[place].args[0]),
                        prefix_token=self.prefix_token_id,
                        max_seq_len=self.max_length,
                        context_len=1,
                    )
                    encoded = [(None, *utils.make_disjoint_window(window)) for window in windows]
                    parts = self._loglikelihood_tokens(encoded, disable_tqdm=True)
                    scores[place] = sum(score for score, _ in parts)
                    self.cache_hook.add_partial("loglikelihood_rolling", requests[place].args, scores[place])

        self._each_document(requests, self._documents(requests), work, quiet=disable_tqdm)
        return scores

    # --- documents ---------------------------------------------------------------------------------------------

    def _documents(self, requests: Sequence[Instance]) -> list[Document | None]:
        found = []
        for request in requests:
            try:
                document = find_document(request.doc, request.args[0], self.document_field)
            except DocumentError as error:
                raise DocumentError(f"task '{request.task_name}', row {request.doc_id}: {error}") from None
            found.append(document)
        if self._bundled and any(not str(r.task_name).startswith(BUNDLED_TASKS) for r in requests):
            logger.warning(
                "the bundled model knows only the bundled world: its scores on other tasks mean nothing; name a model "
                "with pretrained=..."
            )
        return found

    def _each_document(
        self, requests: Sequence[Instance], documents: Sequence[Document | None], work: Work, *, quiet: bool
    ) -> None:
        """Lift each document once and do the work on its requests, then that on requests without a document."""
        groups: dict[Document, list[int]] = {}
        for place, document in enumerate(documents):
            if document is not None:
                groups.setdefault(document, []).append(place)
        records = {record.digest: record for record in self.record.documents}
        following = dict(pairwise(groups))
        bar = tqdm(groups.items(), desc="documents", unit="doc", disable=quiet or self.rank != 0)
        for document, places in bar:

            def show(step: int, steps: int, loss: float) -> None:
                bar.set_postfix_str(f"step {step}/{steps}, loss {loss:.3f}")

            earlier = records.get(document.digest)
            with self.lifter.lifting(document, earlier) as lifted:
                if earlier is None:
                    self.record.documents.append(lifted.record)
                try:
                    lifted.train(on_step=show, following=following.get(document))
                    work(lifted, places)
                except (torch.OutOfMemoryError, GeneratorError) as error:
                    lifted.record.failure = f"{type(error).__name__}: {str(error).splitlines()[0]}"
                    logger.error(
                        "document given up, its questions count as wrong: %s", lifted.record.summary()
                    )
            if not bar.disable:
                tqdm.write(lifted.record.summary(), file=sys.stderr)
        bare = [place for place, document in enumerate(documents) if document is None]
        if bare:
            tasks = sorted({str(requests[place].task_name) for place in bare})
            logger.warning(
                "%d requests of %s have no document and are answered by the base model; if one of their fields is the "
                "document, name it with document_field=...",
                len(bare),
                ", ".join(tasks),
            )
            self.record.questions_without_document += len(bare)
            with self.lifter.unlifted() as base:
                work(base, bare)

    # --- prompts -----------------------------------------------------------------------------------------------

    def _encode(self, request: Instance, document: Document | None, reserve: int) -> EncodedPrompt:
        prompt = Prompt.around(request.args[0], document)
        if self.recipe.prompt.document == "none":
            prompt = prompt.without_document()
        try:
            return self.lifter.encoder.encode(prompt, reserve)
        except DocumentError as error:
            raise DocumentError(f"task '{request.task_name}', row {request.doc_id}: {error}") from None

    def _encode_scored(self, request: Instance, document: Document | None) -> tuple[list[int], list[int]]:
        """Token ids of a context, its middle cut where it is too long, and of its continuation."""
        context, continuation = request.args
        if not context:
            ids = self.tok_encode(continuation, add_special_tokens=False)
            first = self.prefix_token_id
            return ([first], ids) if ids[0] != first else (ids[:1], ids[1:])
        context_ids, ids = self._encode_pair(context, continuation)
        closed_book = self.recipe.prompt.document == "none" and document is not None
        limit = min(self.recipe.prompt.max_tokens, self.max_length - len(ids))
        if closed_book or len(context_ids) > limit:
            context_ids = self._encode(request, document, len(ids)).ids
        return context_ids, ids

    def _decoding(self, gen_kwargs: dict[str, Any]) -> Decoding:
        options = dict(normalize_gen_kwargs(gen_kwargs, self.max_gen_toks))
        stop = tuple(text for text in options.pop("until") if text)
        longest = options.pop("max_gen_toks")
        options.pop("max_length", None)
        if not options["do_sample"]:
            options.pop("temperature", None)
        return Decoding(longest, stop, options)

    # --- what others see ---------------------------------------------------------------------------------------

    def set_cache_hook(self, cache_hook: CacheHook) -> None:
        """Accept lm-eval's answer cache only if it is empty or of this model and recipe.

        lm-eval keys it by the prompt alone, so an ICL run would be given LIFT's answers.

        Raises:
            StoreError: If the cache belongs to something else.
        """
        kept = getattr(cache_hook, "dbdict", None)
        if kept is not None:
            ours = f"{self.pretrained} {self.recipe.digest}"
            theirs = kept.get("lift_eval", None if not len(kept) else "another program")
            if theirs not in (None, ours):
                raise StoreError(
                    f"the cache of --use_cache holds answers of {theirs}, this run is {ours}; give each model and "
                    "recipe a cache of its own"
                )
            kept["lift_eval"] = ours
        super().set_cache_hook(cache_hook)

    def get_model_info(self) -> dict[str, Any]:
        """What lm-eval writes into ``config`` of its results: its own facts, and ours under ``lift``."""
        ours = {
            "recipe": self.recipe.model_dump(mode="json"),
            "recipe_digest": self.recipe.digest,
            "pretrained": "bundled" if self._bundled else self.pretrained,
            "window": self.lifter.window,
            "device": str(self.device),
            "dtype": str(self.lifter.model.dtype).removeprefix("torch."),
            "versions": versions(),
            **self.record.as_dict(),
        }
        return {**super().get_model_info(), "lift": ours}


def recipe_from_arguments(recipe: str, arguments: dict[str, Any]) -> Recipe:
    """Resolve the recipe and check all arguments that are not lm-eval's own.

    Args:
        recipe: The recipe's name or file.
        arguments: Dotted keys of the recipe, ``seed``, and whatever else was given.

    Raises:
        RecipeError: With all faults of arguments and recipe together.
    """
    overrides = {key: value for key, value in arguments.items() if "." in key or key == "seed"}
    known = (*OWN_ARGUMENTS, *HF_ARGUMENTS, "seed")
    faults = [
        f"'{key}' is not an argument of model 'lift': {REPLACED_ARGUMENTS[key]}"
        if key in REPLACED_ARGUMENTS
        else f"unknown argument '{key}' (value {value!r}){nearest(key, known)}"
        for key, value in arguments.items()
        if key not in overrides
    ]
    try:
        resolved = load_recipe(recipe, overrides)
    except RecipeError as error:
        if not faults:
            raise
        raise RecipeError("model arguments", [*faults, *error.faults]) from None
    if faults:
        raise RecipeError("model arguments", faults)
    return resolved


def _by_decoding(decodings: Sequence[Decoding], places: Sequence[int]) -> list[tuple[Decoding, list[int]]]:
    """Group requests that are decoded alike."""
    groups: list[tuple[Decoding, list[int]]] = []
    for place in places:
        for decoding, alike in groups:
            if decoding == decodings[place]:
                alike.append(place)
                break
        else:
            groups.append((decodings[place], [place]))
    return groups
