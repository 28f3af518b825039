"""The conditions under which a score was measured, so that different ones are not compared as if they were equal.

Every key of a recipe, every flag of ``lm_eval run`` and every model argument is one of three: it decides a condition
(`CONDITIONS`), it is what a report compares (`COMPARED`), or it changes no answer and no score (`NEUTRAL`). A test
walks all of them, so that a new one cannot be forgotten.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from lift_eval.reporting.planning import PLACES
from lift_eval.reporting.scores import Source
from lift_eval.results.reading import Run, TaskResult

Conditions: TypeAlias = Mapping[str, str | None]
"""Name of a condition to its value in words. None means that the run does not say; it is compared with nothing."""

LONGEST_VALUE = 60
"""Characters of a value that a note shows in full."""
NOT_SET = "not set"


@dataclass(frozen=True)
class Condition:
    """Something that two scores must share to be compared.

    Attributes:
        name: What notes call it.
        value: Its value in words. None means that the run does not say.
        settings: What decides it: keys of a recipe (``prompt.bos``), flags of lm-eval (``--limit``), model arguments
            (``tokenizer=``).
    """

    name: str
    value: Callable[[Source], str | None]
    settings: tuple[str, ...]


def conditions(source: Source) -> Conditions:
    """What decides a score besides the method itself.

    Args:
        source: The task of a run that the score is of.
    """
    return {condition.name: condition.value(source) for condition in CONDITIONS} | dict(
        _task_settings(source.task)
    )


def describe_differences(own: Conditions, other: Conditions, whose: str) -> list[str]:
    """One phrase for each condition that differs.

    Args:
        own: Of the score that is looked at.
        other: Of the score that it is compared with.
        whose: Name of the other.
    """
    values = (
        (name, own.get(name, NOT_SET), other.get(name, NOT_SET)) for name in dict.fromkeys([*own, *other])
    )
    return [
        f"{name}: {mine} ({whose}: {theirs})"
        for name, mine, theirs in values
        if mine is not None and theirs is not None and mine != theirs
    ]


def describe_forms(run: Run) -> list[str]:
    """Say whether a run trained its pairs in another form than that of its questions."""
    pairs, questions = _trained_form(run), _asked_form(run)
    if pairs is None or pairs == questions:
        return []
    return [f"form of the trained pairs: {pairs} (questions: {questions})"]


# ------------------------------------------------------------------------------------------------------ their values


def _prompt(source: Source) -> Mapping[str, Any]:
    """The recipe's group ``prompt``; empty for other model classes."""
    return source.run.recipe.get("prompt") or {}


def _known(value: object) -> str | None:
    return None if value is None else str(value)


