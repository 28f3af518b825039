"""Downloads the benchmarks' data to a folder, from which every task then runs without a network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.file_download import http_get
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined] # public, not in __all__

from lift_eval.benchmarks import longbench, loogle, squad
from lift_eval.benchmarks.data import HUB_ERRORS, MANIFEST, first_line
from lift_eval.errors import DocumentError, nearest
from lift_eval.files import write_whole

BLOCK = 1 << 20


@dataclass(frozen=True)
class Repository:
    """Where a benchmark's files are on the Hub.

    Attributes:
        repository: The dataset repository.
        files: Names of its files.
        revision: A commit; None takes the newest.
    """

    repository: str
    files: tuple[str, ...]
    revision: str | None = None


SOURCES: Mapping[str, Repository] = {
    "loogle": Repository(
        loogle.REPOSITORY, tuple(f"data/{names[0]}" for names in loogle.FILES.values()), loogle.REVISION
    ),
    "longbench": Repository(longbench.REPOSITORY, (longbench.ARCHIVE,), longbench.REVISION),
    "squad": Repository(squad.REPOSITORY, (squad.TABLE,), squad.REVISION),
}


@dataclass(frozen=True)
class FetchedFile:
    """One downloaded and checked file.

    Attributes:
        benchmark: Key of `SOURCES`.
        path: Where it is, relative to the folder.
        repository: The dataset repository.
        commit: Its commit.
        size: Bytes.
        sha256: Hash of the content.
    """

    benchmark: str
    path: str
    repository: str
    commit: str
    size: int
    sha256: str


def fetch(benchmarks: Sequence[str], folder: Path, endpoint: str | None = None) -> list[FetchedFile]:
    """Download benchmarks into ``folder/<benchmark>`` and check size and hash of every file against the Hub's.

    A whole file is not downloaded again; an interrupted download continues where it stopped. The files and
    hashes are written to ``folder/fetched.json``.

    Args:
        benchmarks: Keys of `SOURCES`.
        folder: Where to; made if missing.
        endpoint: Address of the Hub; ``HF_ENDPOINT`` or the public one by default.

    Returns:
        The files, in order.

    Raises:
        DocumentError: For an unknown benchmark, a Hub that cannot be reached, and a file that is not what the Hub
            says it is; that file is deleted.
    """
    for name in benchmarks:
        if name not in SOURCES:
            raise DocumentError(f"no benchmark '{name}' to fetch{nearest(name, SOURCES)}")
    api = HfApi(endpoint=endpoint)
    fetched = [file for name in benchmarks for file in _fetch_one(api, name, folder)]
    _write_manifest(folder / MANIFEST, fetched)
    return fetched


def _fetch_one(api: HfApi, name: str, folder: Path) -> Iterable[FetchedFile]:
    source = SOURCES[name]
    try:
        commit = api.dataset_info(source.repository, revision=source.revision).sha or ""
        listing = api.get_paths_info(
            source.repository, list(source.files), repo_type="dataset", revision=commit
        )
        known = {entry.path: entry for entry in listing if isinstance(entry, RepoFile)}
        for file in source.files:
            if file not in known:
                raise DocumentError(
                    f"{source.repository} holds no {file} at {commit}; the dataset has changed"
                )
            path = folder / name / file
            url = hf_hub_url(
                source.repository, file, repo_type="dataset", revision=commit, endpoint=api.endpoint
            )
            digest = _download(url, path, known[file])
            yield FetchedFile(name, f"{name}/{file}", source.repository, commit, path.stat().st_size, digest)
    except HUB_ERRORS as error:
        raise DocumentError(
            f"cannot fetch {name} from {api.endpoint} ({first_line(error)}); run the same command again to continue, "
            "or name another Hub with HF_ENDPOINT"
        ) from error


def _download(url: str, path: Path, known: RepoFile) -> str:
    """Get a file whole and right, and return its SHA-256; what was broken off before goes on from there."""
    if path.is_file() and (digest := _checked(path, known)):
        return digest
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.part")
    with partial.open("ab") as stream:
        if stream.tell() < known.size:
            http_get(url, stream, resume_size=stream.tell(), headers=build_hf_headers())
    digest = _checked(partial, known)
    if not digest:
        partial.unlink()
        raise DocumentError(
            f"{path.name} came with another size or hash than the Hub holds ({known.size} bytes); it was deleted: "
            "fetch again"
        )
    partial.replace(path)
    return digest


def _checked(path: Path, known: RepoFile) -> str:
    """SHA-256 of a file whose size and hash match the Hub's; empty if they do not.

    The Hub gives the SHA-256 of a large file and git's hash of a small one.
    """
    size = path.stat().st_size
    sha256, git = hashlib.sha256(), hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            sha256.update(block)
            git.update(block)
    same = sha256.hexdigest() == known.lfs.sha256 if known.lfs else git.hexdigest() == known.blob_id
    return sha256.hexdigest() if same and size == known.size else ""


def _write_manifest(path: Path, fetched: Iterable[FetchedFile]) -> None:
    """Put new entries beside those of other benchmarks fetched before."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (ValueError, RecursionError):
        entries = None
    if not isinstance(entries, dict):
        raise DocumentError(
            f"{path} is not a manifest of downloads; delete it and fetch again (downloaded files are kept)"
        )
    entries |= {file.path: asdict(file) for file in fetched}
    write_whole(path, f"{json.dumps(entries, indent=2)}\n".encode())
