"""A GGUF file on the Hub: a small one on the loopback, over real HTTP."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from tests.tiny_models import tiny_model, write_gguf

ROOT = Path(__file__).parents[2]
LOGITS = """
import sys
import torch
from lift_eval import Lifter, load_recipe
recipe = load_recipe("icl", {"precision.dtype": "float32"})
lifter = Lifter.from_pretrained("someone/tiny", recipe, gguf_file=sys.argv[1], device="cpu")
print(lifter.model(torch.tensor([[256, 40, 41]])).logits[0, -1, :8].tolist())
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[str]:
    """Address of a Hub with one repository, ``someone/tiny``, which holds one file."""
    content = write_gguf(tmp_path / "tiny.gguf").read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(b"")

        def do_GET(self) -> None:
            self._answer(content)

        def _answer(self, body: bytes) -> None:
            found = self.path == "/someone/tiny/resolve/main/tiny.gguf"
            self.send_response(200 if found else 404)
            self.send_header("X-Repo-Commit", "a" * 40)
            self.send_header("Content-Length", str(len(content)) if found else "0")
            if found:
                self.send_header("ETag", '"tiny"')
            else:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.end_headers()
            self.wfile.write(body if found else b"")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def logits(hub: str, home: Path, file: str) -> subprocess.CompletedProcess[str]:
    """What a new process computes with the model in a file on the Hub."""
    env = {
        **os.environ,
        "HF_ENDPOINT": hub,
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "0",
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.run(
        [sys.executable, "-c", LOGITS, file],
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_gguf_file_is_downloaded_once_and_computes_the_same(hub: str, tmp_path: Path) -> None:
    done = logits(hub, tmp_path / "home", "tiny.gguf")
    assert done.returncode == 0, done.stderr
    expected = tiny_model()(torch.tensor([[256, 40, 41]])).logits[0, -1, :8]
    printed = torch.tensor([float(value) for value in done.stdout.strip().strip("[]").split(",")])
    torch.testing.assert_close(printed, expected, rtol=0, atol=1e-5)
    away = "http://127.0.0.1:9"  # nothing listens there
    assert logits(away, tmp_path / "home", "tiny.gguf").stdout == done.stdout


def test_a_file_that_the_repository_lacks_is_named(hub: str, tmp_path: Path) -> None:
    done = logits(hub, tmp_path / "home", "other.gguf")
    assert "CheckpointError: gguf_file='other.gguf' is not in 'someone/tiny'" in done.stderr
