"""Comparisons: what is pooled, paired, flagged and refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from lift_eval.errors import ResultsError
from lift_eval.reporting.comparison import Cell, Comparison, compare
from lift_eval.reporting.costs import BreakEven, all_break_evens, method_costs
from lift_eval.reporting.experiment import Experiment
from lift_eval.reporting.inference import infer_experiment
from lift_eval.reporting.planning import runs_of_rows
from lift_eval.results.reading import read_runs
from tests.reporting.helpers import document_record, rows, write_run

ICL, LIFT = {"recipe": "icl"}, {"recipe": "lora"}
COLUMN = {"label": "A", "task": "task", "metric": "exact_match"}


def experiment(folder: Path, **changes: Any) -> Experiment:
    return Experiment.model_validate(
        {
            "title": "T",
            "baseline": "ICL",
            "rows": [{"name": "ICL", "model_args": ICL}, {"name": "LIFT", "model_args": LIFT}],
            "columns": [COLUMN],
            "path": folder / "experiment.yaml",
            **changes,
        }
    )


def write(folder: Path, name: str, scores: Any, data: Any, **options: Any) -> None:
    by_task = scores if isinstance(scores, dict) else {"task": scores}
    write_run(folder / "results" / name, by_task, data, **options)


def cell(comparison: Comparison, row: str = "LIFT", column: str = "A") -> Cell:
    return comparison.cell(row, column)


def test_scores_and_differences(tmp_path: Path) -> None:
    data = rows(12, 2)
    write(tmp_path, "icl", [0, 1] * 12, data, model_args=ICL)
    write(tmp_path, "lift", [1, 1] * 12, data, model_args=LIFT)
    comparison = compare(experiment(tmp_path))
    lift = cell(comparison)
    assert (lift.value, lift.difference, lift.questions, lift.documents) == (100, 50, 24, 12)
    assert (lift.difference_low, lift.difference_high) == (50, 50)
    assert lift.permutation_p == pytest.approx(2 / 2**12)
    assert lift.mcnemar_p == pytest.approx(2 / 2**12)
    assert lift.best
    assert not cell(comparison, "ICL").best
    assert math.isnan(cell(comparison, "ICL").difference)
    assert comparison.missing == ()


def test_a_cell_without_run_says_so_and_names_the_run(tmp_path: Path) -> None:
    write(tmp_path, "icl", [0, 1], rows(1, 2), model_args=ICL)
    comparison = compare(experiment(tmp_path))
    assert cell(comparison).status == "not run"
    assert [run.row for run in comparison.missing] == ["LIFT"]


def test_nothing_was_run_at_all(tmp_path: Path) -> None:
    comparison = compare(experiment(tmp_path))
    assert {own.status for own in comparison.cells} == {"not run"}


def test_a_missing_baseline_leaves_scores_without_differences(tmp_path: Path) -> None:
    write(tmp_path, "lift", [1, 0], rows(2, 1), model_args=LIFT)
    lift = cell(compare(experiment(tmp_path)))
    assert lift.value == 50
    assert math.isnan(lift.difference)


# -------------------------------------------------------------------------------------------------------- two runs


def test_two_runs_for_one_cell_are_named(tmp_path: Path) -> None:
    data = rows(2, 2)
    write(tmp_path, "a", [0, 1, 0, 1], data, model_args=ICL)
    write(tmp_path, "b", [1, 1, 0, 1], data, model_args=ICL)
    with pytest.raises(
        ResultsError, match=r"two runs for row 'ICL', column 'A', task task, seed 0: .*a/.* and .*b/"
    ):
        compare(experiment(tmp_path))


def test_a_run_and_its_copy_are_one(tmp_path: Path) -> None:
    data = rows(2, 2)
    for name in ("a", "b"):
        write(tmp_path, name, [0, 1, 0, 1], data, model_args=ICL)
    assert cell(compare(experiment(tmp_path)), "ICL").value == 50


# ----------------------------------------------------------------------------------------------------------- seeds


def test_seeds_are_pooled_by_question(tmp_path: Path) -> None:
    data = rows(10, 2)
    write(tmp_path, "icl", [0] * 20, data, model_args=ICL)
    write(tmp_path, "s0", [1, 0] * 10, data, model_args=LIFT, seed=0)
    write(tmp_path, "s1", [1, 1] * 10, data, model_args={**LIFT, "seed": 1}, seed=1)
    two = [{"name": "ICL", "model_args": ICL}, {"name": "LIFT", "model_args": LIFT, "seeds": [0, 1]}]
    lift = cell(compare(experiment(tmp_path, rows=two)))
    assert (lift.value, lift.questions, lift.documents, lift.seeds) == (75, 20, 10, (0, 1))
    assert lift.seed_deviation == pytest.approx(100 * math.sqrt(((0.5 - 0.75) ** 2 + (1 - 0.75) ** 2) / 1))
    assert math.isnan(lift.mcnemar_p), "half-right answers are neither right nor wrong"


def test_a_missing_seed_is_told(tmp_path: Path) -> None:
    write(tmp_path, "icl", [0, 1], rows(2, 1), model_args=ICL)
    comparison = compare(experiment(tmp_path, seeds=[0, 1]))
    assert "not run with seed 1" in cell(comparison, "ICL").notes


def test_runs_with_seeds_that_nobody_asked_for_are_left_out(tmp_path: Path) -> None:
    data = rows(2, 1)
    write(tmp_path, "a", [0, 1], data, model_args=ICL, seed=0)
    write(tmp_path, "b", [1, 1], data, model_args=ICL, seed=5)
    assert cell(compare(experiment(tmp_path)), "ICL").value == 50


# ------------------------------------------------------------------------------------------------- unequal questions


def test_unequal_sets_are_compared_on_what_both_have(tmp_path: Path) -> None:
    data = rows(10, 2)
    write(tmp_path, "icl", [1] * 10 + [0] * 10, data, model_args=ICL)
    write(tmp_path, "lift", [1] * 10, data[:10], model_args=LIFT)
    comparison = compare(experiment(tmp_path))
    lift = cell(comparison)
    assert (lift.value, lift.difference, lift.paired_questions) == (100, 0, 10)
    assert "10 questions (baseline: 20), compared on the 10 in common" in lift.notes
    assert not lift.best, "a score on half of the questions is not the best"


def test_disjoint_sets_are_not_compared(tmp_path: Path) -> None:
    write(tmp_path, "icl", [1, 0], rows(2, 1), model_args=ICL)
    write(tmp_path, "lift", [1, 0], rows(2, 1, prefix="other"), model_args=LIFT)
    lift = cell(compare(experiment(tmp_path)))
    assert math.isnan(lift.difference)
    assert "no question in common with the baseline, so not compared" in lift.notes


# ----------------------------------------------------------------------------------------------------------- flags


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        (
            {"recipe": {"prompt": {"document": "none", "max_tokens": 7800}}},
            "document in the prompt: none (ICL: truncated)",
        ),
        (
            {"recipe": {"prompt": {"document": "truncated", "max_tokens": 900}}},
            "prompt budget: 900 tokens (ICL: 7,800 tokens)",
        ),
        (
            {"recipe": {"precision": {"quantization": "nf4"}}},
            "precision: float32 with nf4 weights (ICL: float32)",
        ),
        (
            {"generation": {"do_sample": True, "temperature": 0.7, "max_gen_toks": 24}},
            "decoding: sampled, max_gen_toks 24, temperature 0.7 (ICL: greedy, max_gen_toks 24)",
        ),
        (
            {"recipe": {"decoding": {"source": "checkpoint"}}},
            "decoding: settings of the checkpoint, max_gen_toks 24 (ICL: greedy, max_gen_toks 24)",
        ),
        ({"versions": {"task": 2.0}}, "task version: 2.0 (ICL: 1.0)"),
        ({"lm_eval_version": "0.5.0"}, "lm-eval: 0.5.0 (ICL: 0.4.13)"),
        (
            {"chat_template": "{{ messages }}"},
            "chat template of the questions: on (hash f24189f0) (ICL: off)",
        ),
        ({"n-shot": {"task": 3}}, "few-shot examples: 3 (ICL: 0)"),
        ({"documents": [document_record("doc0", failure="OutOfMemoryError")]}, "1 failed document,"),
    ],
)
def test_other_conditions_are_flagged(tmp_path: Path, changes: dict[str, Any], note: str) -> None:
    data = rows(2, 2)
    write(tmp_path, "icl", [0, 1, 0, 1], data, model_args=ICL)
    write(tmp_path, "lift", [0, 1, 1, 1], data, model_args=LIFT, **changes)
    notes = cell(compare(experiment(tmp_path))).notes
    assert any(note in own for own in notes), notes


def test_other_prompts_and_judges_are_flagged(tmp_path: Path) -> None:
    data = rows(2, 2)
    write(tmp_path, "icl", [0, 1, 0, 1], data, model_args=ICL)
    other = [{**row, "prompt_style": "closed_book", "judge": "gpt"} for row in data]
    write(tmp_path, "lift", [0, 1, 1, 1], other, model_args=LIFT)
    lift = cell(compare(experiment(tmp_path)))
    assert lift.paired_questions == 4
    assert "prompt style: closed_book (ICL: tiny)" in lift.notes
    assert "judge: gpt (ICL: none)" in lift.notes


def test_equal_conditions_are_not_flagged(tmp_path: Path) -> None:
    data = rows(2, 2)
    for name, arguments in (("icl", ICL), ("lift", LIFT)):
        write(tmp_path, name, [0, 1, 1, 1], data, model_args=arguments)
    assert cell(compare(experiment(tmp_path))).notes == ()


def test_runs_without_samples_have_a_score_and_no_more(tmp_path: Path) -> None:
    data = rows(2, 2)
    write(tmp_path, "icl", [0, 1, 0, 1], data, model_args=ICL)
    write(tmp_path, "lift", [1, 1, 0, 1], data, model_args=LIFT, samples=False)
    lift = cell(compare(experiment(tmp_path)))
    assert (lift.value, lift.questions) == (75, 4)
    assert math.isnan(lift.low)
    assert math.isnan(lift.difference)
    assert any("no samples logged" in note for note in lift.notes)


# ---------------------------------------------------------------------------------------------------------- columns


def test_a_column_may_be_a_type_of_question(tmp_path: Path) -> None:
    data = rows(3, 2)
    write(tmp_path, "icl", [1, 0] * 3, data, model_args=ICL)
    comparison = compare(experiment(tmp_path, columns=[{**COLUMN, "type": "computation"}]))
    assert (cell(comparison, "ICL").value, cell(comparison, "ICL").questions) == (100, 3)


def test_a_task_without_questions_of_a_type_does_not_count(tmp_path: Path) -> None:
    long = [{**row, "type": "8k+" if index % 2 else "0-4k"} for index, row in enumerate(rows(3, 2))]
    data = {"task": long, "other": [{**row, "type": "0-4k"} for row in rows(3, 1)]}
    for seed in (0, 1):
        scores = {"task": [0, 1] * 3, "other": [0] * 3}
        write(tmp_path, f"icl-{seed}", scores, data, model_args=ICL, seed=seed)
    column = {**COLUMN, "task": ["task", "other"], "type": "8k+"}
    own = cell(compare(experiment(tmp_path, columns=[column], seeds=[0, 1])), "ICL")
    assert (own.value, own.questions, own.seed_deviation) == (100, 3, 0)
    assert own.notes == ("other has no matching question; the mean is over the other tasks",)


def test_a_group_is_the_mean_of_its_tasks_not_of_their_questions(tmp_path: Path) -> None:
    data = {"task": rows(2, 1), "other": rows(2, 4)}
    write(tmp_path, "icl", {"task": [1, 1], "other": [0] * 8}, data, model_args=ICL)
    comparison = compare(experiment(tmp_path, columns=[{**COLUMN, "task": ["task", "other"]}]))
    own = cell(comparison, "ICL")
    assert (own.value, own.questions, own.documents) == (50, 10, 2)


def test_a_group_with_a_missing_task_has_no_score(tmp_path: Path) -> None:
    write(tmp_path, "icl", [1, 1], rows(2, 1), model_args=ICL)
    comparison = compare(experiment(tmp_path, columns=[{**COLUMN, "task": ["task", "other"]}]))
    assert cell(comparison, "ICL").status == "other not run"


def test_ratios_are_averaged_over_their_denominators(tmp_path: Path) -> None:
    write(tmp_path, "icl", [(1, 1), (0, 3)], rows(2, 1), model_args=ICL)
    assert cell(compare(experiment(tmp_path)), "ICL").value == 25


def test_scores_beyond_one_are_not_multiplied(tmp_path: Path) -> None:
    write(tmp_path, "icl", [37.5, 2.5], rows(2, 1), model_args=ICL)
    assert cell(compare(experiment(tmp_path)), "ICL").value == 20


def test_lower_may_be_better(tmp_path: Path) -> None:
    data = rows(2, 1)
    for name, arguments, scores in (("icl", ICL, [3, 2]), ("lift", LIFT, [1, 2])):
        write(
            tmp_path,
            name,
            scores,
            data,
            model_args=arguments,
            higher_is_better={"task": {"exact_match": False}},
        )
    assert cell(compare(experiment(tmp_path))).best


def test_the_filter_must_be_chosen_where_there_are_several(tmp_path: Path) -> None:
    results = {"task": {"exact_match,strict": 0.5, "exact_match,loose": 1.0}}
    write(tmp_path, "icl", [1, 1], rows(2, 1), model_args=ICL, results=results)
    with pytest.raises(ResultsError, match=r"has the filters strict, loose .* choose one with 'filter'"):
        compare(experiment(tmp_path))
    with pytest.raises(ResultsError, match=r"has no filter 'lose' .*did you mean 'loose'\?"):
        compare(experiment(tmp_path, columns=[{**COLUMN, "filter": "lose"}]))


def test_holm_corrects_over_the_columns_of_a_row(tmp_path: Path) -> None:
    data = rows(10, 1)
    tasks = ("one", "two", "three")
    write(tmp_path, "icl", dict.fromkeys(tasks, [0] * 10), data, model_args=ICL)
    write(tmp_path, "lift", dict.fromkeys(tasks, [1] * 10), data, model_args=LIFT)
    comparison = compare(
        experiment(tmp_path, columns=[{**COLUMN, "label": task, "task": task} for task in tasks])
    )
    own = comparison.cell("LIFT", "two")
    assert own.permutation_p == pytest.approx(2 / 2**10)
    assert own.holm_p == pytest.approx(6 / 2**10)


def test_fewer_questions_than_the_benchmark_has_are_told(tmp_path: Path) -> None:
    data = rows(3, 13)
    write(tmp_path, "icl", {"loogle_shortqa": [1] * 39}, data, model_args=ICL)
    comparison = compare(experiment(tmp_path, columns=[{**COLUMN, "task": "loogle_shortqa"}]))
    assert comparison.shortfalls == ("loogle_shortqa: 39 of 1,951 questions, 3 of 105 documents",)


def test_files_of_ones_own_are_not_measured_against_the_benchmark(tmp_path: Path) -> None:
    configs = {"loogle_shortqa": {"task": "loogle_shortqa", "metadata": {"data_dir": "mine"}}}
    counts = {"loogle_shortqa": {"original": 20, "effective": 8}}
    write(
        tmp_path,
        "icl",
        {"loogle_shortqa": [1] * 8},
        rows(2, 4),
        model_args=ICL,
        configs=configs,
        **{"n-samples": counts},
    )
    comparison = compare(experiment(tmp_path, columns=[{**COLUMN, "task": "loogle_shortqa"}]))
    assert comparison.shortfalls == ("loogle_shortqa: 8 of 20 questions from custom files",)


# ----------------------------------------------------------------------------------------------------------- judges

JUDGED = {"label": "A", "task": "task", "metric": "judge_accuracy"}


def test_answers_that_nobody_judged_have_no_score(tmp_path: Path) -> None:
    write(tmp_path, "icl", [1, 0], rows(2, 1), model_args=ICL)
    comparison = compare(experiment(tmp_path, columns=[JUDGED]))
    assert cell(comparison, "ICL").status == "not judged"
    assert [run.row for run in comparison.missing] == ["LIFT"], "the run is there, only its verdicts are not"


def test_a_judge_that_did_not_finish_gives_no_score(tmp_path: Path) -> None:
    results = {"task": {"judge_accuracy,none": None, "judge_failed,none": 1}}
    write(tmp_path, "icl", [1, 0], rows(2, 1), model_args=ICL, metric="judge_accuracy", results=results)
    assert cell(compare(experiment(tmp_path, columns=[JUDGED])), "ICL").status == "not finished"


def test_another_metric_than_the_run_has_is_told(tmp_path: Path) -> None:
    write(tmp_path, "icl", [1, 0], rows(2, 1), model_args=ICL)
    comparison = compare(experiment(tmp_path, columns=[{**COLUMN, "metric": "token_f1"}]))
    assert cell(comparison, "ICL").status == "without token_f1"


def test_unclear_replies_of_the_judge_are_counted_aloud(tmp_path: Path) -> None:
    results = {"task": {"judge_accuracy,none": 0.5, "judge_unclear,none": 3}}
    write(tmp_path, "icl", [1, 0], rows(2, 1), model_args=ICL, metric="judge_accuracy", results=results)
    notes = cell(compare(experiment(tmp_path, columns=[JUDGED])), "ICL").notes
    assert notes == ("3 unclear judge replies, counted as wrong",)


# -------------------------------------------------------------------------------------------------------- baselines


def test_a_row_may_have_a_baseline_of_its_own(tmp_path: Path) -> None:
    data = rows(10, 1)
    four = [
        {"name": "ICL", "model_args": ICL},
        {"name": "LIFT", "model_args": LIFT},
        {"name": "other ICL", "model_args": {**ICL, "pretrained": "other"}},
        {"name": "other LIFT", "model_args": {**LIFT, "pretrained": "other"}, "baseline": "other ICL"},
    ]
    for number, row in enumerate(four):
        right = (2, 4, 7, 8)[number]
        write(tmp_path, str(number), [1] * right + [0] * (10 - right), data, model_args=row["model_args"])
    comparison = compare(experiment(tmp_path, rows=four))
    assert cell(comparison, "LIFT").difference == pytest.approx(20)
    assert cell(comparison, "other LIFT").difference == pytest.approx(10)
    assert math.isnan(cell(comparison, "other ICL").difference)


@pytest.mark.parametrize(
    ("fixed", "per_question", "questions"),
    [(10.0, 1.0, 10.0), (10.0, 3.0, math.inf), (0.0, 1.0, 0.0), (0.0, 3.0, math.inf), (-1.0, 3.0, 0.0)],
)
def test_a_method_without_preparation_that_answers_slower_never_breaks_even(fixed, per_question, questions):
    assert BreakEven("LIFT", "ICL", fixed, per_question, 0.0, 2.0, 6).questions == questions


def write_alternatives(folder: Path) -> Comparison:
    """A lifted document compared with reading it truncated or whole, and with retrieval."""
    spent: dict[str, dict[str, Any]] = {
        "none truncated": {"operations": {"answer": 4e9}, "stored_bytes": 100},
        "lora none": {"operations": {"synthesis": 1e9, "train": 5e9, "answer": 1e9}, "stored_bytes": 4000},
        "none full streaming": {"operations": {"answer": 8e9}, "stored_bytes": 100},
        "none full": {"operations": {"answer": 9e9}, "stored_bytes": 100},
        "none retrieved": {"operations": {"answer": 2e9}, "stored_bytes": 100},
    }
    alone = {"none full": 20e9, "lora none": 2e9}
    for name, costs in spent.items():
        adapter, document, *cache = name.split()
        decoding = {"cache": {"type": cache[0] if cache else "none"}}
        write_run(
            folder / name,
            {"task": [1, 1]},
            rows(1, 2),
            model_args={"recipe": name},
            recipe={
                "name": name,
                "adapter": {"type": adapter},
                "prompt": {"document": document},
                "decoding": decoding,
            },
            documents=[
                document_record(
                    "doc0",
                    questions=2,
                    prompt_tokens=10,
                    answer_tokens=4,
                    alone_operations=alone.get(name),
                    **costs,
                )
            ],
        )
    runs = read_runs([folder])
    experiment = infer_experiment(runs, "T", folder / "e.yaml")
    return compare(experiment, runs_of_rows(experiment, runs))


def test_costs_of_preparing_keeping_and_answering_stand_beside_each_other(tmp_path: Path) -> None:
    comparison = write_alternatives(tmp_path)
    lifted = method_costs(comparison)["lora none"]
    assert (lifted.preparation_operations, lifted.answer_operations, lifted.stored_bytes) == (6e9, 5e8, 4000)
    assert (lifted.prompt_tokens, lifted.answer_tokens) == (5, 2)
    found = {(one.row, one.baseline): one.questions for one in all_break_evens(comparison, "operations")}
    assert found["lora none", "none full"] == pytest.approx(6e9 / (4.5e9 - 0.5e9))
    assert found["lora none", "none retrieved"] == pytest.approx(6e9 / (1e9 - 0.5e9))
    assert found["none retrieved", "none full"] == 0
    assert ("lora none", "none full streaming") not in found, (
        "a compressed cache is not reading the whole text"
    )
    one_by_one = {(one.row, one.baseline): one.questions for one in all_break_evens(comparison, "alone")}
    assert one_by_one["lora none", "none full"] == pytest.approx(6e9 / (10e9 - 1e9))
    assert math.isnan(one_by_one["lora none", "none retrieved"]), "an older run does not say"


def test_questions_that_have_nothing_to_do_with_a_document_do_not_count_as_questions_about_it(
    tmp_path: Path,
) -> None:
    aside = {"requests": 8, "prompt_tokens": 80, "answer_tokens": 16, "seconds": 3.0, "operations": 6e9}
    recorded = document_record(
        "doc0",
        questions=2,
        prompt_tokens=280,
        answer_tokens=20,
        seconds={"synthesis": 0.0, "train": 2.0, "answer": 1.0},
        reused_seconds={"answer": 4.0},
        operations={"train": 5e9, "answer": 8e9},
        aside=aside,
    )
    write_run(tmp_path / "run", {"task": [1, 1]}, rows(1, 2), documents=[recorded])
    runs = read_runs([tmp_path])
    experiment = infer_experiment(runs, "T", tmp_path / "e.yaml")
    (cost,) = method_costs(compare(experiment, runs_of_rows(experiment, runs))).values()
    assert (cost.prompt_tokens, cost.answer_tokens) == (100, 2)
    assert (cost.answering, cost.answer_seconds, cost.answer_operations) == (2, 1, 1e9)
    assert cost.preparation_operations == 5e9


def test_nobody_knows_what_a_server_computed(tmp_path: Path) -> None:
    write_run(
        tmp_path / "run",
        {"task": [1]},
        rows(1, 1),
        recipe={"name": "v1", "auxiliary": {"strategy": "passages", "generator": "openai:large"}},
        documents=[document_record("doc0", operations={"train": 5e9, "answer": 1e9})],
    )
    runs = read_runs([tmp_path])
    experiment = infer_experiment(runs, "T", tmp_path / "e.yaml")
    (cost,) = method_costs(compare(experiment, runs_of_rows(experiment, runs))).values()
    assert math.isnan(cost.preparation_operations)
    assert cost.answer_operations == 1e9 / 5
