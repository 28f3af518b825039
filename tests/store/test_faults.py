"""Nothing that happens to a store ends a run or changes its results."""

from __future__ import annotations

import io
import os
import random
import resource
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lift_eval.store import KeptAnswer, KeptAnswers, Pairs, Store, Training, entry_key
from lift_eval.store.entries import (
    CorruptEntryError,
    read_about,
    read_tensor_entry,
    read_text_entry,
    tensor_entry,
    text_entry,
)
from tests.store.runs import outcome, run

KEY, OTHER = entry_key("answers", n=1), entry_key("answers", n=2)
ANSWERS = KeptAnswers(answers=[KeptAnswer(text="yes", complete=True)], seconds=1.0)
TRAINING = Training(losses=[1.0], trained_tokens=7, supervised_tokens=5, pairs={}, seconds={"train": 1.0})
TENSORS = {"a": torch.arange(12.0).view(3, 4), "b": torch.ones(5).bfloat16()}
TEXT = text_entry(KEY, ANSWERS, {"document": "A title"})
ADAPTER = tensor_entry(KEY, TRAINING, TENSORS, {"document": "A title"})


# --- damaged and foreign bytes -----------------------------------------------------------------------------


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    """Flipped bits, cut ends, things put in or taken out, and bytes that were never right."""
    place = st.integers(0, len(whole) - 1)
    return st.one_of(
        st.builds(
            lambda at, bit: whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :],
            place,
            st.integers(0, 7),
        ),
        st.builds(lambda at: whole[:at], place),
        st.builds(lambda at, more: whole[:at] + more + whole[at:], place, st.binary(min_size=1, max_size=9)),
        st.builds(lambda at, length: whole[:at] + whole[at + length :], place, st.integers(1, 99)),
        st.binary(max_size=200),
    )


def mutations(whole: bytes) -> st.SearchStrategy[bytes]:
    """A damaged entry, and text that was never one."""
    return st.one_of(
        damaged(whole),
        st.text(max_size=50).map(lambda text: f'{{"sha256": "{text}"}}\n{{}}\n'.encode(errors="replace")),
    )


@settings(max_examples=1000, deadline=None)
@given(mutations(TEXT))
def test_no_bytes_are_taken_for_answers_but_the_answers(data):
    try:
        read = read_text_entry(data, KEY, KeptAnswers)
    except CorruptEntryError:
        assert data != TEXT
    else:
        assert read == ANSWERS


@settings(max_examples=1000, deadline=None)
@given(mutations(ADAPTER))
def test_no_bytes_are_taken_for_an_adapter_but_the_adapter(data):
    try:
        training, tensors = read_tensor_entry(data, KEY, Training)
    except CorruptEntryError:
        assert data != ADAPTER
    else:
        assert training == TRAINING
        assert tensors.keys() == TENSORS.keys()
        assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)


@settings(max_examples=300, deadline=None)
@given(st.one_of(mutations(TEXT), mutations(ADAPTER)), st.booleans())
def test_showing_bytes_never_fails_otherwise(data, has_tensors):
    with suppress(CorruptEntryError):
        read_about(io.BytesIO(data), has_tensors=has_tensors)


def test_entries_nested_without_end_are_refused():
    bomb = b"[" * 10**6
    length = len(bomb).to_bytes(8, "little")
    with pytest.raises(CorruptEntryError):
        read_text_entry(bomb + b"\n" + bomb + b"\n", KEY, KeptAnswers)
    with pytest.raises(CorruptEntryError):
        read_tensor_entry(length + bomb, KEY, Training)


def test_an_entry_under_the_name_of_another_is_not_taken():
    with pytest.raises(CorruptEntryError, match="another key"):
        read_text_entry(TEXT, OTHER, KeptAnswers)
    with pytest.raises(CorruptEntryError, match="another key"):
        read_tensor_entry(ADAPTER, OTHER, Training)


# --- runs over a damaged store -----------------------------------------------------------------------------


