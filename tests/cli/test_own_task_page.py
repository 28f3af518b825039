"""The files of docs/own_documents.md, run as they stand there."""

from __future__ import annotations

from pathlib import Path

import pytest

from lift_eval.cli import main
from tests.pages import files_of, page

PAGE = page("own_documents.md")
FILES = files_of(PAGE)


@pytest.mark.usefixtures("_runs_in_this_process")
def test_the_pages_own_task_runs_word_for_word_and_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert FILES.keys() == {"rows.jsonl", "my_task.yaml", "experiment.yaml"}
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    assert main(["run", "experiment.yaml"]) == 0
    table = "Method" + capsys.readouterr().out.partition("Method")[2]
    assert "exact match" in table
    assert table.partition("\n\n")[0] in PAGE
    assert main(["run", "experiment.yaml"]) == 0
    said = capsys.readouterr().out
    assert "run 1" not in said
    assert table in said
