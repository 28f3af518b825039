"""Simulated passes over a fake model, and a ledger of the bytes that are alive in them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from lift_eval.answering.cache_rows import group_rows, shared_length
from lift_eval.answering.choosing import chooser
from lift_eval.answering.decoding import Decoding
from lift_eval.answering.generate import answer
from lift_eval.answering.reading import Reading
from lift_eval.answering.shared_prefix import CHUNK
from lift_eval.memory.depth import Sections, more_rows, most_alive
from lift_eval.memory.fake_model import trained_parameters
from lift_eval.memory.passes import computing, largest
from lift_eval.models.loading import base_of, body_of, supports_prefix_sharing
from lift_eval.training.batching import MicroBatch
from lift_eval.training.layout import checkpoint_activations
from lift_eval.training.loss import step_gradient
from lift_eval.training.teacher import Teacher

DECODED = 2
MANY_ROWS = 5
"""More prompts than two and three rows have together; only then is anything saved."""


class _Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the bytes of all tensors that come to life inside, and takes off those of the ones that are gone.

    What is given to an operator and was never a result was there before, and so are its views. Chosen tokens are real:
    generation looks at them.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive: int = 0
        self.sections: list[list[int]] = [[]]
        self._known: set[int] = set()

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401 - an operator
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        if func is torch.ops.prim.device.default:  # more than a third of all calls, and no tensor comes of it
            return func(*args)
        for given in tree_leaves((args, kwargs)):
            if isinstance(given, Tensor):
                self._enter(given.untyped_storage(), 0)
        result = tree_map_only(FakeTensor, _real_if_tokens, func(*args, **(kwargs or {})))
        for made in tree_leaves(result):
            if isinstance(made, Tensor):
                storage = made.untyped_storage()
                self._enter(storage, storage.nbytes())
        return result

    @property
    def peak(self) -> int:
        """Most bytes alive at a time."""
        return max(map(max, filter(None, self.sections)), default=0)

    @contextmanager
    def sections_of(self, model: Any) -> Iterator[None]:  # noqa: ANN401
        """Begin a section wherever a walk over the model's layers begins or ends, forward or backward."""
        body = body_of(base_of(model))
        if body is None:
            yield
            return

        def begin(*_: object) -> None:
            self.sections.append([])

        def end(_: nn.Module, __: object, output: Any) -> None:  # noqa: ANN401
            begin()
            hidden = output["last_hidden_state"]
            if hidden.requires_grad:
                hidden.register_hook(begin)

        handles = [body.register_forward_pre_hook(begin), body.register_forward_hook(end)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, storage: torch.UntypedStorage, size: int) -> None:
        key = storage._cdata
        if key not in self._known:
            self._known.add(key)
            self.alive += size
            self.sections[-1].append(self.alive)
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
    teacher: Teacher | None = None,
) -> int:
    """Most bytes that making a micro-batch's gradient takes, the gradient included.

    Args:
        model: From `fake_model`.
        batch: Of any tokens.
        checkpointing: Whether activations are computed anew in the backward pass.
        accumulated: Whether there is the gradient of another micro-batch already.
        teacher: What distributions are learned from. None means that the tokens themselves are learned.
    """
    model.train()
    if checkpointing:
        checkpoint_activations(model, on=True)

    def make() -> None:
        try:
            if accumulated:
                for parameter in trained_parameters(model):
                    parameter.grad = torch.empty_like(parameter)
            step_gradient(model, [batch], 1, teacher)
        finally:
            model.zero_grad(set_to_none=True)

    try:
        return most_alive(model, lambda: _sections(model, make))
    finally:
        if checkpointing:
            checkpoint_activations(model, on=False)
        model.eval()


def _sections(model: Any, work: Callable[[], object]) -> Sections:  # noqa: ANN401
    """The bytes alive while some work is simulated."""
    with _Ledger() as ledger, ledger.sections_of(model):
        work()
    sections: Sections = ledger.sections
    return sections


def answering_bytes(
    model: Any,  # noqa: ANN401
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    batch: int,
    reading: Reading | None = None,
) -> int:
    """Most bytes that answering prompts takes.

    Args:
        model: From `fake_model`.
        prompts: Token ids of each prompt.
        decoding: How to decode. New tokens but the last two are read with the prompt, which takes less time.
        batch: Most prompts decoded at once.
        reading: How prompts are read. None means as usual.
    """
    read = max(decoding.max_new_tokens - DECODED, 0)
    longer = [[*prompt, *[prompt[-1]] * read] for prompt in prompts]
    short = Decoding(DECODED, options=decoding.options)

    def simulate(count: int) -> Sections:
        work = partial(answer, model, NoTokenizer(), longer[:count], short, batch=batch, reading=reading)
        return _sections(model, work)

    @cache
    def wanted(count: int) -> Collection[int]:
        with computing(model, ()) as passes:
            simulate(count)
        return largest(passes)

    def decode(count: int) -> Sections:
        with computing(model, wanted(count)):
            return simulate(count)

    count = len(longer)
    known = chooser(model, decoding.options, range(count)) is not None
    if count > batch or reading is not None or not known or not _alike_rows(model, longer):
        return most_alive(model, lambda: decode(count))
    return most_alive(model, lambda: more_rows(decode(2), decode(3), count))


def _alike_rows(model: Any, prompts: Sequence[Sequence[int]]) -> bool:  # noqa: ANN401
    """Whether each of several prompts, equally long, has a row of its own, and they are read one by one."""
    if len(prompts) <= MANY_ROWS or len(set(map(len, prompts))) > 1 or not supports_prefix_sharing(model):
        return False
    own = len(prompts[0]) - shared_length(prompts)
    return 2 * own > CHUNK and len(group_rows(prompts)) == len(prompts)


class NoTokenizer:
    """What answering asks of a tokenizer, for answers that nobody reads."""

    eos_token_id = None
    pad_token_id = 0

    def decode(self, *_: object, **__: object) -> str:
        """An empty text."""
        return ""