def _short(value: object) -> str:
    """A value on one line; a long one as its beginning and its hash."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    text = " ".join(re.sub(r" at 0x[0-9a-f]+", "", text).split())  # where in memory lm-eval had a function
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE // 2]}… (hash {_hash(text)})"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:8]


def _of_prompt(key: str) -> Callable[[Source], str | None]:
    return lambda source: _known(_prompt(source).get(key))


def _of_arguments(name: str) -> Callable[[Source], str | None]:
    return lambda source: _short(source.run.model_args.get(name, NOT_SET))


def _of_samples(name: str) -> Callable[[Source], str | None]:
    """A field of the samples, else of the metadata that the task was given."""

    def value(source: Source) -> str | None:
        values = {getattr(sample, name) for sample in source.samples}
        if values:
            return " and ".join(sorted(filter(None, values))) or "none"
        return _known(source.task.metadata.get(name))

    return value


def _base_model(source: Source) -> str | None:
    arguments = source.run.model_args
    name = source.run.lift.get("pretrained") or arguments.get("pretrained") or arguments.get("model")
    parts = [name, arguments.get("subfolder"), arguments.get("gguf_file")]
    return "/".join(str(part) for part in parts if part) or None


def _revision(source: Source) -> str | None:
    config = source.run.config
    return _known(config.get("model_sha") or config.get("model_revision"))


def _prompt_budget(source: Source) -> str | None:
    """The smaller of the recipe's limit and the model's window; a whole document may fill the window."""
    prompt = _prompt(source)
    limits = (
        None if prompt.get("document") == "full" else prompt.get("max_tokens"),
        source.run.lift.get("window") or source.run.facts.get("max_length"),
    )
    known = [limit for limit in limits if isinstance(limit, int)]
    counted = ", including the answer" if prompt.get("max_tokens_with_answer") else ""
    return f"{min(known):,} tokens{counted}" if known else None


def _passages(source: Source) -> str | None:
    prompt = _prompt(source)
    return f"{prompt.get('passages')} of {prompt.get('passage_tokens')} tokens" if prompt else None


def _demonstrations(source: Source) -> str:
    shown = _prompt(source).get("demonstrations")
    if not shown:
        return "none"
    count = f"{len(shown)} " if isinstance(shown, list) else ""
    return f"{count}(hash {_hash(json.dumps(shown))})"


def _truncation(source: Source) -> str | None:
    prompt = _prompt(source)
    if "truncate" not in prompt:
        return None
    words = f"middle of the {prompt['truncate']} replaced by {_short(prompt.get('ellipsis'))!r}"
    if prompt["truncate"] == "document":
        words += f", {prompt.get('question_tokens')} tokens reserved for the question"
    return words


def _bos(source: Source) -> str:
    asked = _prompt(source).get("bos") if source.run.recipe else source.run.model_args.get("add_bos_token")
    return "tokenizer's default" if asked is None else str(asked)


def _chat_template(source: Source) -> str:
    template = source.run.facts.get("chat_template")
    return f"on (hash {_hash(str(template))})" if template else "off"


def _thinking(source: Source) -> str | None:
    """What the chat template of the questions was given."""
    if not source.run.facts.get("chat_template"):
        return None
    names = ("chat_template_args", "enable_thinking")
    said = ((name, places.get(name)) for name in names for places in (source.run.model_args, _prompt(source)))
    given = {name: value for name, value in said if value not in (None, {})}
    return _short(given) if given else NOT_SET


def _think_end(source: Source) -> str:
    end = _prompt(source).get("think_end")
    return _short(source.run.model_args.get("think_end_token", NOT_SET) if end is None else end)


def _system_message(source: Source) -> str:
    return _short(source.run.facts.get("system_instruction") or "none")


def _form(template: object, system: object) -> str:
    words = "chat template" if template else "plain text"
    return f"{words} with system message {_short(str(system))!r}" if system else words


def _asked_form(run: Run) -> str:
    return _form(run.facts.get("chat_template"), run.facts.get("system_instruction"))


def _trained_form(run: Run) -> str | None:
    """None means that the run trains no pairs."""
    groups = {name: run.recipe.get(name) or {} for name in ("adapter", "auxiliary", "prompt")}
    if "none" in (groups["adapter"].get("type", "none"), groups["auxiliary"].get("strategy", "none")):
        return None
    own = groups["auxiliary"].get("system")
    return _form(
        groups["prompt"].get("chat_template"), groups["prompt"].get("system") if own is None else own
    )


def _wording(source: Source) -> str | None:
    """The wording around question and answer of a trained pair."""
    words = [_prompt(source).get(key.removeprefix("prompt.")) for key in WORDING]
    return _hash(json.dumps(words)) if _trained_form(source.run) else None


def _limit(source: Source) -> str:
    limit = source.run.config.get("limit")
    return f"{limit:g}" if isinstance(limit, (int, float)) else _known(limit) or "none"


def _with_examples(value: Callable[[Source], str | None]) -> Callable[[Source], str | None]:
    return lambda source: value(source) if source.task.shots else None


def _decoding(source: Source) -> str:
    settings: dict[str, Any] = dict(source.task.config.get("generation_kwargs") or {})
    words = []
    who = (source.run.recipe.get("decoding") or {}).get("source", "recipe")
    if who != "recipe":  # the task only says where an answer ends
        settings = {name: settings[name] for name in ("until", "max_gen_toks") if name in settings}
        words.append(f"settings of the {who}")
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


def _precision(source: Source) -> str | None:
    run = source.run
    dtype = run.lift.get("dtype") or run.config.get("model_dtype") or run.model_args.get("dtype")
    if dtype is None:
        return None
    quantization = (run.recipe.get("precision") or {}).get("quantization", "none")
    for argument in ("load_in_4bit", "load_in_8bit"):
        if str(run.model_args.get(argument, "")).lower() == "true":
            quantization = argument
    name = str(dtype).removeprefix("torch.")
    return name if quantization == "none" else f"{name} with {quantization} weights"


ROWS_OF_TASK = (
    "task", "task_alias", "tag", "dataset_path", "dataset_name", "custom_dataset", "training_split",
    "validation_split", "test_split", "process_docs", "unsafe_code",
)  # fmt: skip
"""Settings of a task that name it or say which rows it has: scores are paired by the rows' content."""
ELSEWHERE = ("metadata", "num_fewshot", "generation_kwargs")
"""Settings of a task that have their own conditions."""


def _task_settings(task: TaskResult) -> Iterator[tuple[str, str]]:
    """Every setting that a task's file, or a file in its place, and ``--metadata`` may change."""
    for name, value in task.config.items():
        of_examples = name.startswith("fewshot")
        if name in (*ROWS_OF_TASK, *ELSEWHERE) or (of_examples and not task.shots):
            continue
        if isinstance(value, Mapping):
            value = {key: part for key, part in value.items() if key not in PLACES}
        if value not in (None, "", {}, []):
            yield f"task setting {name}", _short(value)
    for name, value in task.metadata.items():
        if name not in (*PLACES, "prompt_style", "judge"):
            yield f"metadata {name}", _short(value)


