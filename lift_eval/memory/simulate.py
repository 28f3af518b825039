"""Simulated passes over a fake model, and a ledger of the bytes that are alive in them."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from lift_eval.answering.generate import Decoding, answer
from lift_eval.answering.reading import Reading
from lift_eval.memory.fake_model import trained_parameters
from lift_eval.training.batching import MicroBatch
from lift_eval.training.layout import checkpoint_activations
from lift_eval.training.loss import step_gradient
from lift_eval.training.teacher import Teacher

DECODED = 2


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
    try:
        with _Ledger() as ledger:
            if accumulated:
                for parameter in trained_parameters(model):
                    parameter.grad = torch.empty_like(parameter)
            step_gradient(model, [batch], 1, teacher)
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
    with _Ledger() as ledger:
        answer(
            model,
            NoTokenizer(),
            longer,
            Decoding(DECODED, options=decoding.options),
            batch=batch,
            reading=reading,
        )
    return int(ledger.peak)


class NoTokenizer:
    """What answering asks of a tokenizer, for answers that nobody reads."""

    eos_token_id = None
    pad_token_id = 0

    def decode(self, *_: object, **__: object) -> str:
        """An empty text."""
        return ""
