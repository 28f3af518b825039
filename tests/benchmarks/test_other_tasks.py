"""Tasks that lm-eval ships, fed with local rows: ``--model lift`` finds the document of each by itself."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import lm_eval
import pytest
import yaml
from lm_eval.tasks import TaskManager

from lift_eval.document import find_document, find_question
from lift_eval.prompts.prompt import Prompt
from tests.benchmarks.harness import RECIPE

BUILT_IN = Path(lm_eval.__file__).parent / "tasks"
DOCUMENTS = [
    " ".join(f"In {year} {name} moved to the town of number {year % 7}." for year in range(1900, 1912))
    for name in ("Ada", "Bela")
]


@pytest.fixture(autouse=True)
def _without_what_local_rows_do_not_need(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tasks import, beside what they use here, word segmentation, fuzzy matching and the maker of RULER's rows."""
    names = {
        "jieba": (),
        "fuzzywuzzy": ("fuzz",),
        "lm_eval.tasks.ruler.prepare_niah": ("generate_samples", "get_haystack"),
    }
    for name, attributes in names.items():
        module = ModuleType(name)
        module.__dict__.update(dict.fromkeys(attributes))
        monkeypatch.setitem(sys.modules, name, module)


def rows(**of_each: Any) -> list[dict[str, Any]]:
    """Two rows about each document; ``{document}`` in a value stands for it."""

    def fill(value: Any, document: str) -> Any:
        return value.replace("{document}", document) if isinstance(value, str) else value

    return [
        {name: fill(value, document) for name, value in of_each.items()} | {"id": f"{number}-{time}"}
        for number, document in enumerate(DOCUMENTS)
        for time in range(2)
    ]


def run(
    file: str, split: str, data: list[dict[str, Any]], tmp_path: Path, checkpoint: str, **recipe: Any
) -> Any:
    """Run a task file that lm-eval ships on rows of our own, through the model class."""
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in data))
    local = {
        "include": str(BUILT_IN / file),
        "custom_dataset": None,
        "dataset_path": "json",
        "dataset_name": None,
        "training_split": None,
        "dataset_kwargs": {"data_files": {split: str(source)}, "cache_dir": str(tmp_path / "cache")},
    }
    task_file = tmp_path / "local.yaml"
    task_file.write_text(yaml.safe_dump(local))
    done = lm_eval.simple_evaluate(
        model="lift",
        model_args={"pretrained": checkpoint, **RECIPE, **recipe},
        tasks=[str(task_file)],
        task_manager=TaskManager(include_defaults=False),
        device="cpu",
        log_samples=True,
        bootstrap_iters=0,
    )
    assert done is not None
    return done


def assert_each_document_was_trained_once(done: Any) -> None:
    totals = done["config"]["lift"]["totals"]
    assert totals["documents"] == len(DOCUMENTS)
    assert totals["questions_without_document"] == 0
    assert totals["failed_documents"] == 0
    assert all(document["losses"] for document in done["config"]["lift"]["documents"])


def test_longbench(tmp_path: Path, checkpoint: str) -> None:
    data = rows(context="{document}", question="Where was Ada in 1903?", answers=["6"])
    done = run("longbench/hotpotqa.yaml", "test", data, tmp_path, checkpoint)
    assert_each_document_was_trained_once(done)
    assert "qa_f1_score,none" in done["results"]["longbench_hotpotqa"]


def test_ruler(tmp_path: Path, checkpoint: str) -> None:
    template = "Memorize the moves.\n{document}\nQuestion: where?"
    data = rows(input=template, outputs=["6"], gen_prefix="Answer:", max_length=4096)
    done = run("ruler/vt.yaml", "test", data, tmp_path, checkpoint)
    assert_each_document_was_trained_once(done)
    assert done["results"]["ruler_vt"]["4096,none"] >= 0


def test_babilong(tmp_path: Path, checkpoint: str) -> None:
    data = rows(input="{document}", question="Where is Ada? ", target="town")
    done = run("babilong/babilong_qa1.yaml", "qa1", data, tmp_path, checkpoint)
    assert_each_document_was_trained_once(done)
    assert "acc,none" in done["results"]["babilong_qa1"]


