"""How much memory a run takes, told before it runs.

The code of the run itself is run: the model with its adapter, a gradient, the answering of questions. Its tensors have
shapes and a device, but no data ("fake tensors"), and a ledger adds up the bytes of those that are alive. So whatever
an architecture, an adapter or the checkpointing of activations changes is in the sum, and nothing is loaded.
"""

from __future__ import annotations

import logging
import math
import weakref
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from transformers import AutoModelForCausalLM, LlamaConfig

from lift_eval.adapters import attach
from lift_eval.adapters.quantization import quantizable
from lift_eval.answering.generate import Decoding, answer
from lift_eval.models.loading import attends_fully, base_of, resolve_dtype
from lift_eval.recipe import ComputeSettings, LoraSettings, NoAdapter, PissaSettings, Recipe, TrainingSettings
from lift_eval.synthesis.sentences import split_sentences
from lift_eval.training.batching import MicroBatch, micro_batches
from lift_eval.training.finetune import checkpoint_activations, column_cost_of, finetune
from lift_eval.training.loss import step_gradient
from lift_eval.training.prefix_cache import PrefixError
from lift_eval.training.samples import Sample

logger = logging.getLogger(__name__)

MOST_TOKENS = {"cpu": 2048, "cuda": 16384}
"""Of a micro-batch, by type of device: larger ones take more memory and hardly less time."""
SAFE_SHARE = 0.8
"""Of the free memory; the rest is for what is not foreseen, such as memory that is free in small pieces only."""

QUESTION_TOKENS, ANSWER_TOKENS, SENTENCE_TOKENS, PARAGRAPH_TOKENS = 48, 24, 24, 400
"""Lengths that no recipe tells."""
CHARACTERS_PER_TOKEN = 4
MANY_TOKENS = 100_000
"""Of a document that makes every sample as long as the recipe lets it be."""

_ENOUGH_SAMPLES = 256
_DECODED = 2
_NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Of a weight: four bits, a byte of scale for 64 of them, and four bytes for 256 of these scales."""


@dataclass(frozen=True)
class Part:
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
    """

    parts: Sequence[Part]
    compute: ComputeSettings

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
    free: int,
    generator: Any = None,  # noqa: ANN401
) -> Prediction:
    """Predict the most memory that lifting a document and answering questions about it takes.

    Args:
        config: The model's configuration.
        recipe: What is done.
        device: Where.
        document_tokens: Tokens of the document.
        window: Most tokens of a prompt with its answer.
        free: Free bytes, for what the recipe leaves to choose.
        generator: Configuration of the checkpoint that writes the question-answer pairs, where it is another one.

    Returns:
        The prediction: of the process on a CPU, else of torch's tensors on the device.

    Raises:
        AdapterError: If the adapter does not fit the model.
    """
    parts = (
        [Part("process", process_bytes(recipe), "interpreter and libraries")] if device.type == "cpu" else []
    )
    model = shadow(config, recipe, device)
    trained, everything = _bytes_of(_trained(model)), _bytes_of(chain(model.parameters(), model.buffers()))
    precision = recipe.precision.quantization
    dtype = str(model.dtype).removeprefix("torch.") if precision == "none" else precision
    parts.append(Part("base weights", everything - trained, dtype))
    compute = recipe.compute
    if recipe.trains:
        work = Work.of(recipe, model, document_tokens=document_tokens, window=window)
        compute = work.choose(compute, free - everything - trained)
        tokens, checkpointing = int(compute.micro_batch_tokens), bool(compute.gradient_checkpointing)
        parts += [
            Part("adapter", 2 * trained, "weights and a copy of their initial state"),
            Part("optimizer", work.optimizer, "state of AdamW", "training"),
            Part(
                "gradient",
                work.gradient(tokens, checkpointing),
                f"activations and logits of micro-batches of {tokens} tokens, "
                f"gradient_checkpointing={str(checkpointing).lower()}",
                "training",
            ),
        ]
        if recipe.auxiliary.strategy != "none" and not recipe.auxiliary.in_background:
            parts += _synthesis(generator, recipe, model, document_tokens)
    questions = _questions(recipe, document_tokens, window)
    options = {"do_sample": True} if recipe.decoding.temperature else {}
    parts.append(
        Part(
            "answers",
            answering_bytes(
                model,
                questions,
                Decoding(recipe.decoding.max_new_tokens, options=options),
                compute.answer_batch,
            ),
            f"keys, values and activations of {len(questions)} questions of {len(questions[0])} tokens",
            "answering",
        )
    )
    return Prediction(parts, compute)


