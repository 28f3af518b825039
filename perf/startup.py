"""What an interpreter that never imports lm_eval pays for the registration with lm-eval.

Compares starts of two fresh virtual environments, in turn: one that has the wheel of this checkout and one that
has nothing. Then prints Python's own account of the modules that the wheel adds to a start.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAIRS = 200

# Bytecode is written at the first start and read at all others, as for any user.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def fresh(folder: Path, wheel: Path | None) -> Path:
    """Make a virtual environment with the wheel or with nothing in it; returns its interpreter."""
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    if wheel is not None:
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
        subprocess.run([*pip, "--no-index", "--no-deps", str(wheel)], check=True)
    start_seconds(python)
    return python


def start_seconds(python: Path) -> float:
    """Seconds of a whole interpreter start that does nothing."""
    begin = time.perf_counter()
    subprocess.run([str(python), "-c", "pass"], env=ENVIRONMENT, check=True)
    return time.perf_counter() - begin


def main() -> None:
    """Print the figure."""
    build = "import sys, hatchling.build as backend; print(backend.build_wheel(sys.argv[1]))"
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-c", build, scratch]
        built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        having = fresh(Path(scratch, "with"), Path(scratch, built.stdout.split()[-1]))
        bare = fresh(Path(scratch, "without"), None)
        pairs = [(start_seconds(having), start_seconds(bare)) for _ in range(PAIRS)]

    added = statistics.median(one - other for one, other in pairs) * 1e3
    whole = statistics.median(other for _, other in pairs) * 1e3
    print(
        f"added to an interpreter start: {added:.2f} ms (median of {PAIRS} pairs; a start takes {whole:.2f} ms)"
    )


if __name__ == "__main__":
    main()