def test_multiple_choice_by_log_likelihood(tmp_path: Path, checkpoint: str) -> None:
    data = rows(context="{document}", question="Where?", choices=["1", "2", "3", "4"], answer="B")
    done = run("longbench2/graph.yaml", "train", data, tmp_path, checkpoint)
    assert_each_document_was_trained_once(done)
    assert 0 <= done["results"]["longbench2_graph"]["acc,none"] <= 1


def test_many_questions_on_one_passage(tmp_path: Path, checkpoint: str) -> None:
    answer = {"number": "6", "date": {"day": "", "month": "", "year": ""}, "spans": []}
    none: dict[str, list[Any]] = {"number": [], "date": [], "spans": []}
    data = rows(passage="{document}", query_id="q", question="Where?", answer=answer, validated_answers=none)
    done = run("drop/default.yaml", "validation", data, tmp_path, checkpoint)
    assert_each_document_was_trained_once(done)
    assert 0 <= done["results"]["drop"]["f1,none"] <= 1


RULER_QUESTION = "Question: where?"
RULER = {
    "input": f"Memorize the moves.\n{{document}}\n{RULER_QUESTION}",
    "outputs": ["6"],
    "gen_prefix": "Answer:",
    "max_length": 4096,
}
APART: dict[str, tuple[str, str, dict[str, Any]]] = {
    "longbench2": (
        "longbench2/graph.yaml",
        "train",
        {"context": "{document}", "question": "Where?", "choices": ["1", "2", "3", "4"], "answer": "B"},
    ),
    "ruler": ("ruler/vt.yaml", "test", RULER),
    "babilong": (
        "babilong/babilong_qa1.yaml",
        "qa1",
        {"input": "{document}", "question": "Where is Ada? ", "target": "town"},
    ),
}


@pytest.mark.parametrize("task", APART)
def test_methods_that_need_the_document_apart_take_it_out_of_the_prompt(
    task: str, tmp_path: Path, checkpoint: str
) -> None:
    """A closed book leaves nothing of the document in the prompt: its place in the prompt is known."""
    file, split, columns = APART[task]
    done = run(file, split, rows(**columns), tmp_path, checkpoint, **{"prompt.document": "none"})
    assert_each_document_was_trained_once(done)
    assert done["config"]["lift"]["totals"]["questions_not_located"] == 0
    asked = len(columns.get("question", RULER_QUESTION))
    for document in done["config"]["lift"]["documents"]:
        assert document["kept"] == 0
        assert asked < document["prompt_tokens"] / document["questions"], "the question is still asked"


@pytest.mark.parametrize("task", APART)
def test_passages_are_retrieved_for_the_question_of_each(task: str, tmp_path: Path, checkpoint: str) -> None:
    file, split, columns = APART[task]
    retrieved = {"prompt.document": "retrieved", "prompt.passages": 1, "prompt.passage_tokens": 100}
    done = run(file, split, rows(**columns), tmp_path, checkpoint, **retrieved)
    assert_each_document_was_trained_once(done)
    for document in done["config"]["lift"]["documents"]:
        assert 0 < document["kept"] < 0.5


@pytest.mark.parametrize("task", ["vt", "fwe", "qa", "niah"])
def test_rulers_own_prompts_fall_apart_into_document_and_question(task: str) -> None:
    module = importlib.import_module(f"lm_eval.tasks.ruler.{task}_utils")
    template = getattr(module, "TEMPLATE", None) or module.CONFIG["template"]
    slots = {"query": "12345", "num_v": 3, "type_needle_v": "numbers"}
    asked, prefix = template.format(context=DOCUMENTS[0], **slots), "Answer:"
    for answer in (" Answer:", " According to"):
        asked = asked.partition(answer)[0].strip()
    row = {"input": asked, "gen_prefix": prefix, "outputs": ["6"]}
    prompt = f"{asked} {prefix}"
    document = find_document(row, prompt)
    assert document is not None
    assert DOCUMENTS[0] in document.text
    closed_book = Prompt.around(prompt, document).without_document().text
    question = find_question(row, closed_book)
    assert question != ""
    assert question in closed_book
    assert question not in document.text
    assert "?" in question or "12345" in question