WORDING = (
    "prompt.template", "prompt.closed_book_template", "prompt.answer_prefix", "prompt.eos_after_answer",
)  # fmt: skip

# -------------------------------------------------------------------------------------------- what each setting does

CONDITIONS = (
    Condition("base model", _base_model, ("pretrained=", "subfolder=", "gguf_file=")),
    Condition("revision", _revision, ("revision=",)),
    Condition("tokenizer", _of_arguments("tokenizer"), ("tokenizer=",)),
    Condition("document field", _of_arguments("document_field"), ("document_field=",)),
    Condition("prompt style", _of_samples("prompt_style"), ("--metadata", "prompt.style")),
    Condition("document in the prompt", _of_prompt("document"), ("prompt.document",)),
    Condition(
        "retrieved passages",
        _passages,
        ("prompt.passages", "prompt.passage_tokens"),
    ),
    Condition("over-length documents", _of_prompt("over_length"), ("prompt.over_length",)),
    Condition(
        "demonstrations",
        _demonstrations,
        ("prompt.demonstrations",),
    ),
    Condition(
        "prompt budget",
        _prompt_budget,
        ("prompt.max_tokens", "prompt.max_tokens_with_answer", "max_length="),
    ),
    Condition("truncation", _truncation, ("prompt.truncate", "prompt.ellipsis", "prompt.question_tokens")),
    Condition("beginning-of-sequence token", _bos, ("prompt.bos",)),
    Condition("prefix token", _of_arguments("prefix_token_id"), ("prefix_token_id=",)),
    Condition("chat template of the questions", _chat_template, ("--apply_chat_template",)),
    Condition(
        "chat template arguments",
        _thinking,
        ("chat_template_args=", "enable_thinking=", "prompt.chat_template_args", "prompt.enable_thinking"),
    ),
    Condition("end-of-thinking marker", _think_end, ("think_end_token=", "prompt.think_end")),
    Condition("system message of the questions", _system_message, ("--system_instruction",)),
    Condition(
        "form of the trained pairs",
        lambda source: _trained_form(source.run),
        ("prompt.chat_template", "prompt.system"),
    ),
    Condition("wording of the trained pairs", _wording, WORDING),
    Condition("few-shot examples", lambda source: str(source.task.shots), ("--num_fewshot",)),
    Condition(
        "few-shot examples as turns",
        _with_examples(lambda source: str(bool(source.run.facts.get("fewshot_as_multiturn")))),
        ("--fewshot_as_multiturn",),
    ),
    Condition(
        "few-shot seed",
        _with_examples(lambda source: _known(source.run.config.get("fewshot_seed"))),
        ("--seed",),
    ),
    Condition("decoding", _decoding, ("--gen_kwargs", "decoding.source")),
    Condition("precision", _precision, ("precision.dtype", "precision.quantization")),
    Condition("softmax precision", _of_arguments("softmax_dtype"), ("softmax_dtype=",)),
    Condition("judge", _of_samples("judge"), ("judge=",)),
    Condition("limit", _limit, ("--limit",)),
    Condition("task version", lambda source: source.task.version, ("--include_path",)),
    Condition("lift-eval", lambda source: _known(source.run.lift.get("versions", {}).get("lift-eval")), ()),
    Condition("lm-eval", lambda source: _known(source.run.facts.get("lm_eval_version")), ()),
)  # fmt: skip
"""What two scores must share, besides their task's own settings (`_task_settings`)."""

COMPARED = (
    "adapter", "training", "auxiliary", "recipe=", "--model",  # rows
    "prompt.compressor", "prompt.embedder", "decoding.learned", "decoding.adapter",
    *(f"decoding.cache.{key}" for key in ("type", "sinks", "window", "tokens", "observed", "kernel", "future")),
    "--tasks",  # columns
    "seed", "seed=",  # pooled
    "--samples",  # questions: compared on those that both rows answered
)  # fmt: skip
"""What a report compares: what makes rows, columns, seeds and questions differ. A group stands for its keys."""

NEUTRAL = (
    "name", "description", "reproduces",
    "decoding.max_new_tokens", "decoding.temperature",  # the library's; in lm-eval tasks and --gen_kwargs count
    "compute", "workers", "batch_size=", "max_batch_size=", "device=", "device_map=", "attn_implementation=",
    "workers=", "store=", "logits_cache=", "trust_remote_code=",
    "--config", "--model_args",  # hold other settings
    "--batch_size", "--max_batch_size", "--device", "--use_cache", "--cache_requests",
    "--trust_remote_code", "--confirm_run_unsafe_code", "--check_integrity",
    "--output_path", "--log_samples", "--predict_only", "--write_out", "--show_config", "--verbosity",
    "--wandb_args", "--wandb_config_args", "--trackio_args", "--hf_hub_log_args",
)  # fmt: skip
"""What changes no answer and no score except by rounding. A group stands for its keys."""