def _synthesis(generator: Any, recipe: Recipe, model: Any, document_tokens: int) -> Iterator[Part]:  # noqa: ANN401
    if generator is not None:
        model = shadow(generator, recipe.model_copy(update={"adapter": NoAdapter()}), model.device)
        yield Part("generator", _bytes_of(chain(model.parameters(), model.buffers())), "its weights")
    requests = _requests(recipe, document_tokens)
    decoding = Decoding(recipe.auxiliary.max_tokens, options={"do_sample": True})
    yield Part(
        "pairs",
        answering_bytes(model, requests, decoding, recipe.auxiliary.batch),
        f"keys, values and activations of {len(requests)} requests of {len(requests[0])} tokens",
        "synthesis",
    )


def chosen_compute(compute: ComputeSettings, recipe: Recipe, model: Any, window: int) -> ComputeSettings:  # noqa: ANN401
    """The compute group with nothing left to choose, for a model that is in memory.

    Args:
        compute: The group as it is.
        recipe: What is trained.
        model: With its adapter. Where it is spread over several devices, nothing is chosen.
        window: Most tokens of a prompt with its answer.
    """
    spread = len(set((getattr(model, "hf_device_map", None) or {"": 0}).values())) > 1
    if spread or "auto" not in (compute.micro_batch_tokens, compute.gradient_checkpointing):
        return compute
    base = base_of(model)
    steps = list(_steps(recipe, MANY_TOKENS, window))
    free = free_bytes(model.device)
    size = MOST_TOKENS.get(model.device.type, max(MOST_TOKENS.values()))
    chosen = {"micro_batch_tokens": size, "gradient_checkpointing": False}
    given = {key: value for key in chosen if (value := getattr(compute, key)) != "auto"}
    if _at_most(base, max(size, _longest_whole(steps))) <= SAFE_SHARE * free:  # no need to know better
        return compute.model_copy(update=chosen | given)
    try:
        return Work(shadow(base.config, recipe, model.device), steps).choose(compute, free)
    except Exception as error:
        logger.warning(
            "memory could not be predicted (%s: %s); going on with micro-batches of at most %d tokens, smaller ones "
            "where memory runs out",
            type(error).__name__,
            str(error).partition("\n")[0],
            size,
        )
        return compute.model_copy(update=chosen | given)


def _at_most(model: Any, tokens: int) -> int:  # noqa: ANN401 - PreTrainedModel
    """A bound on the bytes of a gradient that is far too high for most models, but takes no time to tell."""
    config = model.config.get_text_config()
    scores = config.num_hidden_layers * config.num_attention_heads * tokens
    widths = sum(
        module.in_features + module.out_features
        for module in model.modules()
        if isinstance(module, nn.Linear)
    )
    return int(16 * tokens * (widths + (scores if config._attn_implementation == "eager" else 0)))


