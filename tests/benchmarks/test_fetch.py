"""Downloading over real HTTP: a small Hub on the loopback that can break off, lie and be gone."""

from __future__ import annotations

import hashlib
import json
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import pandas as pd
import pytest

from lift_eval.benchmarks import longbench, loogle, squad
from lift_eval.benchmarks.data import read_jsonl
from lift_eval.benchmarks.fetch import SOURCES, fetch
from lift_eval.errors import DocumentError

COMMIT = "c" * 40
ROW = {
    "doc_id": "d",
    "id": "1",
    "title": "Ada",
    "context": "Ada went to Oran.",
    "question": "Where?",
    "answer": "Oran",
}
LOOGLE = {
    f"data/{subset}.jsonl": json.dumps(
        {**ROW, "answer": {"<mask-0>": "Ada"} if "cloze" in subset else "Oran"}
    ).encode()
    for subset in loogle.FILES
}


def longbench_zip() -> bytes:
    row = {
        "_id": "1",
        "dataset": "musique",
        "input": "Where?",
        "context": "Ada went to Oran.",
        "answers": ["Oran"],
    }
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("data/musique.jsonl", json.dumps(row))
        archive.writestr("data/filler.bin", bytes(range(256)) * 200)
    return stream.getvalue()


def squad_table() -> bytes:
    answers = {"text": ["Oran"], "answer_start": [12]}
    row = {
        "id": "1",
        "title": "Ada_Lark",
        "context": "Ada went to Oran.",
        "question": "Where?",
        "answers": answers,
    }
    stream = BytesIO()
    pd.DataFrame([row]).to_parquet(stream)
    return stream.getvalue()


