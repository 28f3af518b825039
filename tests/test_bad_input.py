"""What a person gets for a mistake on the command line: one clear line, exit status 2, no traceback.

The real command line of lm-eval runs in this process, with a small index of tasks; once it runs as a program.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lm_eval.tasks
import lm_eval.utils
import pytest
import torch
from lm_eval.__main__ import cli_evaluate
from transformers import (
    BertConfig,
    BertForMaskedLM,
    LlamaForSequenceClassification,
    RwkvConfig,
    RwkvForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from lift_eval import _autoload
from tests.tiny_models import save_checkpoint, tiny_config, tiny_model, tiny_tokenizer

ROW = {
    "doc_id": "d1", "id": "q1", "title": "Lamp", "context": "The lamp was lit by Ann at nine. " * 6,
    "question": "Who lit the lamp?", "answer": "Ann",
}  # fmt: skip
FAST = {
    "recipe": "lora", "adapter.rank": 2, "training.context_epochs": 1, "training.segment_tokens": 64,
    "training.stride_tokens": 48,
}  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("llama"))


@pytest.fixture
def evaluate(tmp_path, monkeypatch, checkpoint, capsys) -> Callable[..., tuple[int, str]]:
    """Run ``lm_eval run --model lift``; return the exit status and the last line of the error stream."""
    (tmp_path / "index").mkdir()
    monkeypatch.setattr(lm_eval.tasks.manager, "__file__", str(tmp_path / "index" / "manager.py"))
    monkeypatch.setenv("LIFT_EVAL_STORE", str(tmp_path / "store"))
    monkeypatch.setattr(lm_eval.utils, "_LOGGING_CONFIGURED", True)  # its log would keep the captured stream
    _autoload.register()

    def evaluate(
        *options: str, rows: Any = (ROW,), data: Path | None = None, **arguments: object
    ) -> tuple[int, str]:
        folder = data or tmp_path / "data"
        if data is None:
            folder.mkdir(exist_ok=True)
            lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
            (folder / "shortdep_qa.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        dotted = {key.replace("__", "."): value for key, value in arguments.items()}
        given = {"pretrained": checkpoint, "store": "off", **FAST, **dotted}
        monkeypatch.setattr(sys, "argv", [
            "lm_eval", "run", "--model", "lift", "--tasks", "loogle_shortqa", "--gen_kwargs", "max_gen_toks=4",
            "--metadata", json.dumps({"data_dir": str(folder)}),
            "--model_args", *(f"{key}={value}" for key, value in given.items() if value is not None), *options,
        ])  # fmt: skip
        status = 0
        try:
            cli_evaluate()
        except SystemExit as end:
            status = int(end.code or 0)
        error = capsys.readouterr().err
        assert "Traceback" not in error
        return status, error.strip().splitlines()[-1] if error.strip() else ""

    return evaluate


def test_good_input_ends_with_status_0(evaluate):
    status, _ = evaluate("--device", "cpu")
    assert status == 0


def test_a_document_shorter_than_a_segment_is_good_input(evaluate):
    status, _ = evaluate(
        "--device", "cpu", rows=[{**ROW, "context": "Ann lit it."}], training__segment_tokens=2048
    )
    assert status == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"recipe": "lroa"}, "recipe 'lroa': no shipped recipe has this name; did you mean 'lora'?"),
        ({"recipe": "mine.yaml"}, "recipe 'mine.yaml': the file does not exist"),
        ({"training__learning_rat": 1}, "unknown key 'training.learning_rat' (value 1); did you mean 'training.learn"),
        ({"pretraind": "x"}, "unknown argument 'pretraind' (value 'x'); did you mean 'pretrained'?"),
        ({"training__context_epochs": "many"}, "'training.context_epochs' must be a valid integer, got 'many'"),
        ({"training__learning_rate": -1}, "'training.learning_rate' must be greater than 0, got -1"),
        ({"training__stride_tokens": 65}, "'training.stride_tokens' must not exceed 'training.segment_tokens' (64)"),
        ({"pretrained": "/no/such/folder"}, "pretrained='/no/such/folder' is not a folder; give the folder of"),
        ({"training__segment_tokens": 20000}, "must fit the model's window of 16384; set a smaller training."),
        ({"max_length": "abc"}, "'max_length' must be a valid integer, got 'abc'"),
        ({"max_length": 99999}, "'max_length' must be at most the model's 16384 positions, got 99999"),
        ({"softmax_dtype": "floatxx"}, "'softmax_dtype' must be 'float64', 'float32', 'bfloat16' or 'float16'"),
        ({"batch_size": 4}, "'batch_size' is a flag of lm-eval; write --batch_size 4"),
        ({"max_length": 100}, "task 'loogle_shortqa', row 0: the prompt without its document has"),
        ({"document_field": "body"}, "task 'loogle_shortqa', row 0: document_field='body' must name a text field"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)  # fmt: skip
def test_a_wrong_argument_is_told_in_one_line(evaluate, arguments, told):
    status, line = evaluate("--device", "cpu", **arguments)
    assert (status, line.startswith("lift_eval: error: ")) == (2, True)
    assert told in line


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--batch_size", "xyz"], "'batch_size' must be a positive integer, auto or auto:N, got 'xyz'"),
        (["--seed", "12345678901234567890123"], "--seed must be from 0 to 4294967295"),
        (["--gen_kwargs", 'stop=["a"]'], "--gen_kwargs: 'stop' cannot be set: use until"),
        (["--gen_kwargs", "do_sample=true,temperature=0"], "'do_sample: true' needs a 'temperature' above 0"),
        (["--apply_chat_template"], "--apply_chat_template needs a chat template, and the tokenizer of"),
        (["--cache_requests"], "--cache_requests would reuse a task's prompts"),
        (["--limit", "-3"], "--limit must be more than 0, got -3"),
        (["--tasks", "nosuch"], "Tasks not found: nosuch"),
        (["--log_samples"], "Specify --output_path"),
        (["--samples", "nofile.json"], "--samples must be a JSON object of task names and rows"),
        (["--samples", '{"loogle_shortqa": [99]}'], "Elements of --samples should be in the interval"),
        (["--metadata", "{bad"], "Invalid JSON: {bad"),
        (["--config", "/no/such.yaml"], "Config file not found: /no/such.yaml"),
        (["--output_path", f"{__file__}/x"], "cannot be written to (Not a directory); name another folder"),
    ],
    ids=lambda value: "-".join(value).strip("-") if isinstance(value, list) else "",
)
def test_a_wrong_flag_is_told_in_one_line(evaluate, options, told):
    status, line = evaluate("--device", "cpu", *options)
    assert (status, line.startswith("lift_eval: error: ")) == (2, True)
    assert told in line


def _bert(folder: Path) -> None:
    config = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    BertForMaskedLM(config).save_pretrained(folder)


def _t5(folder: Path) -> None:
    config = T5Config(d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0)
    T5ForConditionalGeneration(config).save_pretrained(folder)


def _classifier(folder: Path) -> None:
    LlamaForSequenceClassification(tiny_config("llama")).save_pretrained(folder)


def _cut_off(folder: Path) -> None:
    weights = save_checkpoint(folder) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])


def _damaged(folder: Path) -> None:
    model = tiny_model()
    with torch.no_grad():
        model.lm_head.weight[5, 5] = float("nan")
    model.save_pretrained(folder)


def _recurrent(folder: Path) -> None:
    RwkvForCausalLM(RwkvConfig(vocab_size=264, hidden_size=16, num_hidden_layers=2)).save_pretrained(folder)


@pytest.mark.parametrize(
    ("save", "told"),
    [
        (_cut_off, "a file of weights is truncated or damaged: download it again"),
        (
            _damaged,
            "every weight of LlamaForCausalLM must be finite, but lm_head.weight holds NaN or infinity",
        ),
        (_recurrent, "the model must take an attention mask, or padding would change its answers"),
        (_bert, "must be a causal language model, its configuration says 'bert' (BertForMaskedLM)"),
        (_t5, "must be a causal language model, its configuration says 't5'"),
        (
            _classifier,
            "must hold every weight of LlamaForCausalLM, but 1 are missing (such as lm_head.weight)",
        ),
        (lambda _: None, "has no readable config.json"),
    ],
    ids=["cut off", "NaN", "recurrent", "encoder", "encoder and decoder", "classifier", "no checkpoint"],
)
def test_a_checkpoint_that_cannot_be_used(evaluate, tmp_path, save, told):
    save(tmp_path / "other")
    (tmp_path / "other").mkdir(exist_ok=True)
    tiny_tokenizer().save_pretrained(tmp_path / "other")
    status, line = evaluate("--device", "cpu", pretrained=tmp_path / "other")
    assert (status, told in line) == (2, True), line


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([ROW, '{"doc_id": '], "shortdep_qa.jsonl, line 2: not JSON ("),
        ([ROW, {**ROW, "id": "q2", "question": None}], "line 2: "),
        ([{key: value for key, value in ROW.items() if key != "question"}], "question"),
        ([{key: value for key, value in ROW.items() if key != "context"}], "context"),
        ([{**ROW, "context": " "}], "context"),
        ([{"input": ROW["context"], "title": "Lamp", "qa_pairs": "[{'Q': __import__('os')}]"}],
         "line 1: 'qa_pairs' is neither JSON nor a Python literal"),
        ([], "has no rows"),
    ],
    ids=["not JSON", "no question", "question missing", "document missing", "empty document", "literal", "empty"],
)  # fmt: skip
def test_a_wrong_row_is_told_by_file_and_line(evaluate, rows, told):
    status, line = evaluate("--device", "cpu", rows=rows)
    assert (status, told in line) == (2, True), line


def test_a_data_folder_without_the_file_says_what_it_holds(evaluate, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "other.jsonl").touch()
    status, line = evaluate("--device", "cpu", data=tmp_path / "empty")
    assert status == 2
    assert "holds no shortdep_qa.jsonl" in line
    assert "it holds other.jsonl" in line


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (json.dumps({"context": "x", "title": "", "question": "Why?"}) + "\n",
         "task 'mine', row 0: document 'x' has fewer than two tokens"),
        ("", "the data of task 'mine' cannot be read ("),
        ('{"context": \n', "the data of task 'mine' cannot be read ("),
    ],
    ids=["one token", "empty", "not JSON"],
)  # fmt: skip
def test_rows_of_a_task_of_the_user_s_own(evaluate, tmp_path, rows, told):
    """LooGLE's documents have a title, and its files a reader of ours."""
    (tmp_path / "rows.jsonl").write_text(rows)
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "mine.yaml").write_text(
        json.dumps(
            {
                "task": "mine", "dataset_path": "json", "test_split": "test", "output_type": "generate_until",
                "dataset_kwargs": {
                    "data_files": {"test": str(tmp_path / "rows.jsonl")}, "cache_dir": str(tmp_path / "cache"),
                },
                "doc_to_text": "{{context}} {{question}}", "doc_to_target": "x",
            }
        )
    )  # fmt: skip
    status, line = evaluate("--device", "cpu", "--tasks", "mine", "--include_path", str(tmp_path / "tasks"))
    assert (status, told in line) == (2, True), line