def process_bytes(recipe: Recipe) -> int:
    """Bytes of this process with all that libraries load when they first work, as a tiny model makes them do.

    Args:
        recipe: Whose libraries.
    """
    if recipe.auxiliary.strategy != "none":
        split_sentences("A sentence. Another one.")
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2
    )
    with torch.random.fork_rng(devices=[]):
        base = AutoModelForCausalLM.from_config(config, dtype=torch.float32).requires_grad_(False)
    model = attach(base, LoraSettings(rank=1), seed=0)
    finetune(
        model,
        [[_sample([], 32)]],
        TrainingSettings(),
        compute=ComputeSettings(),
        share_prefixes=False,
        generator=torch.Generator(),
    )
    answer(model, _NoTokenizer(), _alike(2, 80, 70), Decoding(_DECODED, options={"do_sample": True}), batch=2)
    return int(psutil.Process().memory_info().rss)


def free_bytes(device: torch.device) -> int:
    """Bytes that a process can still get on a device; on a CPU what is available without swapping."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    return int(psutil.virtual_memory().available)


# --- a model without data ------------------------------------------------------------------------------------------


def shadow(config: Any, recipe: Recipe, device: torch.device) -> Any:  # noqa: ANN401 - PreTrainedModel or PeftModel
    """The model of a run with the recipe's adapter, its tensors without data.

    Args:
        config: Of a causal language model.
        recipe: Its adapter and precision groups count.
        device: Where the model would be.

    Returns:
        The model in evaluation mode. It takes real token ids.

    Raises:
        AdapterError: If the adapter does not fit the model.
    """
    dtype = resolve_dtype(recipe.precision, device)
    adapter = recipe.adapter
    if isinstance(adapter, PissaSettings):  # as large as LoRA, which does not decompose weights
        adapter = LoraSettings(**adapter.model_dump(exclude={"type", "iterations"}))
    if isinstance(adapter, LoraSettings):
        adapter = adapter.model_copy(update={"init": True})
    with torch.device("meta"):
        base = AutoModelForCausalLM.from_config(config, dtype=dtype).requires_grad_(False)
        model = attach(base, adapter, seed=0)
    _leave_meta(model, device)
    if recipe.precision.quantization != "none":
        for _, _, layer in list(quantizable(model)):
            _quantize(layer, recipe.precision.quantization, dtype)
    return model.eval()


def _leave_meta(model: nn.Module, device: torch.device) -> None:
    """Give every tensor a device; tied ones stay tied."""
    made: dict[Tensor, Tensor] = {}
    with FakeTensorMode(allow_non_fake_inputs=True):
        for module in model.modules():
            for tensors in (module._parameters, module._buffers):
                for name, tensor in tensors.items():
                    if tensor is None:
                        continue
                    if tensor not in made:
                        new = torch.empty_like(tensor, device=device)
                        trained = tensor.requires_grad
                        made[tensor] = nn.Parameter(new, trained) if isinstance(tensor, nn.Parameter) else new
                    tensors[name] = made[tensor]  # type: ignore[assignment]


def _quantize(layer: nn.Linear, kind: str, dtype: torch.dtype) -> None:
    """Let a layer take the memory of bitsandbytes' one: a packed weight, made whole for each product."""
    per_weight = _NF4_BYTES if kind == "nf4" else 1
    packed = layer.weight.new_empty(int(layer.weight.numel() * per_weight), dtype=torch.uint8)
    layer.weight = nn.Parameter(packed, requires_grad=False)
    whole = partial(packed.new_empty, (layer.out_features, layer.in_features), dtype=dtype)

    def forward(input: Tensor) -> Tensor:  # noqa: A002 - as nn.Linear has it
        outputs: Tensor = _Product.apply(input.to(dtype), whole)  # type: ignore[no-untyped-call]
        return outputs if layer.bias is None else outputs + layer.bias

    layer.forward = forward  # type: ignore[method-assign]


