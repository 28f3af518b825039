from __future__ import annotations

import contextlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lift_eval.benchmarks import data
from lift_eval.benchmarks.niah import NiahOptions
from lift_eval.errors import DocumentError, RecipeError
from lift_eval.files import cache_folder


def lines(content: bytes) -> list[data.Line]:
    return list(data.parse_jsonl(io.BytesIO(content), "rows.jsonl"))


# ------------------------------------------------------------------------------------------------------- JSON lines


def test_lines_know_where_they_stand() -> None:
    rows = lines(b'\xef\xbb\xbf{"a": "1"}\n\n  \n{"a": "\xe2\x80\xa8"}\r\n')
    assert [(row.where, row.fields["a"]) for row in rows] == [
        ("rows.jsonl, line 1", "1"),
        ("rows.jsonl, line 4", "\u2028"),  # a line separator inside a text ends no line
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1}\n{"a": }\n', r"rows.jsonl, line 2: not JSON \(Expecting value at column 7\)"),
        (
            b'{"a": 1}\n{"a": "\xe9t\xe9"}\n',
            r"line 2: not UTF-8 \(byte 0xe9 at column 8\); save the file as UTF-8",
        ),
        (b'{"a": 1}\n["a"]\n', r"line 2: must be a JSON object, got a list"),
        (b"null\n", r"line 1: must be a JSON object, got null"),
        (b'{"a": "cut o', r"line 1: not JSON"),
        (b'{"a":' + b"[" * 100_000 + b"\n", r"line 1: not JSON"),
        (b"", r"rows.jsonl has no rows"),
        (b"\n\n", r"rows.jsonl has no rows"),
    ],
)
def test_a_broken_line_is_one_clear_error(content: bytes, message: str) -> None:
    with pytest.raises(DocumentError, match=message) as raised:
        lines(content)
    assert "\n" not in str(raised.value)


@given(st.lists(st.dictionaries(st.text(), st.text() | st.integers() | st.none()), min_size=1))
def test_what_json_writes_is_read_back(rows: list[dict[str, Any]]) -> None:
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode(
        "utf-8", "surrogatepass"
    )
    try:
        content.decode()
    except UnicodeDecodeError:
        return
    assert [line.fields for line in lines(content)] == rows


@given(st.binary(max_size=80))
def test_any_bytes_give_rows_or_a_document_error(content: bytes) -> None:
    with contextlib.suppress(DocumentError):
        assert lines(content)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"title": "x"}, "row 1: the row has no 'question' .fields present: title."),
        ({"question": None}, "'question' must be text, got null"),
        ({"question": ["a"]}, "'question' must be text, got a list"),
        ({"question": True}, "'question' must be text, got true or false"),
        ({"question": " \n"}, "'question' is empty"),
    ],
)
def test_a_text_field_is_checked(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        data.Line("row 1", fields).text("question")


def test_a_number_is_taken_as_text() -> None:
    assert data.Line("row 1", {"A": 3}).text("A") == "3"


@pytest.mark.parametrize("value", [None, "a", [], ["a", 1], [None]])
def test_a_list_of_texts_is_checked(value: object) -> None:
    with pytest.raises(DocumentError, match="'answers' must be a list of texts"):
        data.Line("row 1", {"answers": value}).texts("answers")


# ------------------------------------------------------------------------------------------------------------ files


def test_a_missing_file_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(
        DocumentError,
        match=r"holds no a.jsonl or b.jsonl; it holds notes.txt; `lift-eval data fetch loogle --to",
    ):
        data.find_file(tmp_path, "loogle", ["a.jsonl", "b.jsonl"], ["loogle"])
    with pytest.raises(DocumentError, match="is not a folder"):
        data.find_file(tmp_path / "nowhere", "loogle", ["a.jsonl"], [])


def test_a_file_is_found_in_a_subfolder(tmp_path: Path) -> None:
    (tmp_path / "loogle").mkdir()
    (tmp_path / "loogle" / "b.jsonl").touch()
    assert (
        data.find_file(tmp_path, "loogle", ["a.jsonl", "b.jsonl"], ["loogle"])
        == tmp_path / "loogle" / "b.jsonl"
    )


def test_a_file_that_the_hub_does_not_give_says_what_else_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        DocumentError, match=r"cannot get a.jsonl of the dataset nobody/nothing.*LIFT_EVAL_DATA_DIR"
    ):
        data.hub_file("nobody/nothing", "a.jsonl")


def zipped(path: Path, member: str, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, content)
    return path


def test_a_zip_member_is_read_in_place(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "data.zip", "data/a.jsonl", b'{"a": 1}\n{"b": 2}\n')
    assert [line.fields for line in data.read_zipped_jsonl(archive, "data/a.jsonl")] == [{"a": 1}, {"b": 2}]


