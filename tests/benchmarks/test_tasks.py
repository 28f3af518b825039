"""Every task file, loaded by lm-eval itself: a broken one would be passed over in silence."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import lm_eval
import pytest
import yaml
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

from lift_eval.benchmarks.own import TASK
from lift_eval.document import Document
from lift_eval.results.full_sizes import LOOGLE_TYPES
from tests.benchmarks.harness import CHOICES, DOCUMENT, NEW_TOKENS, TASKS, WHOLE_TEXTS, Echo, manager, small

GROUPS = {"loogle": 4, "loogle_v2": 4, "lift_longbench": 21, "lift_longbench_v1": 5, "lift_tiny": 2}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFT_EVAL_CACHE", str(tmp_path))


def test_every_task_and_group_has_its_file() -> None:
    named = [*NEW_TOKENS, *CHOICES, *WHOLE_TEXTS, *GROUPS, TASK]
    assert sorted(manager().all_tasks) == sorted(named)
    assert len(list(TASKS.rglob("*.yaml"))) == len(named)  # none is passed over


def test_the_folder_holds_no_code() -> None:
    assert not list(TASKS.rglob("*.py"))


@pytest.mark.parametrize("name", NEW_TOKENS)
def test_every_task_loads_asks_and_scores(name: str, data_dir: Path) -> None:
    task = small(data_dir).load([name])["tasks"][name]
    assert task.config.generation_kwargs["max_gen_toks"] == NEW_TOKENS[name]
    assert task.config.generation_kwargs["do_sample"] is False
    declared = {metric["metric"] for metric in task.config.metric_list}
    for row in task.eval_docs:
        about_it = name != "lift_forgetting"
        assert (row["context"] in task.doc_to_text(row)) is about_it
        assert task.doc_to_target(row)
        scores = task.process_results(dict(row), ["Paragraph 3"])
        undeclared = set(scores) - declared
        assert all(
            metric.startswith("score_200_") for metric in undeclared
        )  # a grid that is not the published one


@pytest.mark.parametrize(("group", "size"), GROUPS.items())
def test_every_group_loads(group: str, size: int, data_dir: Path) -> None:
    loaded = small(data_dir).load([group])
    assert len(loaded["tasks"]) == size
    assert group in loaded["groups"]


def test_the_published_grid_names_all_its_cells() -> None:
    task = yaml.load(
        (TASKS / "niah" / "lift_niah.yaml").read_text().replace("!function", ""), yaml.SafeLoader
    )
    cells = {metric["metric"] for metric in task["metric_list"]} - {"score", "all_keywords"}
    lengths, depths = [1000 * 2**k for k in range(8)], [0, 20, 40, 60, 80, 100]
    assert cells == {f"score_{length}_{depth}" for length in lengths for depth in depths}


# ---------------------------------------------------------------------------------------------------------- prompts


QA_PROMPTS = {
    "loogle": "Please answer the question based on the long texts below. \nX\nQuestion: Q?\nAnswer: ",
    "lift_v1": "The article T: \nX\nPlease answer the question based on T.\nQuestion: Q?\nAnswer: ",
    "closed_book": 'Please answer the question based on "T".\nQuestion: Q?\nAnswer: ',
}
PASSAGES = "Answer the question based on the given passages. Only give me the answer and do not output any other words."
PROMPTS: dict[tuple[str, str | None], str] = {
    **{(task, style): text for task in ("loogle_shortqa", "loogle_longqa") for style, text in QA_PROMPTS.items()},
    ("loogle_shortqa", None): QA_PROMPTS["loogle"],
    ("lift_squad", None): "T\n\nX\n\nQuestion: Q?\nAnswer:",
    ("lift_squad", "lift_v1"): QA_PROMPTS["lift_v1"],
    ("lift_squad", "lift_v2"): "Q?",
    ("loogle_cloze", None): (
        "Please fill in the clozes based on the given long texts below. Each of the placeholder '<mask-n>' in the "
        "question could be an entity of Person, Location or Organiocation. The same masks represent the same entity. "
        "Output a json format answer, for example: {'<mask-0>': 'Bob', '<mask-1>': 'Gorrosion Magazine','<mask-2>': "
        "'Bethel Horizon'}\nX\n Question: Q? What are the masked entities? \nAnswer:"
    ),
    ("loogle_summarization", None): "Please generate a summary of the below paper. \nX\n Summarization: ",
    ("lift_longbench_narrativeqa", None): (
        "You are given a story, which can be either a novel or a movie script, and a question. Answer the question "
        "asconcisely as you can, using a single phrase if possible. Do not provide any explanation.\n\nStory: X\n\n"
        "Now, answer the question based on the story asconcisely as you can, using a single phrase if possible. Do not "
        "provide any explanation.\n\nQuestion: Q?\n\nAnswer:"
    ),
    ("lift_longbench_musique", None): (
        f"{PASSAGES}\n\nThe following are given passages.\nX\n\n{PASSAGES}\n\nQuestion: Q?\nAnswer:"
    ),
    ("lift_longbench_gov_report", None): (
        "You are given a report by a government agency. Write a one-page summary of the report.\n\nReport:\nX\n\nNow, "
        "write a one-page summary of the report.\n\nSummary:"
    ),
    ("lift_longbench_qmsum", None): (
        "You are given a meeting transcript and a query containing a question or instruction. Answer the query in one "
        "or more sentences.\n\nTranscript:\nX\n\nNow, answer the query based on the above meeting transcript in one or "
        "more sentences.\n\nQuery: Q?\nAnswer:"
    ),
    ("lift_longbench_passage_retrieval_en", None): (
        "Here are 30 paragraphs from Wikipedia, along with an abstract. Please determine which paragraph the abstract "
        "is from.\n\nX\n\nThe following is an abstract.\n\nQ?\n\nPlease enter the number of the paragraph that the "
        'abstract is from. The answer format must be like "Paragraph 1", "Paragraph 2", etc.\n\nThe answer is: '
    ),
}  # fmt: skip
OTHER_PROMPTS = {
    # subtask: SHA-256 of the official prompt, its first 16 digits
    "qasper": "0fbdd123fe7f83d6",
    "multifieldqa_en": "20b4666a2de8a1f7",
    "hotpotqa": "9ec4ae308865bd0c",
    "2wikimqa": "9ec4ae308865bd0c",
    "multi_news": "2af3f28c40b902e6",
    "trec": "0eff8bebdba99d91",
    "multifieldqa_zh": "344b3a4e557cd547",
    "dureader": "ae53329f51b17908",
    "vcsum": "3e5d8241bc9b512e",
    "triviaqa": "00a802e6377e72fc",
    "samsum": "a68d884234907eef",
    "lsht": "f3edabdf7fae53d6",
    "passage_count": "986550b6c61009c6",
    "passage_retrieval_zh": "c1e2346e245eb365",
    "lcc": "6a1f24cf0bb83cd9",
    "repobench-p": "ee9ec182ea5ffeb7",
}
"""LongBench's other prompts."""


