"""Where the numbers come from: versions, recipes, machine, dates, seeds, commands, files."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lift_eval.reporting.comparison import Comparison
from lift_eval.reporting.planning import key_values
from lift_eval.results.reading import Run

MACHINE_LINES = {
    "OS": "system",
    "Model name": "processor",
    "GPU models and configuration": "GPU",
    "CUDA runtime version": "CUDA",
}
NOT_SETTINGS = ("name", "description", "reproduces", "seed")


@dataclass(frozen=True)
class RunFacts:
    """The facts about one run.

    Attributes:
        row: Its row.
        file: Its results file, relative to the experiment file.
        sha256: Hash of that file.
        date: When it started.
        seed: Its seed.
        model: Model class and checkpoint.
        recipe: Name and digest of the recipe; empty for other model classes.
        versions: Of lm-eval and of the libraries that decide results.
        commit: Commit of the working tree that ran it.
        machine: System, processor, GPU.
        command: A command that makes it again.
    """

    row: str
    file: str
    sha256: str
    date: str
    seed: int
    model: str
    recipe: str
    versions: Mapping[str, str]
    commit: str
    machine: Mapping[str, str]
    command: str


@dataclass(frozen=True)
class Provenance:
    """Of a whole report.

    Attributes:
        runs: Of each run.
        recipe_differences: Recipe key to its value by row, for the keys that are not the same in all rows.
    """

    runs: tuple[RunFacts, ...]
    recipe_differences: Mapping[str, Mapping[str, str]]

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def provenance(comparison: Comparison) -> Provenance:
    """Collect the provenance of a comparison."""
    folder = comparison.experiment.folder
    runs = [_facts(row, run, folder) for row, some in comparison.runs.items() for run in some]
    return Provenance(tuple(runs), recipe_differences(_recipes(comparison)))


def _recipes(comparison: Comparison) -> dict[str, Mapping[str, Any]]:
    """The recipe of each row; each of its recipes where it has several."""
    recipes: dict[str, Mapping[str, Any]] = {}
    for row, runs in comparison.runs.items():
        own = {
            run.lift["recipe_digest"]: run.recipe
            for run in runs
            if run.recipe and run.lift.get("recipe_digest")
        }
        # The digest includes the seed, which does not distinguish methods.
        named = {str(recipe.get("name")): recipe for recipe in own.values()}
        for name, recipe in named.items():
            recipes[row if len(named) == 1 else f"{row}: {name}"] = recipe
    return recipes


def _facts(row: str, run: Run, folder: Path) -> RunFacts:
    checkpoint = run.lift.get("pretrained") or run.model_args.get("pretrained") or run.model_args.get("model")
    name, digest = run.recipe.get("name", ""), run.lift.get("recipe_digest", "")
    return RunFacts(
        row=row,
        file=Path(os.path.relpath(run.path, folder)).as_posix(),
        sha256=run.digest,
        date=run.date,
        seed=run.seed,
        model=f"{run.model}, {checkpoint}" if checkpoint else run.model,
        recipe=f"{name} {digest}".strip(),
        versions=_versions(run),
        commit=str(run.facts.get("git_hash") or "unknown"),
        machine=dict(_machine(run)),
        command=command(run),
    )


def _versions(run: Run) -> dict[str, str]:
    given = {
        "lm-eval": run.facts.get("lm_eval_version"),
        "transformers": run.facts.get("transformers_version"),
        **run.lift.get("versions", {}),
    }
    return {name: str(version) for name, version in given.items() if version}


def _machine(run: Run) -> Iterator[tuple[str, str]]:
    text = str(run.facts.get("pretty_env_info") or "")
    for label, name in MACHINE_LINES.items():
        match = re.search(rf"^\s*{re.escape(label)}:\s*(.+)$", text, re.MULTILINE)
        if match and match[1].strip() not in ("Could not collect", "N/A", "No CUDA"):
            yield name, match[1].strip()
    device = run.lift.get("device") or run.config.get("device")
    if device:
        yield "device", str(device)


def command(run: Run) -> str:
    """A command that makes a run again, from what lm-eval wrote of its arguments."""
    words = ["python", "-m", "lm_eval", "run", "--model", run.model]
    if run.model_args:
        words += ["--model_args", key_values(run.model_args)]
    words += ["--tasks", ",".join(run.tasks)]
    metadata = {key: value for task in run.tasks.values() for key, value in task.metadata.items()}
    if metadata:
        words += ["--metadata", json.dumps(metadata)]
    for option in ("limit", "batch_size"):
        value = run.config.get(option)
        if value is not None and (option, value) != ("batch_size", 1):
            words += [f"--{option}", str(value)]
    if run.config.get("gen_kwargs"):
        words += ["--gen_kwargs", key_values(run.config["gen_kwargs"])]
    shots = {task.shots for task in run.tasks.values()}
    if len(shots) == 1 and shots != {0}:
        words += ["--num_fewshot", str(*shots)]
    if run.facts.get("chat_template"):
        words.append("--apply_chat_template")
    if run.facts.get("system_instruction"):
        words += ["--system_instruction", str(run.facts["system_instruction"])]
    if run.model != "lift":
        words += ["--seed", str(run.seed)]
    return shlex.join([*words, "--output_path", "DIR", "--log_samples"])


def recipe_differences(recipes: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Recipe keys whose values are not the same in all rows.

    Args:
        recipes: The resolved recipe of each row.

    Returns:
        Dotted key to value by row, in the order of the recipes' keys.
    """
    flat = {row: dict(_flat(recipe)) for row, recipe in recipes.items()}
    keys = dict.fromkeys(key for settings in flat.values() for key in settings)
    return {
        key: {row: settings.get(key, "–") for row, settings in flat.items()}
        for key in keys
        if not _alike([settings.get(key) for settings in flat.values()])
    }


def _alike(values: Sequence[str | None]) -> bool:
    return len(set(values)) <= 1


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        if not prefix and key in NOT_SETTINGS:
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)