class _Product(torch.autograd.Function):
    """A product with a weight that is made whole in the forward pass, and again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, whole: Any) -> Tensor:  # noqa: ANN401
        ctx.whole = whole
        return nn.functional.linear(inputs, whole())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        return gradient @ ctx.whole(), None


def _trained(model: nn.Module) -> Iterator[nn.Parameter]:
    return (parameter for parameter in model.parameters() if parameter.requires_grad)


def _bytes_of(tensors: Iterable[Tensor]) -> int:
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


# --- the ledger ----------------------------------------------------------------------------------------------------


class _Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the bytes of all tensors that come to life inside, and takes off those of the ones that are gone.

    What is given to an operator and was never a result was there before, and so are its views. Chosen tokens are real:
    generation looks at them.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive: int = 0
        self.peak: int = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401 - an operator
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        for given in tree_leaves((args, kwargs)):
            if isinstance(given, Tensor):
                self._enter(given.untyped_storage(), 0)
        result = tree_map_only(FakeTensor, _real_if_tokens, func(*args, **(kwargs or {})))
        for made in tree_leaves(result):
            if isinstance(made, Tensor):
                storage = made.untyped_storage()
                self._enter(storage, storage.nbytes())
        return result

    def _enter(self, storage: torch.UntypedStorage, size: int) -> None:
        key = storage._cdata
        if key not in self._known:
            self._known.add(key)
            self.alive += size
            self.peak = max(self.peak, self.alive)
            weakref.finalize(storage, self._leave, key, size)

    def _leave(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.alive -= size


def _real_if_tokens(tensor: FakeTensor) -> Tensor:
    return (
        torch.zeros(tensor.shape, dtype=torch.int64, device=tensor.device)
        if tensor.dtype == torch.int64
        else tensor
    )


def gradient_bytes(
    model: Any,  # noqa: ANN401
    batch: MicroBatch,
    *,
    checkpointing: bool,
    accumulated: bool,
) -> int:
    """Most bytes that making a micro-batch's gradient takes, the gradient included.

    Args:
        model: From `shadow`.
        batch: Of any tokens.
        checkpointing: Whether activations are computed anew in the backward pass.
        accumulated: Whether there is the gradient of another micro-batch already.
    """
    model.train()
    if checkpointing:
        checkpoint_activations(model, on=True)
    try:
        with _Ledger() as ledger:
            if accumulated:
                for parameter in _trained(model):
                    parameter.grad = torch.empty_like(parameter)
            step_gradient(model, [batch], 1)
        return int(ledger.peak)
    finally:
        if checkpointing:
            checkpoint_activations(model, on=False)
        model.zero_grad(set_to_none=True)
        model.eval()


def answering_bytes(
    model: Any,  # noqa: ANN401
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    batch: int,
) -> int:
    """Most bytes that answering prompts takes.

    Args:
        model: From `shadow`.
        prompts: Token ids of each prompt.
        decoding: How to decode. New tokens but the last two are read with the prompt, which takes less time.
        batch: Most prompts decoded at once.
    """
    read = max(decoding.max_new_tokens - _DECODED, 0)
    longer = [[*prompt, *[prompt[-1]] * read] for prompt in prompts]
    with _Ledger() as ledger:
        answer(model, _NoTokenizer(), longer, Decoding(_DECODED, options=decoding.options), batch=batch)
    return int(ledger.peak)


class _NoTokenizer:
    """What answering asks of a tokenizer, for answers that nobody reads."""

    eos_token_id = None
    pad_token_id = 0

    def decode(self, *_: object, **__: object) -> str:
        return ""


# --- the work of a recipe ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """The training of a document.

    Attributes:
        model: From `shadow`.
        steps: Samples of the largest optimizer step of each kind of epoch.
    """

    model: Any
    steps: Sequence[Sequence[Sample]]
    _known: dict[object, int] = field(default_factory=dict)

    @classmethod
    def of(cls, recipe: Recipe, model: Any, *, document_tokens: int, window: int) -> Work:  # noqa: ANN401
        """What a recipe makes of a document, as far as it is known without its text.

        Args:
            recipe: What is done.
            model: From `shadow`.
            document_tokens: Tokens of the document.
            window: Most tokens of a prompt with its answer.
        """
        return cls(model, list(_steps(recipe, document_tokens, window)))

    @property
    def optimizer(self) -> int:
        """Bytes of the optimizer's state."""
        return 2 * _bytes_of(_trained(self.model))

    def gradient(self, micro_batch_tokens: int, checkpointing: bool) -> int:
        """Most bytes that making a step's gradient takes, in micro-batches of so many tokens."""
        try:
            return self._gradient(micro_batch_tokens, checkpointing, trunks=True)
        except PrefixError:
            return self._gradient(micro_batch_tokens, checkpointing, trunks=False)

    def _gradient(self, micro_batch_tokens: int, checkpointing: bool, *, trunks: bool) -> int:
        share, cost = attends_fully(self.model), column_cost_of(self.model)
        most = 0
        for step in self.steps:
            samples = step if share and trunks else [sample.whole() for sample in step]
            batches = micro_batches(
                samples, micro_batch_tokens, share_prefixes=share, trunks=trunks, column_cost=cost
            )
            kinds: dict[object, list[MicroBatch]] = defaultdict(list)
            for batch in batches:
                kinds[_kind(batch)].append(batch)
            for batch in (max(kind, key=lambda batch: batch.tokens) for kind in kinds.values()):
                several = len(batches) > 1
                path = (
                    tuple((len(trunk.ids), trunk.frozen) for trunk in batch.trunk.path) if batch.trunk else ()
                )
                case = (batch.input_ids.shape, batch.branches is None, path, several, checkpointing)
                if case not in self._known:
                    self._known[case] = gradient_bytes(
                        self.model, batch, checkpointing=checkpointing, accumulated=several
                    )
                most = max(most, self._known[case])
        return most

    def choose(self, compute: ComputeSettings, free: int) -> ComputeSettings:
        """Decide what the recipe leaves open: the largest micro-batches that fit, and checkpointing only if it must be.

        Args:
            compute: The recipe's compute group.
            free: Bytes that are free with the model in memory.

        Returns:
            The group without ``auto``. Where nothing fits, it is what takes least.
        """
        tokens, checkpointing = compute.micro_batch_tokens, compute.gradient_checkpointing
        chosen = compute
        if "auto" not in (tokens, checkpointing):
            return chosen
        for checkpointed in (False, True) if checkpointing == "auto" else (checkpointing,):
            for size in self._sizes() if tokens == "auto" else (tokens,):
                chosen = compute.model_copy(
                    update={"micro_batch_tokens": size, "gradient_checkpointing": checkpointed}
                )
                if self.optimizer + self.gradient(size, checkpointed) <= SAFE_SHARE * free:
                    return chosen
        return chosen

    def _sizes(self) -> Iterator[int]:
        """Sizes of micro-batches worth trying, down to that of the longest sample."""
        longest = _longest(self.steps)
        size = MOST_TOKENS.get(self.model.device.type, max(MOST_TOKENS.values()))
        yield size
        while size > longest:
            size //= 2
            yield size


