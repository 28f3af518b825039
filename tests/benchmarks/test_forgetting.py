"""The unrelated questions: short, different, answerable without any document, and asked once each."""

from __future__ import annotations

from collections import Counter
from typing import get_args

import lm_eval

from lift_eval.benchmarks import forgetting
from lift_eval.benchmarks.forgetting import read_questions
from lift_eval.benchmarks.metrics.squad import normalize
from lift_eval.benchmarks.original_documents import Split, read_originals
from tests.benchmarks.harness import manager
from tests.benchmarks.test_original_documents import holds

QUESTIONS = read_questions()
PROMPTS = {"unrelated": "Question: {question}\nAnswer:"}


def test_there_are_two_hundred_different_questions_of_six_kinds() -> None:
    assert len({normalize(asked.question) for asked in QUESTIONS}) == len(QUESTIONS) == 200
    assert len(Counter(asked.kind for asked in QUESTIONS)) == 6
    assert min(Counter(asked.kind for asked in QUESTIONS).values()) >= 20


def test_answers_are_short_and_their_questions_do_not_hold_them() -> None:
    for asked in QUESTIONS:
        assert asked.question[-1] in "?", asked.question
        assert asked.answers
        for answer in asked.answers:
            assert normalize(answer), asked.question
            assert len(answer.split()) <= 4, answer
            assert asked.kind == "reasoning" or not holds(asked.question, answer), (asked.question, answer)


def test_no_document_is_about_them() -> None:
    texts = [original.text for split in get_args(Split) for _, original in read_originals(split)]
    for asked in QUESTIONS:
        assert not any(asked.question in text for text in texts)


def test_each_question_is_asked_once_of_some_document_and_without_it() -> None:
    rows = forgetting.load(prompts=PROMPTS)["test"]
    assert sorted(rows["question"]) == sorted(asked.question for asked in QUESTIONS)
    assert len(set(rows["doc_id"])) == 6
    assert max(Counter(rows["doc_id"]).values()) - min(Counter(rows["doc_id"]).values()) <= 1
    few = forgetting.load(prompts=PROMPTS, split="development", documents=2, max_questions=3)["test"]
    assert Counter(few["doc_id"]).total() == 6


def test_their_costs_stand_apart_from_those_of_questions_about_the_document(checkpoint: str) -> None:
    done = lm_eval.simple_evaluate(
        model="lift",
        model_args={"pretrained": checkpoint, "recipe": "icl", "store": "off", "prompt.max_tokens": 12000},
        tasks=["lift_originals", "lift_forgetting"],
        task_manager=manager(documents=1, max_questions=3),
        device="cpu",
        bootstrap_iters=0,
    )
    assert done is not None
    totals, (document,) = (done["config"]["lift"][name] for name in ("totals", "documents"))
    aside = document["aside"]
    assert (document["questions"], aside["requests"]) == (3, 3)
    assert (totals["questions"], totals["aside_requests"]) == (3, 3)
    assert document["kept"] > 0.4, "prompts that are to hold nothing of the document do not count"
    assert aside["prompt_tokens"] < 0.1 * document["prompt_tokens"]
    assert 0 < aside["answer_tokens"] < document["answer_tokens"]
    assert 0 < aside["seconds"] < document["seconds"]["answer"]
    assert 0 < aside["operations"] < document["operations"]["answer"]
    about_it = document["operations"]["answer"] - aside["operations"]
    assert 2 < document["alone_operations"] / about_it < 3, "three prompts share the document"
