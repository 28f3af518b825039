"""A package that waits until it is needed, and bitsandbytes in particular."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lift_eval.adapters.lazy_import import LazyModule, lazy_import
from tests.conftest import ROOT, untraced

PACKAGE = "waits_for_need"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package with a part, that tells by a file when it is executed."""
    folder = tmp_path / PACKAGE
    folder.mkdir()
    executed = "from pathlib import Path\nPath(__file__).with_name('executed').touch()\nfrom . import part\n"
    (folder / "__init__.py").write_text(executed)
    (folder / "part.py").write_text("VALUE = 3\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    lazy_import(PACKAGE)
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


def executed(package: Path) -> bool:
    return (package / "executed").exists()


def test_it_sleeps_through_imports_and_whoever_looks_at_all_modules(package: Path) -> None:
    module = importlib.import_module(PACKAGE)
    assert inspect.getmodule(inspect.currentframe()) is not None, "asks all modules for their files"
    assert module.__name__ == PACKAGE
    assert not executed(package)


def test_asking_for_a_part_wakes_it_and_it_stays_the_same_module(package: Path) -> None:
    module = importlib.import_module(PACKAGE)
    assert module.part.VALUE == 3
    assert executed(package)
    assert sys.modules[PACKAGE] is module
    assert not isinstance(module, LazyModule)
    assert not hasattr(module, "nothing")


def test_importing_a_part_wakes_the_whole(package: Path) -> None:
    assert importlib.import_module(f"{PACKAGE}.part").VALUE == 3
    assert executed(package)


def test_a_package_that_fails_tells_everyone(package: Path) -> None:
    module = importlib.import_module(PACKAGE)
    (package / "__init__.py").write_text("raise OSError('no driver')\n")
    for _ in range(2):
        with pytest.raises(OSError, match="no driver"):
            _ = module.part


def test_packages_that_are_missing_or_there_stay_as_they_are() -> None:
    lazy_import("a_package_that_nobody_has")
    assert "a_package_that_nobody_has" not in sys.modules
    before = sys.modules["json"]
    lazy_import("json")
    assert sys.modules["json"] is before


def test_bitsandbytes_waits_for_a_model_that_is_quantized(tmp_path: Path) -> None:
    """In an interpreter of its own: another test of this process may have needed it already."""
    script = """
import sys
import torch
from transformers import BitsAndBytesConfig
from lift_eval.adapters.attach import attach
from tests.adapters.helpers import ADAPTERS, logits, settings, tokens, train
from tests.tiny_models import tiny_model

for kind in ADAPTERS:
    train(attach(tiny_model(), settings(kind), seed=0), tokens())
assert "bitsandbytes.nn" not in sys.modules

four_bits = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.float32)
quantized = attach(tiny_model(), settings("lora"), seed=0, quantization=four_bits)
train(quantized, tokens())
assert "bitsandbytes.nn" in sys.modules

import peft
from peft.tuners.lora.bnb import Linear4bit
again = attach(quantized.unload(), settings("lora"), seed=0)
assert any(isinstance(layer, Linear4bit) for layer in again.modules()), "peft knows the quantized layers"
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=300, cwd=ROOT, env=untraced())
