"""Flags of ``lm_eval run`` that its model classes are not told of, and that decide here what is trained.

lm-eval hands its model class the model arguments, the batch size and the device. The other arguments of
``simple_evaluate`` are noted here while it runs.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
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
        check_integrity: Whether ``--check_integrity`` is set.
        limit: Of ``--limit``; None means all questions.
        samples: Of ``--samples``; None means all questions.
        num_fewshot: Of ``--num_fewshot``; None means as the tasks say.
        verbosity: Of ``--verbosity``; None means lm-eval's own.
        output_path: Where lm-eval writes its results; None means nowhere.
    """

    seeds: tuple[int | None, ...] = ()
    system_instruction: str | None = None
    chat_template: bool | str = False
    gen_kwargs: Mapping[str, Any] = field(default_factory=dict)
    cache_requests: bool = False
    check_integrity: bool = False
    limit: float | None = None
    samples: Any = None
    num_fewshot: int | None = None
    verbosity: str | None = None
    output_path: str | None = None

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Flags:
        """The flags among the arguments of ``simple_evaluate``."""
        seeds = ("random_seed", "numpy_random_seed", "torch_random_seed", "fewshot_random_seed")
        generation = arguments.get("gen_kwargs") or {}
        return cls(
            seeds=tuple(arguments.get(name) for name in seeds),
            system_instruction=arguments.get("system_instruction") or None,
            chat_template=_truth(arguments.get("apply_chat_template") or False),
            gen_kwargs=simple_parse_args_string(generation) if isinstance(generation, str) else generation,
            cache_requests=bool(arguments.get("cache_requests")),
            check_integrity=bool(arguments.get("check_integrity")),
            output_path=getattr(arguments.get("evaluation_tracker"), "output_path", None),
            **{name: arguments.get(name) for name in ("limit", "samples", "num_fewshot", "verbosity")},
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
        chosen = {
            "seed": self.seed,
            "prompt.system": self.system_instruction,
            "prompt.chat_template": self.chat_template or None,
        }
        if (
            None not in (self.system_instruction, said := given.get("prompt.system"))
            and said != self.system_instruction
        ):
            raise RecipeError(
                FLAGS,
                [
                    f"--system_instruction {self.system_instruction!r} and prompt.system={said!r} must not differ; "
                    "leave one of them out, or use auxiliary.system to give pairs a system message of their own"
                ],
            )
        if self.seed is not None and "seed" not in given:
            logger.warning("--seed sets the recipe's seed to %d", self.seed)
        return {key: value for key, value in chosen.items() if value is not None and key not in given}

    def check(self) -> None:
        """Refuse what cannot be done, before lm-eval begins.

        Raises:
            RecipeError: With all faults.
        """
        faults = [
            *self._faults_of_numbers(),
            *(f"--gen_kwargs: {fault}" for fault in faults_of(self.gen_kwargs)),
        ]
        if isinstance(self.chat_template, str):
            faults.append(
                f"--apply_chat_template takes no name, got '{self.chat_template}'; name a template with "
                f'--model_args \'{{"chat_template_args": {{"chat_template": "{self.chat_template}"}}}}\''
            )
        if self.cache_requests:
            faults.append(
                "--cache_requests would reuse a task's prompts even after its data or its prompt have changed; leave "
                "it out"
            )
        if self.check_integrity:
            faults.append("--check_integrity runs tests that are not part of lm-eval's package; leave it out")
        if not isinstance(self.samples, (Mapping, type(None))):
            faults.append(
                f"--samples must be a JSON object of task names and rows, or a file with one, got {self.samples!r}"
            )
        if self.verbosity is not None and not isinstance(logging.getLevelName(self.verbosity), int):
            faults.append(
                f"--verbosity must be DEBUG, INFO, WARNING, ERROR or CRITICAL, got '{self.verbosity}'"
            )
        if (refusal := self._refusal_of_output()) is not None:
            faults.append(
                f"--output_path '{self.output_path}' cannot be written to ({refusal}); name another folder"
            )
        if faults:
            raise RecipeError(FLAGS, faults)

    def _faults_of_numbers(self) -> Iterator[str]:
        for seed in dict.fromkeys(self.seeds):
            if seed is not None and not 0 <= seed <= LARGEST_SEED:
                yield f"--seed must be from 0 to {LARGEST_SEED}, got {seed}"
        if self.limit is not None and not self.limit > 0:
            yield f"--limit must be more than 0, got {self.limit:g}"
        if self.num_fewshot is not None and self.num_fewshot < 0:
            yield f"--num_fewshot must be 0 or more, got {self.num_fewshot}"

    def _refusal_of_output(self) -> str | None:
        """Why results cannot be written: lm-eval would find out at the end of the run, and go on."""
        if not self.output_path:
            return None
        path = Path(self.output_path)
        try:
            with tempfile.TemporaryFile(dir=_made(path.parent if path.suffix == ".json" else path)):
                return None
        except OSError as error:
            return error.strerror or type(error).__name__


def _truth(word: bool | str) -> bool | str:
    return True if isinstance(word, str) and word.lower() == "true" else word


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


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
