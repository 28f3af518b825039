"""How much memory a run takes, told before it runs.

The code of the run itself is run: the model with its adapter, a gradient, the answering of questions. Its tensors have
shapes and a device, but no data, and a ledger adds up the bytes of those that are alive. So whatever an architecture,
an adapter or the checkpointing of activations changes is in the sum, and nothing is loaded.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import psutil
import torch
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig

from lift_eval.adapters.attach import attach
from lift_eval.answering.decoding import Decoding
from lift_eval.answering.generate import answer
from lift_eval.answering.reading import Reading
from lift_eval.memory.fake_model import bytes_of, fake_model, trained_parameters
from lift_eval.memory.operations import training_operations
from lift_eval.memory.simulate import DECODED, NoTokenizer, answering_bytes
from lift_eval.memory.workload import (
    MOST_TOKENS,
    QUESTION_TOKENS,
    SAFE_SHARE,
    Workload,
    alike,
    largest_questions,
    largest_requests,
    largest_steps,
    longest_inlined,
    sample,
)
from lift_eval.models.loading import base_of
from lift_eval.recipe import ComputeSettings, LoraSettings, NoAdapter, Recipe, TrainingSettings
from lift_eval.training.finetune import finetune

logger = logging.getLogger(__name__)

IMPORTED = {"lm_eval": 100 * 2**20, "nltk": 60 * 2**20}
"""Bytes that libraries take which only a run imports, about (`python perf/startup.py --part imports`)."""

MANY_TOKENS = 100_000
"""Of a document that makes every sample as long as the recipe lets it be."""


SHARE_OF_ADAPTERS = 0.25
"""Of the free memory, for the adapters of documents that are trained in one batch; the rest is for activations."""

MOST_DOCUMENTS = 16
"""In one batch; so many adapters are lost at most where a run is killed."""


@dataclass(frozen=True)
class MemoryPart:
    """A part of a prediction.

    Attributes:
        name: What takes the memory.
        bytes: How much.
        remark: What it is made of.
        phase: When it is there; empty for all the time. Phases come one after the other.
    """

    name: str
    bytes: int
    remark: str = ""
    phase: str = ""


@dataclass(frozen=True)
class Prediction:
    """What a run takes at most.

    Attributes:
        parts: What it is made of.
        compute: The recipe's group of that name, with nothing left to choose.
        operations: What training on the document takes. None means that nothing is trained, or that it is not known.
    """

    parts: Sequence[MemoryPart]
    compute: ComputeSettings
    operations: int | None = None

    @property
    def peak(self) -> int:
        """Most bytes at a time."""
        return self.of("") + self.of(self.largest_phase)

    @property
    def largest_phase(self) -> str:
        """Name of the phase that takes most."""
        return max((part.phase for part in self.parts if part.phase), key=self.of)

    def of(self, phase: str) -> int:
        """Bytes of a phase, or with an empty name of what is there all the time."""
        return sum(part.bytes for part in self.parts if part.phase == phase)


def predict(
    config: Any,  # noqa: ANN401 - PretrainedConfig
    recipe: Recipe,
    *,
    device: torch.device,
    document_tokens: int,
    window: int,
    free: int | None,
    generator: Any = None,  # noqa: ANN401
) -> Prediction:
    """Predict the most memory that a session takes: training on a document and answering its questions.

    Args:
        config: The model's configuration.
        recipe: The recipe.
        device: Where. It need not be one of this machine's: what a GPU's tensors take is simulated with a processor's,
            which have the same shapes, in the bfloat16 that GPUs multiply.
        document_tokens: Tokens of the document.
        window: Most tokens of a prompt with its answer.
        free: Free bytes, for what the recipe leaves to choose. None means that they are not known: what takes least
            memory is chosen.
        generator: Configuration of the checkpoint that writes the question-answer pairs, where it is another one.

    Returns:
        The prediction: of the process on a CPU, else of torch's tensors on the device.

    Raises:
        AdapterError: If the adapter does not fit the model.
    """
    if not is_here(device) and recipe.precision.dtype == "auto":
        precision = recipe.precision.model_copy(update={"dtype": "bfloat16"})
        recipe = recipe.model_copy(update={"precision": precision})
    model = fake_model(config, recipe, device if is_here(device) else torch.device("cpu"))
    ids = torch.zeros(document_tokens, dtype=torch.int64)
    with recipe.adapter.without_initialisation.prepared(model, ids, seed=0):
        return _predicted(model, recipe, device, document_tokens, window, free, generator)


def is_here(device: torch.device) -> bool:
    """Whether this machine has a device."""
    return device.type != "cuda" or torch.cuda.is_available()


def _predicted(
    model: Any,  # noqa: ANN401 - of `fake_model`
    recipe: Recipe,
    device: torch.device,
    document_tokens: int,
    window: int,
    free: int | None,
    generator: Any,  # noqa: ANN401
) -> Prediction:
    trained = bytes_of(trained_parameters(model))
    everything = bytes_of(chain(model.parameters(), model.buffers()))
    parts = []
    if device.type == "cpu":
        parts.append(MemoryPart("process", process_bytes(recipe), "interpreter and libraries"))
    precision = recipe.precision.quantization
    dtype = str(model.dtype).removeprefix("torch.") if precision == "none" else precision
    parts.append(MemoryPart("base weights", everything - trained, dtype))
    compute, operations = recipe.compute, None
    if trained:
        parts.append(MemoryPart("adapter", 2 * trained, "weights and a copy of their initial state"))
    if recipe.trains:
        lengths = {"document_tokens": document_tokens, "window": window}
        workload = Workload.of(recipe, model, **lengths, device=device)
        compute = workload.choose(compute, 0 if free is None else free - everything - trained)
        parts += _training(workload, compute)
        operations = training_operations(recipe, model, compute, **lengths)
        if recipe.auxiliary.strategy != "none" and not recipe.auxiliary.in_background:
            parts += _synthesis(generator, recipe, model, document_tokens)
    questions = largest_questions(recipe, document_tokens, window)
    parts.append(_answers(model, recipe, questions, compute.answer_batch))
    return Prediction(parts, compute, operations)


def _training(workload: Workload, compute: ComputeSettings) -> Iterator[MemoryPart]:
    tokens, checkpointing = int(compute.micro_batch_tokens), bool(compute.gradient_checkpointing)
    yield MemoryPart("optimizer", workload.optimizer, "state of AdamW", "training")
    yield MemoryPart(
        "gradient",
        workload.gradient(tokens, checkpointing),
        f"activations and logits of micro-batches of {tokens} tokens, "
        f"gradient_checkpointing={str(checkpointing).lower()}",
        "training",
    )


def _answers(model: Any, recipe: Recipe, questions: list[list[int]], batch: int) -> MemoryPart:  # noqa: ANN401
    sampled = recipe.decoding.temperature or recipe.decoding.source == "checkpoint"
    options = {"do_sample": True} if sampled else {}
    decoding = Decoding(recipe.decoding.max_new_tokens, options=options)
    cache, reading = recipe.decoding.cache, None
    if cache.compresses and recipe.prompt.document != "none":
        reading = Reading(cache, [max(len(one) - QUESTION_TOKENS, 1) for one in questions])
    return MemoryPart(
        "answers",
        answering_bytes(model, questions, decoding, batch, reading),
        f"keys, values and activations of {len(questions)} questions of {len(questions[0])} tokens",
        "answering",
    )


def _synthesis(generator: Any, recipe: Recipe, model: Any, document_tokens: int) -> Iterator[MemoryPart]:  # noqa: ANN401
    if generator is not None:
        model = fake_model(generator, recipe.model_copy(update={"adapter": NoAdapter()}), model.device)
        yield MemoryPart("generator", bytes_of(chain(model.parameters(), model.buffers())), "its weights")
    requests = largest_requests(recipe, document_tokens)
    decoding = Decoding(recipe.auxiliary.reply_tokens, options={"do_sample": True})
    yield MemoryPart(
        "pairs",
        answering_bytes(model, requests, decoding, recipe.auxiliary.batch),
        f"keys, values and activations of {len(requests)} requests of {len(requests[0])} tokens",
        "synthesis",
    )


def documents_at_once(recipe: Recipe, model: Any, document_tokens: int, window: int) -> int:  # noqa: ANN401
    """How many documents' adapters are trained in one batch.

    Args:
        recipe: The recipe. Where it leaves the number open, it is 1 on a CPU, which a document's step keeps busy; on a
            GPU the steps of so many documents fill a micro-batch, as far as their adapters fit in memory.
        model: In memory, with its adapter.
        document_tokens: Tokens of the documents.
        window: Most tokens of a prompt with its answer.
    """
    if recipe.compute.documents != "auto":
        return recipe.compute.documents
    if model.device.type == "cpu" or not recipe.trains_together or _is_spread(model):
        return 1
    steps = largest_steps(recipe, document_tokens, window)
    filling = MOST_TOKENS[model.device.type] // max(sum(one.tokens for one in step) for step in steps)
    fitting = int(SHARE_OF_ADAPTERS * free_bytes(model.device)) // _training_bytes(model)
    return max(min(filling, fitting, MOST_DOCUMENTS), 1)


def _training_bytes(model: Any) -> int:  # noqa: ANN401
    """Bytes of an adapter in training: its weights, their gradient and AdamW's two moments."""
    return 4 * bytes_of(trained_parameters(model))


