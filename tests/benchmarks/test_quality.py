from __future__ import annotations

from pathlib import Path
from typing import Any

import lm_eval
import pytest

from lift_eval.benchmarks import quality
from lift_eval.benchmarks.data import Line
from lift_eval.errors import DocumentError
from tests.benchmarks.harness import CHOICES, DOCUMENT, RECIPE, manager, quality_row


def rows(**question: object) -> list[dict[str, Any]]:
    return list(quality.read_rows([Line("f, line 1", quality_row(**question))]))


def test_an_article_gives_a_row_for_each_question() -> None:
    easy, difficult = rows()
    assert easy["context"] == difficult["context"] == DOCUMENT
    assert easy["options"] == "A. Lyon\nB. Oran\nC. Nice\nD. Brest"
    assert (quality.letter(easy), easy["gold"]) == ("B", 1)
    assert (easy["difficult"], difficult["difficult"]) == (False, True)
    assert easy["id"] != difficult["id"]


@pytest.mark.parametrize(
    ("reply", "right", "readable"),
    [(" B", 1, 1), ("(B) Oran", 1, 1), ("Oran.", 1, 1), ("A", 0, 1), ("no", 0, 0)],
)
def test_a_written_choice(reply: str, right: float, readable: float) -> None:
    easy, difficult = rows()
    scores = quality.score_letter(easy, [reply])
    assert (scores["acc"], scores["readable"]) == (right, readable)
    assert "acc_difficult" not in scores
    assert quality.score_letter(difficult, [reply])["acc_difficult"] == right


def test_the_likeliest_choice_as_it_is_and_for_its_length() -> None:
    _, difficult = rows(options=["Lyon", "Oran, in the north-west", "Nice", "Brest"])
    scores = quality.score_likelihoods(
        difficult, [(-4.0, False), (-6.0, False), (-5.0, False), (-9.0, False)]
    )
    assert (scores["acc"], scores["acc_difficult"], scores["acc_norm"]) == (0, 0, 1)


@pytest.mark.parametrize("question", [{"gold_label": None}, {"gold_label": 5}, {"options": ["Oran"]}])
def test_a_question_without_its_answer_is_one_clear_error(question: dict[str, Any]) -> None:
    with pytest.raises(DocumentError, match="must have 4 options and a 'gold_label' of 1 to 4, got"):
        rows(**question)


def test_without_a_folder_the_error_names_the_file() -> None:
    with pytest.raises(DocumentError, match="is read from a folder that holds QuALITY"):
        quality.load(prompts={"quality": "{context}"})


def test_both_ways_of_asking_train_the_article_once(data_dir: Path, checkpoint: str) -> None:
    done = lm_eval.simple_evaluate(
        model="lift",
        model_args={"pretrained": checkpoint, **RECIPE},
        tasks=["quality_generate", *CHOICES],
        task_manager=manager(data_dir=str(data_dir)),
        device="cpu",
        bootstrap_iters=0,
    )
    assert done is not None
    for task in ("quality_generate", *CHOICES):
        assert done["results"][task]["documents,none"] == 1
        assert 0 <= done["results"][task]["acc_difficult,none"] <= 1
    totals = done["config"]["lift"]["totals"]
    assert (totals["documents"], totals["questions_without_document"], totals["failed_documents"]) == (
        1,
        0,
        0,
    )
