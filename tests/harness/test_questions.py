"""Questions of a task about one of its documents, without a model."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from lm_eval.api.task import Task

from lift_eval.errors import DocumentError, RecipeError
from lift_eval.harness.questions import ask, choose_document, load_task, prompt_styles
from lift_eval.prompts.prompt import PromptEncoder
from lift_eval.recipe import load_recipe
from tests.benchmarks.harness import NEW_TOKENS, manager
from tests.tiny_models import CHAT_TEMPLATE, tiny_tokenizer

SYSTEM = "You are a helpful assistant."


def task(name: str = "lift_tiny_shortqa") -> Task:
    return load_task(name, manager(documents=2, words=200))


def encoder(recipe: str, **prompt: object) -> PromptEncoder:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE
    return PromptEncoder(tokenizer, load_recipe(recipe, {"prompt": prompt}).prompt, sys.maxsize)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("lift_tiny_shortq", "lm-eval has no task of this name; did you mean 'lift_tiny_shortqa'?"),
        ("lift_tiny", "it is a group of tasks; name one of them"),
    ],
)
def test_a_task_must_be_one(name: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said.replace("?", "[?]")):
        task(name)


def test_documents_are_counted_in_the_order_of_the_data() -> None:
    chosen = task()
    first, second = (choose_document(chosen, number) for number in range(2))
    assert first[1] + second[1] == list(range(len(chosen.eval_docs)))
    assert first[0].text == chosen.eval_docs[0]["context"]
    with pytest.raises(DocumentError, match="the task has 2 documents, counted from 0, got 2"):
        choose_document(chosen, 2)


def test_a_question_is_asked_in_the_tasks_prompt_and_with_its_new_tokens() -> None:
    chosen = task()
    document, rows = choose_document(chosen, 1)
    asked = ask(chosen, document, rows, encoder("icl", chat_template=False))
    assert len(asked) == len(rows)
    for row, question in zip(rows, asked, strict=True):
        assert question.prompt.text == chosen.doc_to_text(chosen.eval_docs[row])
        assert [question.prompt.text[slice(*place)] for place in question.prompt.places] == [document.text]
        assert question.new_tokens == NEW_TOKENS["lift_tiny_shortqa"]


def test_the_recipes_chat_template_and_system_message_are_those_of_a_run() -> None:
    chosen = task()
    document, rows = choose_document(chosen, 0)
    plain, *_ = ask(chosen, document, rows, encoder("icl", chat_template=False))
    chat, *_ = ask(chosen, document, rows, encoder("longbench_icl"))
    assert chat.prompt.text == (
        f"<bos><|start|>system\n{SYSTEM}<|end|>\n<|start|>user\n{plain.prompt.text}<|end|>\n<|start|>assistant\n"
    )


@pytest.mark.parametrize("number", [0, 1])
def test_a_recipe_of_the_wrong_document_shows_the_tasks_next_one(number: int) -> None:
    chosen = task()
    document, rows = choose_document(chosen, number)
    other, _ = choose_document(chosen, 1 - number)
    (asked, *_) = ask(chosen, document, rows, encoder("icl", document="wrong", max_tokens=10**6, bos=False))
    assert tiny_tokenizer().decode(asked.ids) == asked.prompt.with_document(other.text).text


def test_passages_are_retrieved_for_the_rows_question() -> None:
    chosen = task()
    document, rows = choose_document(chosen, 0)
    asked = ask(chosen, document, rows, encoder("rag"))
    assert [question.prompt.query for question in asked] == [
        chosen.eval_docs[row]["question"] for row in rows
    ]


def test_a_recipe_without_the_document_asks_closed_book() -> None:
    chosen = task()
    document, rows = choose_document(chosen, 0)
    asked = ask(chosen, document, rows, encoder("icl", document="none"))
    assert all(document.text not in question.prompt.text for question in asked)


def test_prompt_styles_are_those_of_the_task() -> None:
    assert list(prompt_styles(task())) == ["tiny", "closed_book"]


def test_longbench_s_official_style_is_cut_as_the_official_code_cuts(tmp_path: Path) -> None:
    row = {
        "_id": "0", "dataset": "musique", "input": "Who?", "context": "It rained. " * 100, "answers": ["Ada"],
        "length": 1, "language": "en", "all_classes": None,
    }  # fmt: skip
    (tmp_path / "musique.jsonl").write_text(json.dumps(row))
    tool = PromptEncoder(tiny_tokenizer(), load_recipe("icl").prompt, 1032)
    for style, cut in (("lift_v1", True), ("longbench", False)):
        chosen = load_task("lift_longbench_musique", manager(data_dir=str(tmp_path), prompt_style=style))
        (asked,) = ask(chosen, *choose_document(chosen, 0), tool)
        assert len(asked.ids) == 1000  # 32 new tokens
        assert ("..." in tiny_tokenizer().decode(asked.ids)) == cut