@pytest.mark.parametrize("limit", ["0", "0.0"])
def test_a_limit_of_no_rows(evaluate, limit):
    status, line = evaluate("--device", "cpu", "--limit", limit)
    assert (status, "--limit must be more than 0" in line) == (2, True), line


@pytest.mark.parametrize("device", ["cuda", "cuda:3", "mps", "meta", "hpu", "warp"])
def test_a_device_that_is_not_there(evaluate, device, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    status, line = evaluate("--device", device)
    assert (status, f"device='{device}' is " in line) == (2, True), line


@pytest.mark.parametrize("options", [["--tasks", "nosuch"], ["--tasks", "x", "--metadata", "{bad"]])
def test_errors_of_lm_eval_with_another_model_are_left_alone(monkeypatch, tmp_path, options):
    _autoload.register()
    monkeypatch.setattr(
        lm_eval.tasks.manager, "__file__", str(tmp_path / "manager.py")
    )  # a small index of tasks
    monkeypatch.setattr(sys, "argv", ["lm_eval", "run", "--model", "dummy", *options])
    with pytest.raises(ValueError, match=r"Tasks not found|Invalid JSON"):
        cli_evaluate()


def test_several_mistakes_are_told_together(evaluate):
    status, line = evaluate(
        training__learning_rat=1, adapter__rank=0, recip="x", pretrained="/no/such/folder"
    )
    assert status == 2
    assert "(3 faults)" in line


def test_the_program_says_the_same(checkpoint, tmp_path):
    start = f"""
        import runpy, sys
        import lm_eval.tasks.manager
        lm_eval.tasks.manager.__file__ = {str(tmp_path / "manager.py")!r}  # a small index of tasks
        sys.argv[1:] = ["--model", "lift", "--tasks", "loogle_shortqa", "--model_args",
                        "pretrained={checkpoint},training.learning_rat=1"]
        runpy.run_module("lm_eval", run_name="__main__")
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(start)],
        capture_output=True, text=True, timeout=300, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert ran.returncode == 2
    assert "Traceback" not in ran.stderr
    assert ran.stderr.splitlines()[-1].startswith(
        "lift_eval: error: recipe 'lora': unknown key 'training.learning_rat'"
    )