@pytest.mark.parametrize(("name", "digest"), OTHER_PROMPTS.items())
def test_the_other_prompts_of_longbench_are_the_published_ones(
    name: str, digest: str, data_dir: Path
) -> None:
    task = small(data_dir).load([f"lift_longbench_{name}"])["tasks"][f"lift_longbench_{name}"]
    template = task.eval_docs[0]["prompt_template"]
    assert hashlib.sha256(template.encode()).hexdigest()[:16] == digest


@pytest.mark.parametrize(("name", "style"), PROMPTS)
def test_prompts_are_the_published_ones_to_the_last_space(
    name: str, style: str | None, data_dir: Path
) -> None:
    task = small(data_dir, prompt_style=style).load([name])["tasks"][name]
    row = {**task.eval_docs[0], "title": "T", "context": "X", "question": "Q?", "input": "Q?"}
    assert task.doc_to_text(row) == PROMPTS[name, style]


@pytest.mark.parametrize("name", ["lift_longbench_qmsum", "lift_niah", "lift_squad", "lift_tiny_shortqa"])
def test_closed_book_prompts_leave_the_document_out(name: str, data_dir: Path) -> None:
    task = small(data_dir, prompt_style="closed_book").load([name])["tasks"][name]
    row = task.eval_docs[0]
    assert row["context"] not in task.doc_to_text(row)
    assert (row.get("question") or row.get("input")) in task.doc_to_text(row)


# ------------------------------------------------------------------------------------------------- through lm-eval


def evaluate(model: LM, tasks: list[str], task_manager: TaskManager) -> dict[str, Any]:
    done = lm_eval.simple_evaluate(
        model=model, tasks=tasks, task_manager=task_manager, log_samples=True, bootstrap_iters=0
    )
    assert done is not None
    return done


def test_a_whole_run_gives_the_scores_worked_out_by_hand(data_dir: Path) -> None:
    results = evaluate(Echo("Lyon"), ["loogle", "lift_niah"], small(data_dir))["results"]
    short, long = results["loogle_shortqa"], results["loogle_longqa"]
    assert short["exact_match,none"] == 1 / 4
    assert short["documents,none"] == 2
    assert long["token_f1_multiple_information_retrieval,none"] == 1
    assert long["token_f1_computation,none"] == 0
    assert long["questions_timeline_reorder,none"] == 1
    assert (
        long["timeline_lmd_standard,none"] == 1
    )  # "Lyon" is no order: the worst for two events, (1 + 1) / 2
    assert results["loogle_cloze"]["cloze_exact,none"] == 0
    assert results["lift_niah"]["score_200_50,none"] == 0


def test_clozes_are_averaged_over_masks(data_dir: Path) -> None:
    results = evaluate(Echo("{'<mask-0>': 'Ada'}"), ["loogle_cloze"], small(data_dir))["results"]
    assert results["loogle_cloze"]["cloze_exact,none"] == pytest.approx(1 / 3)  # not (1 + 0) / 2


def test_logged_rows_hold_the_documents_digest_and_the_model_its_text(data_dir: Path) -> None:
    model = Echo("Lyon")
    samples = evaluate(model, ["loogle_shortqa"], small(data_dir))["samples"]["loogle_shortqa"]
    text = f"Ada 0. {DOCUMENT}"
    assert samples[0]["doc"]["context"] == f"sha256:{Document(text, 'Ada 0').digest}"
    assert samples[0]["doc"]["title"] == "Ada 0"
    assert model.requests[0].doc["context"] == text


def test_the_real_files_run(loogle_dir: Path) -> None:
    results = evaluate(Echo("2,1,3"), ["loogle"], manager(data_dir=str(loogle_dir)))["results"]
    assert results["loogle_shortqa"]["documents,none"] == 3
    assert sum(results["loogle_longqa"][f"questions_{name},none"] for name in LOOGLE_TYPES) == 26
    assert results["loogle_longqa"]["timeline_exact,none"] == pytest.approx(2 / 3)
