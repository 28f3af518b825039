"""The notebook of the documentation runs, and shows what a reader will see."""

from __future__ import annotations

import ast

import nbformat
from nbclient import NotebookClient

from lift_eval.models.fetch import fetchable_models
from tests.conftest import ROOT

NOTEBOOK = ROOT / "docs" / "notebooks" / "quickstart.ipynb"
ANSWERS = ["1842", "Kirmoor"]


def results(notebook: nbformat.NotebookNode) -> list[object]:
    """The values of the cells that end in one."""
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return [
        ast.literal_eval(output.data["text/plain"])
        for output in shown
        if output.output_type == "execute_result"
    ]


def test_the_notebook_runs_and_gives_what_it_shows() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    shown = results(notebook)
    ran = results(NotebookClient(notebook, timeout=300, kernel_name="python3").execute(cwd=str(ROOT)))
    exported = ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    assert shown[:3] == ran[:3] == [ANSWERS, ANSWERS, exported]
    if fetchable_models()["smollm2"].is_whole:
        assert str(ran[3]).startswith("Otto Larkley in 1842")