def _is_spread(model: Any) -> bool:  # noqa: ANN401
    return len(set((getattr(model, "hf_device_map", None) or {"": 0}).values())) > 1


def chosen_compute(
    compute: ComputeSettings,
    recipe: Recipe,
    model: Any,  # noqa: ANN401
    window: int,
    *,
    documents: int = 1,
) -> ComputeSettings:
    """The compute group with nothing left to choose, for a model that is in memory.

    Args:
        compute: The group as it is.
        recipe: The recipe.
        model: With its adapter. Where it is spread over several devices, nothing is chosen.
        window: Most tokens of a prompt with its answer.
        documents: How many are trained in one batch.
    """
    if _is_spread(model) or "auto" not in (compute.micro_batch_tokens, compute.gradient_checkpointing):
        return compute
    base = base_of(model)
    steps = list(largest_steps(recipe, MANY_TOKENS, window))
    free = free_bytes(model.device) - (documents - 1) * _training_bytes(model)
    size = MOST_TOKENS.get(model.device.type, max(MOST_TOKENS.values()))
    chosen = {"micro_batch_tokens": size, "gradient_checkpointing": False}
    given = {key: value for key in chosen if (value := getattr(compute, key)) != "auto"}
    if (
        _bound_gradient_bytes(base, max(size, longest_inlined(steps))) <= SAFE_SHARE * free
    ):  # no need to know better
        return compute.model_copy(update=chosen | given)
    try:
        made = fake_model(base.config, recipe, model.device)
        ids = torch.zeros(MANY_TOKENS, dtype=torch.int64)
        with recipe.adapter.without_initialisation.prepared(made, ids, seed=0):
            workload = Workload.of(recipe, made, document_tokens=MANY_TOKENS, window=window)
            return workload.of_documents(documents).choose(compute, free)
    except Exception as error:
        logger.warning(
            "memory could not be predicted (%s: %s); continuing with micro-batches of at most %d tokens, and "
            "smaller ones if memory runs out",
            type(error).__name__,
            str(error).partition("\n")[0],
            size,
        )
        return compute.model_copy(update=chosen | given)