def _kind(batch: MicroBatch) -> object:
    """What tells micro-batches apart of which the one with most tokens takes most memory."""
    if batch.trunk is None:
        return "whole"
    # A batch counts what stands before it among its tokens only where that has a gradient.
    return batch.trunk.end if batch.trunk.frozen else "behind a trunk"


def _longest(steps: Iterable[Iterable[Sample]]) -> int:
    return max(sample.tokens for samples in steps for sample in samples)


def _longest_whole(steps: Iterable[Iterable[Sample]]) -> int:
    return _longest((sample.whole() for sample in samples) for samples in steps)


def _steps(recipe: Recipe, document_tokens: int, window: int) -> Iterator[list[Sample]]:
    training, auxiliary = recipe.training, recipe.auxiliary
    length = max(min(training.segment_tokens, document_tokens), 2)
    count = 1 + max(math.ceil((document_tokens - length) / training.stride_tokens), 0)
    instruction = len(training.recite_instruction) // CHARACTERS_PER_TOKEN
    windows = min(training.window_tokens, document_tokens) + instruction if training.contextualized else 0
    if training.freezes_context:
        # The same windows for all segments are read once, and so is the document of a pair.
        segment = _sample([0] * windows, length, frozen=windows - max(instruction, 1))
        segments = [segment] * min(count, _ENOUGH_SAMPLES)
    else:
        segments = [_sample(context, length) for context in _alike(count, windows, 0)]
    if training.context_epochs:
        yield _largest(segments, training.samples_per_step)
    if not training.joint_epochs:
        return
    joint = segments if training.joint_segments else []
    if auxiliary.strategy == "none":
        yield _largest(joint, training.samples_per_step)
        return
    asked = document_tokens // SENTENCE_TOKENS if auxiliary.strategy == "sentences" else 1
    for kind in auxiliary.prompts:
        closed_book = kind == "closed_book"
        prompt = _prompt(recipe, document_tokens, window, closed_book=closed_book)
        frozen = prompt[0] - QUESTION_TOKENS if training.freezes_context and not closed_book else 0
        contexts = _alike(auxiliary.pairs * asked, *prompt)
        pairs = [_sample(context, ANSWER_TOKENS, frozen=max(frozen, 0)) for context in contexts]
        yield _largest([*joint, *pairs], training.samples_per_step)


