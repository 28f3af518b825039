"""Entries go in and come out; the store keeps to its folder, its size, and out of the way."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from lift_eval.errors import StoreError
from lift_eval.store import (
    KeptAnswer,
    KeptAnswers,
    Pairs,
    Store,
    Training,
    default_folder,
    entry_key,
    open_store,
)

KEY = entry_key("answers", text="a question")
ANSWERS = KeptAnswers(answers=[KeptAnswer(text="Zoë \u2028 said \x00 no", complete=True)], seconds=1.5)
TRAINING = Training(
    losses=[2.0, float("inf")], trained_tokens=7, supervised_tokens=5, pairs={"kept": 3}, seconds={}
)
TENSORS = {
    "a": torch.randn(3, 4),
    "b": torch.randn(5).bfloat16(),
    "scalar": torch.tensor(1.0),
    "empty": torch.zeros(0, 2),
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def key(number: int) -> str:
    return f"{number:064x}"


def test_answers_and_pairs_come_back_as_they_were(store):
    pairs = Pairs(pairs=[{"question": "Who?", "answer": "Ada"}], counts={"asked": 2}, seconds=0.5)
    store.save(KEY, ANSWERS)
    store.save(KEY, pairs)
    assert Store(store.folder).load(KeptAnswers, KEY) == ANSWERS
    assert Store(store.folder).load(Pairs, KEY) == pairs


def test_an_adapter_comes_back_bit_for_bit(store):
    store.save_tensors(KEY, TRAINING, TENSORS)
    training, tensors = Store(store.folder).load_tensors(Training, KEY, TENSORS)
    assert training == TRAINING
    assert {name: tensor.dtype for name, tensor in tensors.items()} == {
        n: t.dtype for n, t in TENSORS.items()
    }
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)


def test_what_was_never_kept_is_not_there(store):
    assert store.load(KeptAnswers, KEY) is None
    assert store.load_tensors(Training, KEY, TENSORS) is None


def test_an_adapter_of_another_model_is_set_aside(store, caplog):
    store.save_tensors(KEY, TRAINING, TENSORS)
    assert store.load_tensors(Training, KEY, {**TENSORS, "a": torch.zeros(4, 4)}) is None
    assert "another model" in caplog.text
    assert store.entries() == []


def test_entries_are_json_lines_and_safetensors(store):
    from safetensors import safe_open

    store.save(KEY, ANSWERS, {"document": "A title"})
    store.save_tensors(KEY, TRAINING, TENSORS)
    lines = (store.folder / "answers" / f"{KEY}.jsonl").read_text().split("\n")
    assert json.loads(lines[0])["about"] == {"document": "A title"}
    assert json.loads(lines[1])["answers"][0]["complete"] is True
    with safe_open(store.folder / "adapters" / f"{KEY}.safetensors", "pt") as file:
        assert torch.equal(file.get_tensor("a"), TENSORS["a"])


def test_nothing_else_lies_beside_the_entries(store):
    store.save(KEY, ANSWERS)
    store.save_tensors(KEY, TRAINING, TENSORS)
    files = {str(path.relative_to(store.folder)) for path in store.folder.rglob("*") if path.is_file()}
    assert files == {f"answers/{KEY}.jsonl", f"adapters/{KEY}.safetensors"}


@pytest.mark.parametrize(
    "name", ["../" + "a" * 61, "/etc/passwd", "A" * 64, "a" * 63, "a" * 64 + "\n", "\0" * 64, ""]
)
def test_a_name_that_is_no_key_is_refused(store, name):
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        store.load(KeptAnswers, name)
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        store.save(name, ANSWERS)


def test_keys_differ_by_kind_and_by_each_part():
    keys = {entry_key("pairs", a=1, b=2), entry_key("answers", a=1, b=2), entry_key("pairs", a=2, b=1)}
    assert len(keys) == 3
    assert entry_key("pairs", b=2, a=1) in keys


# --- upkeep --------------------------------------------------------------------------------------------------------


def test_pruning_removes_what_was_used_longest_ago(store):
    for number in range(4):
        store.save(key(number), ANSWERS)
        os.utime(store.folder / "answers" / f"{key(number)}.jsonl", (number, number))
    assert [entry.key for entry in store.entries()] == [key(number) for number in range(4)]
    store.load(KeptAnswers, key(0))  # used just now
    size = store.entries()[0].bytes
    removed = store.prune(max_bytes=2 * size)
    assert [entry.key for entry in removed] == [key(1), key(2)]
    assert [entry.key for entry in store.entries()] == [key(3), key(0)]
    assert store.prune(max_bytes=2 * size) == []


def test_pruning_removes_leavings_but_not_what_is_being_written_nor_what_is_not_ours(store):
    store.save(KEY, ANSWERS)
    folder = store.folder / "answers"
    abandoned, current, foreign = folder / ".x.1.tmp", folder / ".x.2.tmp", folder / "notes.txt"
    for path in (abandoned, current, foreign):
        path.write_text("")
    os.utime(abandoned, (0, 0))
    (folder / f"{key(1)}.jsonl").write_text("damaged")
    store.load(KeptAnswers, key(1))
    assert list((store.folder / "quarantine").iterdir())
    assert store.prune(max_bytes=10**9) == []
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [current.name, f"{KEY}.jsonl", "notes.txt"]
    )
    assert not list((store.folder / "quarantine").iterdir())


def test_a_clock_that_went_backwards_changes_nothing_but_the_order(store):
    store.save(KEY, ANSWERS)
    path = store.folder / "answers" / f"{KEY}.jsonl"
    os.utime(path, (2**33, 2**33))  # written in the year 2242
    assert store.load(KeptAnswers, KEY) == ANSWERS
    assert path.stat().st_mtime < 2**33
    assert store.verify() == []


def test_verify_names_what_is_damaged_and_sets_it_aside(store):
    for number in range(3):
        store.save(key(number), ANSWERS)
    store.save_tensors(KEY, TRAINING, TENSORS)
    (store.folder / "answers" / f"{key(1)}.jsonl").write_text("{}\n{}\n")
    faults = store.verify()
    assert [(fault.entry.key, fault.reason) for fault in faults] == [(key(1), "its checksum is wrong")]
    assert len(store.entries()) == 3
    assert store.verify() == []


def test_show_tells_what_an_entry_is(store):
    store.save(KEY, ANSWERS, {"document": "A title"})
    store.save_tensors(KEY, TRAINING, TENSORS, {"document": "A title"})
    shown = {entry["kind"]: entry for entry in store.show(KEY[:12])}
    assert shown["answers"]["about"] == shown["adapters"]["about"] == {"document": "A title"}
    assert shown["answers"]["payload"]["answers"][0]["complete"] is True
    assert shown["adapters"]["payload"]["trained_tokens"] == 7
    with pytest.raises(StoreError, match="no entry whose key begins with"):
        store.show("0000")


# --- where it is ---------------------------------------------------------------------------------------------------


def test_by_default_the_store_is_in_the_cache_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("LIFT_EVAL_STORE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert open_store().folder == tmp_path / "lift_eval"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # must be ignored, says the specification
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_folder() == tmp_path / "home" / ".cache" / "lift_eval"


@pytest.mark.parametrize("where", ["off", "OFF", False])
def test_off_means_no_store(where, monkeypatch, tmp_path):
    monkeypatch.setenv("LIFT_EVAL_STORE", str(tmp_path))
    assert open_store(where) is None


def test_the_environment_names_a_store_unless_the_argument_does(tmp_path, monkeypatch):
    monkeypatch.setenv("LIFT_EVAL_STORE", str(tmp_path / "named"))
    assert open_store().folder == tmp_path / "named"
    assert open_store(str(tmp_path / "other")).folder == tmp_path / "other"
    monkeypatch.setenv("LIFT_EVAL_STORE", "off")
    assert open_store() is None


@pytest.mark.parametrize("word", ["on", "none", "no", "5", 5, True, "default", "st"])
def test_a_word_is_no_folder(word, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match=f"store='{word}' must be 'off' or the path of a folder"):
        open_store(word)
    monkeypatch.setenv("LIFT_EVAL_STORE", str(word))
    with pytest.raises(StoreError, match=f"LIFT_EVAL_STORE='{word}' must be 'off' or"):
        open_store()
    assert list(tmp_path.iterdir()) == []
    assert open_store(f"./{word}").folder == open_store(Path(str(word))).folder == tmp_path / str(word)


def test_a_named_store_that_cannot_be_made_is_an_error_of_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    for where in (tmp_path / "file", tmp_path / "file" / "below", "./nul\0character"):
        with pytest.raises(StoreError, match="or use store=off") as caught:
            open_store(where)
        assert "\n" not in str(caught.value)


def test_a_default_store_that_cannot_be_made_is_a_warning(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.delenv("LIFT_EVAL_STORE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert open_store() is None
    assert "continues without a store" in caplog.text
