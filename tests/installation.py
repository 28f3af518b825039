"""The distribution as it is built, in a virtual environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT


@dataclass(frozen=True)
class Installation:
    """A virtual environment that has our distribution, and everything else from the environment of the tests."""

    kind: str  # wheel or editable
    archive: Path
    folder: Path

    def run(self, program: str, *arguments: str | Path, cwd: Path | None = None, **variables: str) -> str:
        """Run one of its programs outside of the checkout, and return what that prints."""
        hidden = ("PYTHON", "COV", "LIFT_EVAL")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        ran = subprocess.run(
            [str(self.folder / "bin" / program), *map(str, arguments)],
            cwd=cwd or self.folder,
            env={**environment, **variables},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout


def build(kind: str, target: Path) -> Path:
    """Have the build backend make a wheel or an editable wheel, as pip does."""
    script = f"import sys, hatchling.build as backend; print(backend.build_{kind}(sys.argv[1]))"
    command = [sys.executable, "-c", script, str(target)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return target / ran.stdout.split()[-1]


def install(kind: str, folder: Path) -> Installation:
    """Build and install it; pip installs nothing else."""
    made = Installation(kind, build(kind, folder), folder / "venv")
    venv.create(made.folder, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", str(made.folder / "bin" / "python"), "install", "--quiet"]
    subprocess.run([*pip, "--no-index", "--no-deps", str(made.archive)], check=True)
    # The dependencies come after its own packages. Python runs no .pth file of a folder that is added like
    # this, so that the installation which runs the tests stays out of it.
    site_packages = made.run("python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    Path(site_packages, "zz_dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return made