def _largest(samples: list[Sample], per_step: int | str) -> list[Sample]:
    most = _ENOUGH_SAMPLES if per_step == "all" else min(int(per_step), _ENOUGH_SAMPLES)
    return sorted(samples, key=lambda sample: -sample.tokens)[:most]


def _sample(context: Sequence[int], target: int, *, frozen: int = 0) -> Sample:
    """A sample of any tokens, of whose context so many are a frozen prefix."""
    ids = torch.tensor(context, dtype=torch.int64)
    return Sample(ids[frozen:], torch.zeros(target, dtype=torch.int64), ids[:frozen])


def _alike(count: int, length: int, shared: int) -> list[list[int]]:
    """Token ids that begin alike; as many as are asked for, or enough of them."""
    return [[0] * shared + [1 + number] * (length - shared) for number in range(min(count, _ENOUGH_SAMPLES))]


def _prompt(recipe: Recipe, document_tokens: int, window: int, *, closed_book: bool) -> tuple[int, int]:
    """Tokens of a prompt about the document, and how many of them all its prompts begin with."""
    if closed_book:
        return QUESTION_TOKENS, QUESTION_TOKENS // 2
    whole = document_tokens + QUESTION_TOKENS
    most = min(recipe.prompt.max_tokens, window - recipe.decoding.max_new_tokens)
    length = max(min(whole, most), 2)
    # Where all of the prompt is cut, each question moves the cut.
    moves = whole > most and recipe.prompt.truncate == "prompt"
    return length, length // 2 if moves else max(length - QUESTION_TOKENS, 0)


def _questions(recipe: Recipe, document_tokens: int, window: int) -> list[list[int]]:
    """Prompts of as many questions as are decoded at once."""
    closed_book = recipe.prompt.document == "none"
    return _alike(
        recipe.compute.answer_batch, *_prompt(recipe, document_tokens, window, closed_book=closed_book)
    )


def _requests(recipe: Recipe, document_tokens: int) -> list[list[int]]:
    """One batch of requests for question-answer pairs."""
    settings = recipe.auxiliary
    context = settings.context_characters if "context" in settings.request_template else 0
    shown, asked = {
        "passages": (settings.passage_sentences * SENTENCE_TOKENS, settings.pairs),
        "sentences": (
            SENTENCE_TOKENS + context // CHARACTERS_PER_TOKEN,
            document_tokens // SENTENCE_TOKENS + 1,
        ),
        "paragraphs": (PARAGRAPH_TOKENS, settings.pairs),
    }[settings.strategy]
    length = min(shown, document_tokens) + len(settings.request_template) // CHARACTERS_PER_TOKEN
    return _alike(min(asked, settings.batch), length, 0)
