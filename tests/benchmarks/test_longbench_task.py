"""LongBench through lm-eval: which prompts pass through the chat template, how they are cut, what a group reports."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import lm_eval
import pytest
from lm_eval.api.model import LM

from lift_eval.benchmarks.longbench import SUBTASKS
from lift_eval.benchmarks.metrics import chinese
from lift_eval.errors import LiftEvalError
from lift_eval.harness.model import LiftLM
from tests.benchmarks.harness import Echo, small
from tests.tiny_models import END, save_checkpoint, tiny_tokenizer

WITHOUT_TEMPLATE = {"trec", "triviaqa", "samsum", "lsht", "lcc", "repobench-p"}
"""Subtasks that the official code puts as plain text."""


def evaluate(model: LM, tasks: list[str], data_dir: Path, *, metadata: Any = None, **options: Any) -> Any:
    manager = small(data_dir, **(metadata or {}))
    return lm_eval.simple_evaluate(
        model=model, tasks=tasks, task_manager=manager, bootstrap_iters=0, **options
    )


def chat_template(turns: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
    return "".join(f"<{turn['role']}>{turn['content']}" for turn in turns)


def test_few_shot_and_code_subtasks_pass_by_the_chat_template(data_dir: Path) -> None:
    tasks = small(data_dir).load(["lift_longbench"])["tasks"]
    for name in SUBTASKS:
        task = tasks[f"lift_longbench_{name}"]
        chat = {
            "apply_chat_template": True,
            "system_instruction": "Be brief.",
            "chat_template": chat_template,
        }
        task.build_all_requests(limit=1, **chat)
        (request,) = task.instances
        plain = task.doc_to_text(request.doc)
        expected = plain if name in WITHOUT_TEMPLATE else f"<system>Be brief.<user>{plain}"
        assert request.arguments[0] == expected


def test_the_group_has_the_official_average_and_those_of_the_categories(data_dir: Path) -> None:
    results = evaluate(Echo("Paragraph 3"), ["lift_longbench"], data_dir)["results"]
    scores = {name: results[f"lift_longbench_{name}"]["score,none"] for name in SUBTASKS}
    by_category: dict[str, list[float]] = {}
    for name, subtask in SUBTASKS.items():
        by_category.setdefault(subtask.category, []).append(scores[name])
    means = {category: sum(values) / len(values) for category, values in by_category.items()}
    assert 0 < min(means.values()) < max(means.values())
    for category, mean in means.items():
        assert results[f"lift_longbench::{category}"]["score,none"] == pytest.approx(mean)
    assert results["lift_longbench"]["overall,none"] == pytest.approx(sum(means.values()) / 6)


def test_results_hold_scores_by_length(data_dir: Path) -> None:
    results = evaluate(Echo("Paragraph 3"), ["lift_longbench_musique"], data_dir)["results"]
    musique = results["lift_longbench_musique"]
    assert musique["score_0-4k,none"] == musique["score_8k+,none"] == 100
    assert "score_4-8k,none" not in musique  # no row is as long
    assert [musique[f"questions_{group},none"] for group in ("0-4k", "4-8k", "8k+")] == [1, 0, 1]


def test_a_subtask_that_needs_jieba_says_so_before_the_run(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jieba", None)
    chinese.segmenter.cache_clear()
    with pytest.raises(LiftEvalError, match=r"pip install 'lift-eval\[longbench\]'"):
        small(data_dir).load(["lift_longbench_vcsum"])
    assert small(data_dir).load(["lift_longbench_lsht"])  # which compares names of classes


# ---------------------------------------------------------------------------------------------------------- the cut


WINDOW = 400
NEW_TOKENS = 32


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LiftLM:
    folder = save_checkpoint(tmp_path_factory.mktemp("chat"), chat_template=True)
    recipe = {"recipe": "icl", "prompt.max_tokens": 330, "prompt.chat_template": True}
    return LiftLM(str(folder), device="cpu", store="off", max_length=WINDOW, **recipe)


def asked(model: LiftLM, data_dir: Path, monkeypatch: pytest.MonkeyPatch, style: str | None) -> list[int]:
    """Token ids of the first prompt of musique, one a character."""
    prompts: list[list[int]] = []
    decode = model.lifter.model.generate

    def spy(**arguments: Any) -> Any:
        prompts.extend(arguments["input_ids"].tolist())
        return decode(**arguments)

    monkeypatch.setattr(model.lifter.model, "generate", spy)
    options = {"limit": 1, "apply_chat_template": True, "metadata": {"prompt_style": style}}
    evaluate(model, ["lift_longbench_musique"], data_dir, **options)
    return prompts[0]


def test_the_official_style_keeps_both_halves_of_the_window(
    model: LiftLM, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = tiny_tokenizer()
    official = asked(model, data_dir, monkeypatch, "longbench")
    text = tokenizer.decode(official)
    assert len(official) == WINDOW - NEW_TOKENS
    assert text.startswith("<bos><|start|>user\nAnswer the question based on the given passages.")
    assert text.endswith(f"Question: Where?\nAnswer:{END}\n<|start|>assistant\n")
    assert "..." not in text


def test_the_default_style_cuts_as_the_recipe_says(
    model: LiftLM, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = asked(model, data_dir, monkeypatch, None)
    assert len(ours) == 330
    assert tiny_tokenizer().decode(ours).count("...") == 1
    assert ours == asked(model, data_dir, monkeypatch, "lift_v1")