def flip(path: Path, draw: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def cut(path: Path, draw: random.Random) -> None:
    os.truncate(path, draw.randrange(path.stat().st_size))


def swap(path: Path, draw: random.Random) -> None:
    other = draw.choice([entry for entry in path.parent.iterdir() if entry != path])
    path.write_bytes(other.read_bytes())


def pickled(path: Path, draw: random.Random) -> None:
    torch.save({"a": torch.zeros(2)}, path)


def folder(path: Path, draw: random.Random) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path, draw: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


def link(path: Path, draw: random.Random) -> None:
    outside = path.parent.parent.parent / f"outside-{path.name}"
    path.rename(outside)
    path.symlink_to(outside)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A store that a run has filled, and that run's outcome."""
    store = Store(tmp_path_factory.mktemp("whole") / "store")
    return store, outcome(run(store))


@pytest.mark.parametrize("kind", ["adapters", "answers"])
@pytest.mark.parametrize("damage", [flip, cut, swap, pickled, folder, pipe, link])
def test_a_damaged_entry_is_set_aside_and_made_anew(damage, kind, whole, tmp_path, caplog):
    original, expected = whole
    shutil.copytree(original.folder, tmp_path / "store")
    store = Store(tmp_path / "store")
    draw = random.Random(f"{damage.__name__} {kind}")
    path = draw.choice(sorted((store.folder / kind).iterdir()))
    damage(path, draw)
    results = run(store)
    assert outcome(results) == expected
    redone = {"adapters": "adapter", "answers": "answers"}[kind]
    assert [redone in result["reused"] for result in results.values()].count(False) == 1
    assert len(list((store.folder / "quarantine").iterdir())) == 1
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1
    assert store.verify() == []
    assert all(result["reused"] == ["adapter", "answers"] for result in run(store).values())


@pytest.mark.parametrize("damage", [flip, cut, pickled, folder, pipe, link])
def test_damaged_pairs_are_set_aside_and_can_be_kept_again(damage, tmp_path):
    store, pairs = Store(tmp_path / "store"), Pairs(pairs=[{"question": "Who?", "answer": "Ada"}])
    store.save(KEY, pairs)
    damage(store.folder / "pairs" / f"{KEY}.jsonl", random.Random(0))
    assert store.load(Pairs, KEY) is None
    assert len(list((store.folder / "quarantine").iterdir())) == 1
    store.save(KEY, pairs)
    assert store.load(Pairs, KEY) == pairs


def test_nothing_is_read_or_written_through_a_link_in_place_of_a_folder(tmp_path, caplog):
    store = Store(tmp_path / "store")
    for name in ("adapters", "answers", "quarantine"):
        (tmp_path / "outside" / name).mkdir(parents=True)
        (store.folder / name).symlink_to(tmp_path / "outside" / name)
    planted = tmp_path / "outside" / "answers" / f"{KEY}.jsonl"
    planted.write_bytes(TEXT)
    assert store.load(KeptAnswers, KEY) is None
    store.save(OTHER, ANSWERS)
    store.save_tensors(KEY, TRAINING, TENSORS)
    assert store.entries() == store.verify() == store.prune(0) == []
    assert [path for path in (tmp_path / "outside").rglob("*") if path.is_file()] == [planted]
    assert len(caplog.records) == 1


# --- stores that cannot be used ----------------------------------------------------------------------------


@contextmanager
def full_disk(bytes_left: int) -> Iterator[None]:
    """The kernel refuses to write files beyond a size, in the middle of a write as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def without_privileges() -> Iterator[None]:
    """Root may write everywhere, so for a while the process is somebody else."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody can reach; pytest's own are private."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_full_disk_is_one_warning_and_leaves_nothing_behind(tmp_path, whole, caplog):
    store = Store(tmp_path / "store")
    with full_disk(200):
        results = run(store)
    assert outcome(results) == whole[1]
    assert [record.getMessage() for record in caplog.records] == [
        f"store {store.folder} cannot be written (File too large); the run continues without it"
    ]
    assert [path for path in store.folder.rglob("*") if path.is_file()] == []


def test_a_store_that_may_only_be_read_is_read(whole, open_folder, caplog):
    original, expected = whole
    shutil.copytree(original.folder, open_folder / "store")
    store = Store(open_folder / "store")
    for path in (store.folder / "answers").iterdir():
        path.unlink()
    for path in (store.folder, *store.folder.iterdir()):
        path.chmod(0o555)
    with without_privileges():
        results = run(store)
    for path in (store.folder, *store.folder.iterdir()):
        path.chmod(0o755)
    assert outcome(results) == expected
    assert all(result["reused"] == ["adapter"] for result in results.values())
    assert len(caplog.records) == 1
    assert "Permission denied" in caplog.text


def test_a_store_that_may_not_be_read_is_one_warning(whole, open_folder, caplog):
    original, expected = whole
    shutil.copytree(original.folder, open_folder / "store")
    store = Store(open_folder / "store")
    for path in store.folder.iterdir():
        path.chmod(0)
    with without_privileges():
        results = run(store)
    for path in store.folder.iterdir():
        path.chmod(0o755)
    assert outcome(results) == expected
    assert len(caplog.records) == 1


def test_a_store_that_disappears_under_a_run_is_one_warning(whole, tmp_path, caplog):
    store = Store(tmp_path / "store")
    store.folder.rmdir()
    assert outcome(run(store)) == whole[1]
    assert len(caplog.records) == 1


def test_an_entry_that_was_made_anew_meanwhile_is_not_set_aside(tmp_path, monkeypatch):
    """Another process mends the entry between our reading and our setting aside."""
    store = Store(tmp_path / "store")
    store.save(KEY, ANSWERS)
    path = store.folder / "answers" / f"{KEY}.jsonl"
    path.write_text("damaged")

    def read_while_another_mends(data, key, kind):
        Store(store.folder).save(KEY, ANSWERS)
        return read_text_entry(data, key, kind)

    monkeypatch.setattr("lift_eval.store.store.read_text_entry", read_while_another_mends)
    assert store.load(KeptAnswers, KEY) is None
    monkeypatch.undo()
    assert store.load(KeptAnswers, KEY) == ANSWERS
