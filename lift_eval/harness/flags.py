"""Flags of ``lm_eval run`` that its model classes are not told of, and that decide here what is trained.

lm-eval hands its model class the model arguments, the batch size and the device. The other arguments of
``simple_evaluate`` are noted here while it runs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from lm_eval.defaults import DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED
from lm_eval.utils import simple_parse_args_string

from lift_eval.errors import RecipeError
from lift_eval.harness.generation import faults_of

logger = logging.getLogger(__name__)

FLAGS = "lm-eval's flags"
"""What messages call the place of a fault here."""
LARGEST_SEED = 2**32 - 1
"""numpy takes no larger one."""


@dataclass(frozen=True)
class Flags:
    """What lm-eval was told beside the model arguments.

    Attributes:
        seeds: Of ``--seed``: Python's, numpy's, torch's, and that of few-shot examples.
        system_instruction: Text of ``--system_instruction``; None means that there is none.
        chat_template: Of ``--apply_chat_template``: whether questions pass through it, or a template's name.
        gen_kwargs: Settings of ``--gen_kwargs``.
        cache_requests: Whether ``--cache_requests`` is set.
    """

    seeds: tuple[int | None, ...] = ()
    system_instruction: str | None = None
    chat_template: bool | str = False
    gen_kwargs: Mapping[str, Any] = field(default_factory=dict)
    cache_requests: bool = False

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Flags:
        """The flags among the arguments of ``simple_evaluate``."""
        seeds = ("random_seed", "numpy_random_seed", "torch_random_seed", "fewshot_random_seed")
        generation = arguments.get("gen_kwargs") or {}
        return cls(
            seeds=tuple(arguments.get(name) for name in seeds),
            system_instruction=arguments.get("system_instruction") or None,
            chat_template=arguments.get("apply_chat_template") or False,
            gen_kwargs=simple_parse_args_string(generation) if isinstance(generation, str) else generation,
            cache_requests=bool(arguments.get("cache_requests")),
        )

    @property
    def seed(self) -> int | None:
        """The seed of torch; None means that all seeds are lm-eval's own, so that nobody chose one."""
        unsaid = (DEFAULT_RANDOM_SEED, *[DEFAULT_OTHER_SEED] * 3)
        return None if self.seeds in ((), unsaid) else self.seeds[2]

    def as_arguments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Model arguments that the flags stand for.

        Args:
            given: The model arguments; what they say counts.

        Raises:
            RecipeError: If questions would have another system message than the prompts of pairs.
        """
        chosen = {"seed": self.seed, "prompt.system": self.system_instruction}
        if (
            None not in (self.system_instruction, said := given.get("prompt.system"))
            and said != self.system_instruction
        ):
            raise RecipeError(
                FLAGS,
                [
                    f"--system_instruction {self.system_instruction!r} is for questions and prompt.system={said!r} for "
                    "pairs; leave out prompt.system, or use auxiliary.system if the two are meant to differ"
                ],
            )
        if self.seed is not None and "seed" not in given:
            logger.warning("the recipe's seed is %d, as --seed says", self.seed)
        return {key: value for key, value in chosen.items() if value is not None and key not in given}

    def check(self) -> None:
        """Refuse what cannot be done, before lm-eval begins.

        Raises:
            RecipeError: With all faults.
        """
        faults = [
            f"--seed must be from 0 to {LARGEST_SEED}, got {seed}"
            for seed in dict.fromkeys(self.seeds)
            if seed is not None and not 0 <= seed <= LARGEST_SEED
        ]
        faults += [f"--gen_kwargs: {fault}" for fault in faults_of(self.gen_kwargs)]
        if isinstance(self.chat_template, str):
            faults.append(
                f"--apply_chat_template takes no name, got '{self.chat_template}'; name a template with "
                f'--model_args \'{{"chat_template_args": {{"chat_template": "{self.chat_template}"}}}}\''
            )
        if self.cache_requests:
            faults.append(
                "--cache_requests knows prompts by the name of their task, whatever its data and its prompt are; leave "
                "it out"
            )
        if faults:
            raise RecipeError(FLAGS, faults)


NONE_SET = Flags()
_noted: ContextVar[Flags] = ContextVar("flags", default=NONE_SET)


def noted_flags() -> Flags:
    """The flags of the current run; none are set outside of a run."""
    return _noted.get()


@contextmanager
def noting(arguments: Mapping[str, Any]) -> Iterator[None]:
    """Note the flags of a run inside.

    Args:
        arguments: Of ``simple_evaluate``.

    Raises:
        RecipeError: If a flag cannot be honoured.
    """
    flags = Flags.of(arguments)
    flags.check()
    before = _noted.set(flags)
    try:
        yield
    finally:
        _noted.reset(before)