class Hub(ThreadingHTTPServer):
    """Serves files of any dataset; large ones as Git LFS does.

    Attributes:
        files: Their content by name.
        announced: What the listing says of a file, where it is not the truth.
        breaks: Bytes after which each coming download is cut off.
        ranges: The byte ranges that were asked for.
        hosted: Whether there are any datasets.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = {**LOOGLE, "data.zip": longbench_zip()}
        self.announced: dict[str, bytes] = {}
        self.breaks: list[int] = []
        self.ranges: list[str | None] = []
        self.hosted = True

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def entry(self, name: str) -> dict[str, object]:
        content = self.announced.get(name, self.files[name])
        git = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
        entry: dict[str, object] = {"type": "file", "path": name, "size": len(content), "oid": git}
        if name.endswith(".zip"):
            lfs = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 1}
            entry |= {"oid": "0" * 40, "lfs": lfs}
        return entry


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self._json([self.server.entry(name) for name in self.server.files])

    def do_HEAD(self) -> None:
        self._file(body=False)

    def do_GET(self) -> None:
        if not self.server.hosted:
            self._json({"error": "no such dataset"}, 404)
        elif self.path.startswith("/api/"):
            self._json({"id": "a/b", "sha": COMMIT, "siblings": []})
        else:
            self._file(body=True)

    def _json(self, content: object, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _file(self, *, body: bool) -> None:
        hub = self.server
        content = hub.files[self.path.partition(f"/resolve/{COMMIT}/")[2]]
        asked = self.headers.get("range")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        self.send_response(206 if start else 200)
        self.send_header("etag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("x-repo-commit", COMMIT)
        self.send_header("accept-ranges", "bytes")
        self.send_header("content-length", str(len(content) - start))
        if start:
            self.send_header("content-range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if not body:
            return
        hub.ranges.append(asked)
        if hub.breaks:
            self.wfile.write(content[start : start + hub.breaks.pop(0)])
            self.close_connection = True
            return
        self.wfile.write(content[start:])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    with Hub() as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_every_task_reads_what_was_fetched(hub: Hub, tmp_path: Path) -> None:
    fetched = fetch(["loogle", "longbench"], tmp_path, hub.endpoint)
    assert [file.path for file in fetched] == [
        *(
            f"loogle/data/{subset}.jsonl"
            for subset in ("shortdep_qa", "longdep_qa", "shortdep_cloze", "summarization")
        ),
        "longbench/data.zip",
    ]
    for file in fetched:
        content = (tmp_path / file.path).read_bytes()
        assert (file.size, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert file.commit == COMMIT
    prompts = {"p": "{context}"}
    for subset in loogle.FILES:
        assert len(loogle.load(subset=subset, prompts=prompts, data_dir=str(tmp_path))["test"]) == 1
    official = {"longbench": "{context}"}
    data = longbench.load(subtask="musique", prompts=official, data_dir=str(tmp_path))["test"]
    assert data[0]["answers"] == ["Oran"]


def test_squads_table_is_read_where_it_was_fetched(hub: Hub, tmp_path: Path) -> None:
    hub.files[squad.TABLE] = squad_table()
    fetch(["squad"], tmp_path, hub.endpoint)
    (row,) = squad.load(prompts={"p": "{context}"}, data_dir=str(tmp_path))["test"]
    assert (row["title"], row["context"]) == ("Ada Lark", "Ada went to Oran.")


def test_the_manifest_names_every_file(hub: Hub, tmp_path: Path) -> None:
    fetch(["loogle"], tmp_path, hub.endpoint)
    fetch(["longbench"], tmp_path, hub.endpoint)
    manifest = json.loads((tmp_path / "fetched.json").read_text())
    assert len(manifest) == 5
    assert manifest["longbench/data.zip"]["commit"] == COMMIT


def test_what_is_there_is_not_downloaded_again(hub: Hub, tmp_path: Path) -> None:
    fetch(["longbench"], tmp_path, hub.endpoint)
    hub.ranges.clear()
    fetch(["longbench"], tmp_path, hub.endpoint)
    assert hub.ranges == []


def test_a_download_that_breaks_off_goes_on_where_it_stopped(hub: Hub, tmp_path: Path) -> None:
    hub.breaks = [20_000]
    fetch(["longbench"], tmp_path, hub.endpoint)
    assert hub.ranges[0] is None
    assert hub.ranges[1] == "bytes=20000-"


def test_a_fetch_that_was_given_up_goes_on_when_run_again(hub: Hub, tmp_path: Path) -> None:
    hub.breaks = [20_000] + 10 * [0]
    with pytest.raises(
        DocumentError,
        match=r"cannot fetch longbench from http://127.* run the same command again to continue",
    ):
        fetch(["longbench"], tmp_path, hub.endpoint)
    assert not (tmp_path / "longbench" / "data.zip").exists()
    hub.breaks = []
    hub.ranges.clear()
    fetch(["longbench"], tmp_path, hub.endpoint)
    assert hub.ranges == ["bytes=20000-"]
    assert (tmp_path / "longbench" / "data.zip").read_bytes() == hub.files["data.zip"]


@pytest.mark.parametrize(
    ("benchmark", "name"), [("longbench", "data.zip"), ("loogle", "data/longdep_qa.jsonl")]
)
@pytest.mark.parametrize("change", [b"", b"other content of another size"])
def test_a_file_that_is_not_what_the_hub_says_is_deleted(
    hub: Hub, tmp_path: Path, benchmark: str, name: str, change: bytes
) -> None:
    content = hub.files[name]
    hub.announced[name] = change or content[:-1] + bytes([content[-1] ^ 1])
    with pytest.raises(DocumentError, match=r"came with another size or hash .* it was deleted: fetch again"):
        fetch([benchmark], tmp_path, hub.endpoint)
    assert not (tmp_path / benchmark / name).exists()
    hub.announced.clear()
    assert fetch([benchmark], tmp_path, hub.endpoint)


def test_a_dataset_that_has_lost_a_file_is_one_clear_error(hub: Hub, tmp_path: Path) -> None:
    del hub.files["data/longdep_qa.jsonl"]
    with pytest.raises(DocumentError, match=r"bigai-nlco/LooGLE holds no data/longdep_qa.jsonl at cccc"):
        fetch(["loogle"], tmp_path, hub.endpoint)


def test_a_dataset_that_is_gone_is_one_clear_error(hub: Hub, tmp_path: Path) -> None:
    hub.hosted = False
    with pytest.raises(DocumentError, match="cannot fetch loogle from") as raised:
        fetch(["loogle"], tmp_path, hub.endpoint)
    assert "\n" not in str(raised.value)


def test_a_hub_out_of_reach_is_one_clear_error(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"cannot fetch loogle from http://127\.0\.0\.1:9"):
        fetch(["loogle"], tmp_path, "http://127.0.0.1:9")


def test_an_unknown_benchmark_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="no benchmark 'logle' to fetch; did you mean 'loogle'"):
        fetch(["logle"], tmp_path)
    assert set(SOURCES) == {"loogle", "longbench", "squad"}


def test_a_fetched_file_is_plain_json_lines(hub: Hub, tmp_path: Path) -> None:
    fetch(["loogle"], tmp_path, hub.endpoint)
    (line,) = read_jsonl(tmp_path / "loogle" / "data" / "shortdep_qa.jsonl")
    assert line.fields == ROW
