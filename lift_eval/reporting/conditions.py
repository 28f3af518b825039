"""Under which conditions a score came about, so that two scores are not compared as if they were alike."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from lift_eval.results.reading import Run, Sample, TaskResult

Conditions: TypeAlias = Mapping[str, str | None]
"""Name of a condition to its value in words; None where the run does not say, which is compared with nothing."""


def conditions(run: Run, task: TaskResult, samples: Sequence[Sample]) -> Conditions:
    """What decides a score besides the method itself.

    Args:
        run: The run.
        task: Its task.
        samples: The task's samples; prompt style and judge stand there.
    """
    return {
        "prompt style": _only({sample.prompt_style for sample in samples}),
        "document in the prompt": _recipe_prompt(run, "document"),
        "most prompt tokens": _recipe_prompt(run, "max_tokens"),
        "chat template": _chat_template(run),
        "few-shot examples": str(task.shots),
        "decoding": _decoding(task),
        "precision": _precision(run),
        "judge": _only({sample.judge for sample in samples}),
        "limit": _known(run.config.get("limit")) or "none",
        "task version": task.version,
        "lm-eval": _known(run.facts.get("lm_eval_version")),
    }


def describe_differences(own: Conditions, other: Conditions, whose: str) -> list[str]:
    """One phrase for each condition that differs.

    Args:
        own: Of the score that is looked at.
        other: Of the score it stands beside.
        whose: Name of the other.
    """
    return [
        f"{name}: {own[name]} ({whose}: {other[name]})"
        for name in own
        if own[name] is not None and other[name] is not None and own[name] != other[name]
    ]


def _only(values: set[str]) -> str | None:
    named = sorted(value for value in values if value)
    if not values:
        return None
    return " and ".join(named) or "none"


def _known(value: object) -> str | None:
    return None if value is None else str(value)


def _recipe_prompt(run: Run, name: str) -> str | None:
    return _known((run.recipe.get("prompt") or {}).get(name))


def _chat_template(run: Run) -> str:
    own = (run.recipe.get("prompt") or {}).get("chat_template")
    return "on" if own or run.facts.get("chat_template") else "off"


def _decoding(task: TaskResult) -> str:
    settings: Mapping[str, Any] = task.config.get("generation_kwargs") or {}
    words = []
    for name, value in sorted(settings.items()):
        if name == "until":
            words.append(f"until {json.dumps(value)}")
        elif name == "do_sample":
            words.append("sampled" if value else "greedy")
        elif name == "temperature" and not float(value):
            continue
        else:
            words.append(f"{name} {value}")
    return ", ".join(words) or "none"


def _precision(run: Run) -> str | None:
    dtype = run.lift.get("dtype") or run.config.get("model_dtype") or run.model_args.get("dtype")
    if dtype is None:
        return None
    quantization = (run.recipe.get("precision") or {}).get("quantization", "none")
    for argument in ("load_in_4bit", "load_in_8bit"):
        if str(run.model_args.get(argument, "")).lower() == "true":
            quantization = argument
    name = str(dtype).removeprefix("torch.")
    return name if quantization == "none" else f"{name} with {quantization} weights"