def _bound_gradient_bytes(model: Any, tokens: int) -> int:  # noqa: ANN401 - PreTrainedModel
    """An upper bound on the bytes of a gradient: far too high for most models, but computed in no time."""
    config = model.config.get_text_config()
    eager = config._attn_implementation == "eager"
    heads = getattr(config, "num_attention_heads", 0) if eager else 0  # state-space models have none
    widths = sum(
        module.in_features + module.out_features
        for module in model.modules()
        if isinstance(module, nn.Linear)
    )
    return int(16 * tokens * (widths + config.num_hidden_layers * heads * tokens))


def process_bytes(recipe: Recipe) -> int:
    """Bytes of a run's process, without the model: of this one, and of what only a run imports.

    Libraries load more when they first work, as a tiny model makes them do.

    Args:
        recipe: Whose libraries.
    """
    used = {"lm_eval"} if recipe.auxiliary.strategy == "none" else {"lm_eval", "nltk"}
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2
    )
    with torch.random.fork_rng(devices=[]):
        base = AutoModelForCausalLM.from_config(config, dtype=torch.float32).requires_grad_(False)
    model = attach(base, LoraSettings(rank=1), seed=0)
    finetune(
        model,
        [[sample([], 32)]],
        TrainingSettings(),
        compute=ComputeSettings(),
        share_prefixes=False,
        generator=torch.Generator(),
    )
    answer(model, NoTokenizer(), alike(2, 80, 70), Decoding(DECODED, options={"do_sample": True}), batch=2)
    return int(psutil.Process().memory_info().rss) + sum(IMPORTED[name] for name in used - sys.modules.keys())


def free_bytes(device: torch.device) -> int:
    """Bytes that a process can still get on a device; on a CPU what is available without swapping."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    return int(psutil.virtual_memory().available)
