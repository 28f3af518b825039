"""What is built is whole, and works where there is no checkout."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
import zipfile
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lift_eval import __version__
from tests.conftest import ROOT
from tests.installation import Installation, install
from tests.test_architecture import imports


@pytest.fixture(scope="module", params=["wheel", "editable"])
def installation(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return install(request.param, tmp_path_factory.mktemp(request.param))


def files_below(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.mark.parametrize("installation", ["wheel"], indirect=True)
def test_the_wheel_holds_the_package_the_tasks_and_nothing_else(installation: Installation) -> None:
    with zipfile.ZipFile(installation.archive) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
        notices = {Path(name).name for name in archive.namelist() if ".dist-info/" in name}
    package = {f"lift_eval/{name}" for name in files_below(ROOT / "lift_eval")}
    tasks = {f"lift_eval/tasks/{name}" for name in files_below(ROOT / "tasks")}
    assert packed == package | tasks | {"hatch_autorun_lift_eval.pth"}
    assert {"lift_eval/recipe/shipped/lora.yaml", "lift_eval/tasks/loogle/loogle_shortqa.yaml"} <= packed
    assert {"LICENSE", "METADATA", "entry_points.txt"} <= notices


@pytest.mark.parametrize("installation", ["wheel"], indirect=True)
def test_the_package_index_shows_no_link_that_leads_nowhere(installation: Installation) -> None:
    with zipfile.ZipFile(installation.archive) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        shown = archive.read(name).decode()
    links = re.findall(r"\]\(([^)]*)\)", shown)
    assert links
    assert [link for link in links if not link.startswith("https://")] == []


def test_the_version_that_is_cited_is_this_one() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (cited["version"], cited["license"]) == (__version__, "Apache-2.0")


def test_an_installation_has_its_recipes_and_tasks_and_is_known_to_lm_eval(
    installation: Installation,
) -> None:
    script = """
        import json, pathlib
        import lm_eval.models
        from lm_eval.api.registry import model_registry
        import lift_eval, lift_eval._autoload, lift_eval.recipe
        from importlib.metadata import version
        recipes = {name: lift_eval.recipe.load_recipe(name) for name in lift_eval.recipe.shipped_recipes()}
        print(json.dumps({
            "package": str(pathlib.Path(lift_eval.__file__).resolve().parent),
            "tasks": str(pathlib.Path(lift_eval._autoload.tasks_folder()).resolve()),
            "recipes": sorted(recipes),
            "known": "lift" in model_registry,
            "version": version("lift-eval"),
        }))
    """
    found = json.loads(installation.run("python", "-c", textwrap.dedent(script)))
    if installation.kind == "wheel":
        assert Path(found["package"]).is_relative_to(installation.folder.resolve())
        assert found["tasks"] == f"{found['package']}/tasks"
    else:
        assert (found["package"], found["tasks"]) == (str(ROOT / "lift_eval"), str(ROOT / "tasks"))
    assert {"icl", "lora"} <= set(found["recipes"])
    assert found["known"] is True
    assert found["version"] == __version__
    assert (installation.folder / "bin" / "lift-eval").is_file()


@pytest.mark.parametrize("installation", ["wheel"], indirect=True)
def test_lm_eval_lists_the_tasks_of_an_installed_wheel(installation: Installation) -> None:
    listed = installation.run("python", "-m", "lm_eval", "ls", "tasks")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in listed.splitlines()]
    where = {cells[0]: cells[1] for cells in rows if len(cells) > 1}
    assert {"hellaswag", "mmlu", "loogle", "loogle_shortqa", "loogle_longqa"} <= set(where)
    assert Path(where["loogle_shortqa"]).is_relative_to(installation.folder.resolve())


def test_every_dependency_is_pinned() -> None:
    requirements = [Requirement(line) for line in requires("lift-eval") or []]
    asked = [one for one in requirements if one.marker is None or "bertscore" not in str(one.marker)]
    declared = {canonicalize_name(one.name) for one in asked}
    lock = (ROOT / "requirements.lock").read_text().replace(" \\\n    --hash=", " --hash=")
    lines = [line.partition(" --hash=") for line in lock.splitlines() if line and not line.startswith("#")]
    assert [name for name, _, hashes in lines if not hashes] == []
    locked = [Requirement(name) for name, _, _ in lines]
    pinned = {canonicalize_name(one.name) for one in locked if str(one.specifier).startswith("==")}
    assert {"torch", "lm-eval", "pytest"} <= declared <= pinned


def test_make_explains_its_targets_and_the_documents_name_only_those() -> None:
    explained = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = set(re.findall(r"^  make (\w+) +\S", explained, re.M))
    assert {"setup", "demo", "test", "check", "reports", "bench", "soak", "clean"} <= targets
    documents = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / ".ci" / "run"]
    text = "\n".join(path.read_text() for path in documents)
    named = set(re.findall(r"(?:^ *|`)make ([a-z]+)", text, re.M))
    assert {"test", "check"} <= named <= targets


def test_every_library_that_is_imported_is_declared() -> None:
    files = (ROOT / "lift_eval").rglob("*.py")
    roots = {name.partition(".")[0] for path in files for name in imports(path)}
    homes = packages_distributions()
    imported = {
        canonicalize_name(homes.get(root, [root])[0])
        for root in roots - {"__future__", "lift_eval", *sys.stdlib_module_names}
    }
    declared = [Requirement(line) for line in requires("lift-eval") or []]
    assert {"torch", "lm-eval"} <= imported
    assert imported <= {canonicalize_name(one.name) for one in declared if "'dev'" not in str(one.marker)}
