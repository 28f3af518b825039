"""Fixtures of the benchmarks' tests."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lift_eval.results.full_sizes import LOOGLE_TYPES
from tests.benchmarks.harness import DOCUMENT, NEW_TOKENS, loogle_v2_row, quality_row
from tests.judging.judge_server import JudgeServer
from tests.tiny_models import save_checkpoint


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[JudgeServer]:
    with JudgeServer() as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{running.server_port}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "secret-key")
        monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
        monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.02)
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small files of the official forms: two questions about each of two documents."""
    folder = tmp_path_factory.mktemp("data")

    def write(name: str, rows: list[dict[str, Any]]) -> None:
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def loogle(name: str, answers: list[Any], **extra: list[str]) -> None:
        rows = []
        for number, answer in enumerate(answers):
            title = f"Ada {number // 2}"
            row = {"doc_id": title, "id": number, "title": title, "context": f"{title}. {DOCUMENT}"}
            row |= {"question": f"What about {number}?", "answer": answer}
            rows.append(row | {column: values[number] for column, values in extra.items()})
        write(name, rows)

    write("quality.jsonl", [quality_row()])
    (folder / "loogle_v2").mkdir()
    write("loogle_v2/test.jsonl", [loogle_v2_row(source) for source in ("Code", "Finance", "Game", "Law")])
    loogle("shortdep_qa.jsonl", ["Oran", "Lyon", "a yard", "1901"])
    loogle("longdep_qa.jsonl", ["Oran", "Lyon", "2", "2,1"], type=list(LOOGLE_TYPES))
    loogle("shortdep_cloze.jsonl", [{"<mask-0>": "Ada"}, {"<mask-0>": "Oran", "<mask-1>": "Lyon"}])
    loogle("summarization.jsonl", ["Ada founded a yard."])
    asked = [
        {"id": str(n), "question": "Where?", "answers": [{"text": "Oran", "answer_start": 16}]}
        for n in (1, 2)
    ]
    article = {"title": "Ada", "paragraphs": [{"context": DOCUMENT, "qas": asked}]}
    (folder / "dev-v1.1.json").write_text(json.dumps({"data": [article]}), encoding="utf-8")
    for name in NEW_TOKENS:
        if name.startswith("lift_longbench_"):
            subtask = name.removeprefix("lift_longbench_")
            row = {"input": "Where?", "context": DOCUMENT, "answers": ["Paragraph 3"], "dataset": subtask}
            row |= {"all_classes": ["Paragraph 3"], "length": 9, "language": "en"}
            write(f"{subtask}.jsonl", [{**row, "_id": "1"}, {**row, "_id": "2", "length": 8000}])
    return folder


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_checkpoint(tmp_path_factory.mktemp("model")))
