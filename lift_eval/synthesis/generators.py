"""Who makes question-answer pairs: the model itself, another checkpoint, or a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Protocol

import torch
from jinja2 import TemplateError

from lift_eval.answering.decoding import Answer, Decoding
from lift_eval.answering.generate import answer, converse
from lift_eval.answering.thinking import Thinking
from lift_eval.errors import CheckpointError
from lift_eval.models.loading import (
    checkpoint_version,
    context_window,
    load_config,
    load_model,
    load_tokenizer,
    resolve_dtype,
)
from lift_eval.models.operations import counting
from lift_eval.models.settings import PrecisionSettings
from lift_eval.record.progress import OnProgress, ignore
from lift_eval.synthesis.base import Request
from lift_eval.synthesis.replies import end_of_form
from lift_eval.synthesis.server import ServerGenerator
from lift_eval.synthesis.settings import AuxiliarySettings

BaseModel = Callable[[], AbstractContextManager[None]]
"""Opens a context in which a model is its base, without what its adapter has learned."""


@dataclass(frozen=True)
class Answered(Answer):
    """A reply of which has been asked what its request's `Request.follow` says.

    Attributes:
        answer: The reply to that; None where nothing follows.
    """

    answer: Answer | None = None


class PairGenerator(Protocol):
    """Answers requests for pairs.

    Attributes:
        on_answered: Called as requests are answered.
    """

    on_answered: OnProgress

    @property
    def identity(self) -> str:
        """Tells this generator from all others whose replies might differ; part of the key of pairs in the store."""
        ...

    @property
    def operations(self) -> float:
        """Operations of its model so far (`models.operations`); 0 for a server, whose nobody counts."""
        ...

    def generate(
        self, requests: Sequence[Request], *, temperature: float, seed: int
    ) -> Iterator[Answer | None]:
        """Answer requests.

        Args:
            requests: What is asked.
            temperature: Of sampling; 0 for greedy decoding.
            seed: Of sampling.

        Yields:
            The replies in the order of the requests, each as soon as it and all before it are there; None for a
            request that is too long.

        Raises:
            GeneratorError: If the generator fails.
        """
        ...


class ModelGenerator:
    """A loaded model as generator.

    Request n of a call is sampled by the call's seed plus n, as at a server, so a reply does not depend on the requests
    beside it.

    Args:
        model: A causal language model in evaluation mode.
        tokenizer: Its tokenizer.
        settings: The recipe's auxiliary group.
        window: Most tokens of a request with its reply.
        base: Makes the model its base while it generates.
        thinking: Marks of the model's thinking, which is no part of a reply. None means that it does not think.
        identity: See `PairGenerator`.
    """

    def __init__(
        self,
        model: Any,  # noqa: ANN401 - PreTrainedModel or PeftModel
        tokenizer: Any,  # noqa: ANN401
        settings: AuxiliarySettings,
        window: int,
        base: BaseModel = nullcontext,
        thinking: Thinking | None = None,
        identity: str = "",
    ) -> None:
        self.model, self.tokenizer, self.settings = model, tokenizer, settings
        self.window, self.base, self.thinking, self.identity = window, base, thinking, identity
        self.on_answered: OnProgress = ignore
        self._spent: dict[str, float] = {}

    @property
    def operations(self) -> float:
        """See `PairGenerator`."""
        return sum(self._spent.values())

    def generate(
        self, requests: Sequence[Request], *, temperature: float, seed: int
    ) -> Iterator[Answer | None]:
        """See `PairGenerator`; all replies of a call are there at once."""
        prompts = [self._encode(request) for request in requests]
        fitting = [number for number, ids in enumerate(prompts) if self._fits(ids)]
        form = self._form if all(request.formatted for request in requests) else None
        sampling = {"do_sample": True, "temperature": temperature} if temperature else {}
        decoding = Decoding(self.settings.reply_tokens, self._reply_ends, sampling, self.thinking, form)
        asked = self.model, self.tokenizer, [prompts[number] for number in fitting], decoding
        how: dict[str, Any] = {"batch": self.settings.batch, "seed": seed, "on_answered": self.on_answered}

        def follow(place: int, reply: Answer) -> list[int] | None:
            ask = requests[fitting[place]].follow
            request = ask(reply) if ask else None
            ids = self._encode(request) if request else []
            return ids if ids and self._fits(ids) else None

        answers: Sequence[Answer]
        with self.base(), counting(self.model, self._spent, "synthesis"):
            if any(request.follow for request in requests):
                turns = converse(*asked, follow, **how)
                answers = [Answered(**vars(first), answer=second) for first, second in turns]
            else:
                answers = answer(*asked, **how)
        replies = dict(zip(fitting, answers, strict=True))
        yield from (replies.get(number) for number in range(len(prompts)))

    def _fits(self, ids: Sequence[int]) -> bool:
        return len(ids) + self.settings.reply_tokens <= self.window

    @property
    def _chats(self) -> bool:
        return bool(self.settings.chat_template and self.tokenizer.chat_template)

    @property
    def _reply_ends(self) -> tuple[str, ...]:
        """Strings that end a reply: in plain text, a message of a conversation ends with its paragraph."""
        plain = self.settings.method.converses and not self._chats
        return self.settings.reply_ends or (("\n\n",) if plain else ())

    @property
    def _form(self) -> Callable[[str], int | None] | None:
        """Finds the end of a labelled reply, behind which a model may write on for as long as it can."""
        labelled = self.settings.reply_format == "labels"
        return partial(end_of_form, settings=self.settings) if labelled else None

    def _encode(self, request: Request) -> list[int]:
        special, text = True, request.system + request.text
        if self._chats:
            try:
                text = self._in_chat(request)
            except TemplateError:  # of a template that takes no system message
                text = self._in_chat(Request(text))
            bos = self.tokenizer.bos_token
            special = not (bos and text.startswith(bos))
        return list(self.tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])

    def _in_chat(self, request: Request) -> str:
        system = [{"role": "system", "content": request.system}] if request.system else []
        return str(
            self.tokenizer.apply_chat_template(
                [*system, {"role": "user", "content": request.text}],
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=False,  # the reply's tokens are for the pairs; most templates do not ask
            )
        )


class LocalGenerator:
    """Another checkpoint as generator, its weights loaded at the first request and kept.

    Args:
        name: Folder or Hub name of the checkpoint.
        settings: The recipe's auxiliary group.
        precision: The recipe's precision group.
        device: Where the model goes.
    """

    def __init__(
        self, name: str, settings: AuxiliarySettings, precision: PrecisionSettings, device: torch.device
    ) -> None:
        self.name, self.settings, self.precision, self.device = name, settings, precision, device
        self.on_answered: OnProgress = ignore

    def check(self) -> None:
        """Find out early whether there is a checkpoint that can be loaded.

        Raises:
            CheckpointError: If its configuration or its tokenizer cannot be.
        """
        with self._errors():
            load_config(self.name)
            load_tokenizer(self.name)

    def generate(
        self, requests: Sequence[Request], *, temperature: float, seed: int
    ) -> Iterator[Answer | None]:
        """See `PairGenerator`.

        Raises:
            CheckpointError: If the checkpoint cannot be loaded.
        """
        self._loaded.on_answered = self.on_answered
        return self._loaded.generate(requests, temperature=temperature, seed=seed)

    @property
    def operations(self) -> float:
        """See `PairGenerator`."""
        return self._loaded.operations if "_loaded" in vars(self) else 0.0

    @cached_property
    def identity(self) -> str:
        """A checkpoint is not loaded to be told from others."""
        with self._errors():
            version = checkpoint_version(self.name)
        dtype = resolve_dtype(self.precision, self.device)
        return f"local {self.name} {version} {self.precision.quantization} {dtype} {self.device.type}"

    @contextmanager
    def _errors(self) -> Iterator[None]:
        # Not a GeneratorError: what fails for one document will fail for all of them.
        try:
            yield
        except CheckpointError as error:
            raise CheckpointError(
                f"auxiliary.generator 'local:{self.name}' cannot be used: {error}"
            ) from error

    @cached_property
    def _loaded(self) -> ModelGenerator:
        with self._errors():
            tokenizer = load_tokenizer(self.name)
            model = load_model(self.name, self.precision, device=self.device)
        window = context_window(model.config, tokenizer)
        return ModelGenerator(model, tokenizer, self.settings, window, thinking=Thinking.of(tokenizer))


def make_generator(
    settings: AuxiliarySettings,
    precision: PrecisionSettings,
    *,
    model: Any,  # noqa: ANN401 - PreTrainedModel or PeftModel
    tokenizer: Any,  # noqa: ANN401
    window: int,
    base: BaseModel,
    thinking: Thinking | None,
    identity: str,
) -> PairGenerator:
    """The generator that a recipe names.

    Args:
        settings: The recipe's auxiliary group.
        precision: The recipe's precision group.
        model: The model that is lifted.
        tokenizer: Its tokenizer.
        window: Its window in tokens.
        base: Makes it its base while it generates.
        thinking: Marks of its thinking. None means that it does not think.
        identity: Tells it from other models.

    Raises:
        CheckpointError: If another checkpoint is named that cannot be loaded.
        GeneratorError: If a server is named and the environment does not say how to reach it, or it wants another key.
    """
    kind, _, name = settings.generator.partition(":")
    if kind == "openai":
        return ServerGenerator(name, settings)
    if kind == "local":
        local = LocalGenerator(name, settings, precision, model.device)
        local.check()
        return local
    return ModelGenerator(model, tokenizer, settings, window, base, thinking, identity)