def test_a_zip_without_the_member_says_what_it_holds(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "data.zip", "data/a.jsonl", b"{}")
    with pytest.raises(DocumentError, match=r"holds no member data/b.jsonl; it holds data/a.jsonl"):
        list(data.read_zipped_jsonl(archive, "data/b.jsonl"))


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.95])
def test_a_cut_zip_asks_for_another_download(tmp_path: Path, keep: float) -> None:
    archive = zipped(tmp_path / "data.zip", "data/a.jsonl", json.dumps({"a": list(range(5000))}).encode())
    content = archive.read_bytes()
    archive.write_bytes(content[: int(keep if keep > 1 else keep * len(content))])
    with pytest.raises(DocumentError, match="download it again"):
        list(data.read_zipped_jsonl(archive, "data/a.jsonl"))


def test_a_damaged_zip_asks_for_another_download(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "data.zip", "data/a.jsonl", json.dumps({"a": list(range(5000))}).encode())
    content = bytearray(archive.read_bytes())
    content[200:260] = bytes(60)
    archive.write_bytes(content)
    with pytest.raises(DocumentError, match="download it again"):
        list(data.read_zipped_jsonl(archive, "data/a.jsonl"))


# ---------------------------------------------------------------------------------------------------------- options


def test_options_are_picked_out_of_model_arguments() -> None:
    metadata = {
        "pretrained": "M",
        "max_length": 10,
        "recipe": "icl",
        "version": 1.0,
        "prompt_style": "closed_book",
    }
    assert data.read_options(data.Options, metadata).prompt_style == "closed_book"


def test_the_environment_stands_in_for_data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFT_EVAL_DATA_DIR", str(tmp_path))
    assert data.read_options(data.Options, {}).data_dir == tmp_path
    assert data.read_options(data.Options, {"data_dir": "given"}).data_dir == Path("given")


def test_all_wrong_options_are_named_together() -> None:
    with pytest.raises(RecipeError) as raised:
        data.read_options(NiahOptions, {"promt_style": "x", "lengths": "long", "samples": "many"})
    assert len(raised.value.faults) == 3
    assert "did you mean 'prompt_style'?" in str(raised.value)


ARGUMENTS_OF_THE_MODEL = [
    "pretrained",
    "revision",
    "subfolder",
    "tokenizer",
    "max_length",
    "device",
    "batch_size",
    "max_batch_size",
    "trust_remote_code",
    "add_bos_token",
    "prefix_token_id",
    "enable_thinking",
    "think_end_token",
    "dtype",
    "chat_template_args",
    "softmax_dtype",
    "logits_cache",
    "recipe",
    "document_field",
    "device_map",
    "config_source",
    "attn_implementation",
    "seed",
    "store",
    "version",
    "training.learning_rate",
    "prompt.max_tokens",
    "auxiliary.pairs",
    "precision.dtype",
    "decoding.max_new_tokens",
    "max_seq_lengths",
    "cache_dir",
    "backend",
]


def test_arguments_of_the_model_are_no_slips() -> None:
    assert data.read_options(NiahOptions, dict.fromkeys(ARGUMENTS_OF_THE_MODEL, "x")).pretrained == "x"


def test_prompts_are_chosen_by_name() -> None:
    prompts = {"loogle": "{context} Q: {question}", "closed_book": "Q: {question}"}
    assert data.choose_prompt(prompts, None, {}) == ("loogle", prompts["loogle"])
    assert data.choose_prompt(prompts, "closed_book", {})[1] == "Q: {question}"
    with pytest.raises(
        RecipeError, match="no prompt_style 'close_book' for this task; did you mean 'closed_book'"
    ):
        data.choose_prompt(prompts, "close_book", {})


def test_a_recipe_names_the_prompt_where_the_run_does_not() -> None:
    prompts = {"loogle": "{context} Q: {question}", "lift_v1": "{context} {question}"}
    published = {"recipe": "llama3_loogle"}
    assert data.choose_prompt(prompts, None, published)[0] == "lift_v1"
    assert data.choose_prompt(prompts, "loogle", published)[0] == "loogle"
    assert data.choose_prompt(prompts, None, {**published, "prompt.style": "loogle"})[0] == "loogle"
    assert data.choose_prompt(prompts, None, {"recipe": "lora"})[0] == "loogle"
    assert data.choose_prompt({"longbench": "{context}"}, None, published)[0] == "longbench"


@given(st.text(), st.text())
def test_braces_in_a_document_are_left_alone(context: str, question: str) -> None:
    row = {"prompt_template": "{context}\nQ: {question}", "context": context, "question": question}
    assert data.prompt(row) == f"{context}\nQ: {question}"


def test_the_cache_folder_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LIFT_EVAL_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("niah") == tmp_path / "lift_eval" / "niah"
    monkeypatch.setenv("LIFT_EVAL_CACHE", str(tmp_path / "own"))
    assert cache_folder("niah") == tmp_path / "own" / "niah"
