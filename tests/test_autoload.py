"""lm-eval knows `lift` and our tasks without being told, and nothing else changes for anyone."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn

import lm_eval.tasks
import lm_eval.tasks.manager
import pytest
from lm_eval._cli.harness import HarnessCLI
from lm_eval.models.dummy import DummyLM
from lm_eval.tasks import TaskManager
from lm_eval.tasks._index import TaskIndex

from lift_eval import _autoload
from tests import line


def python(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a fresh interpreter, somewhere else than in the repository."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=Path(sys.executable).parent,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def said(script: str, **variables: str) -> object:
    """What a script prints as JSON. It must succeed and leave standard error empty."""
    ran = python("-c", textwrap.dedent(script), **variables)
    assert (ran.returncode, ran.stderr) == (0, "")
    return json.loads(ran.stdout)


# --- the interpreter -------------------------------------------------------------------------------------------


def test_an_interpreter_that_never_imports_lm_eval_loads_nothing_of_ours() -> None:
    loaded = said("import json, sys; print(json.dumps([name.partition('.')[0] for name in sys.modules]))")
    assert {"lift_eval", "torch", "transformers", "datasets", "lm_eval"}.isdisjoint(loaded)


def test_importing_lm_eval_loads_the_registration_and_no_more_of_ours() -> None:
    script = """
        import json, sys
        import lm_eval
        print(json.dumps(sorted(name for name in sys.modules if name.startswith(("lift_eval", "torch")))))
    """
    assert said(script) == ["lift_eval", "lift_eval._autoload"]


# --- the model -------------------------------------------------------------------------------------------------

LIFT_IN_REGISTRY = """
    import json, sys
    import lm_eval.models
    from lm_eval.api.registry import model_registry
    heavy = sorted({"torch", "transformers", "lift_eval.harness.model"} & set(sys.modules))
    print(json.dumps([str(dict(model_registry.items()).get("lift")), "hf" in model_registry, heavy]))
"""


def test_the_model_is_registered_by_name_and_not_imported() -> None:
    assert said(LIFT_IN_REGISTRY) == ["lift_eval.harness.model:LiftLM", True, []]


def test_the_off_switch() -> None:
    assert said(LIFT_IN_REGISTRY, LIFT_EVAL_AUTOLOAD="0") == ["None", True, []]


@pytest.mark.parametrize("order", ["before", "after"])
def test_register_works_before_and_after_lm_eval_is_imported(order: str) -> None:
    steps = ["lift_eval.register()", "import lm_eval.models, lm_eval.tasks"]
    script = f"""
        import json, lift_eval
        {steps[0] if order == "before" else steps[1]}
        {steps[1] if order == "before" else steps[0]}
        lift_eval.register()
        from lm_eval.api.registry import model_registry
        from lm_eval.tasks import TaskManager
        print(json.dumps(["lift" in model_registry, TaskManager._reads_lift_eval]))
    """
    assert said(script, LIFT_EVAL_AUTOLOAD="0") == [True, True]


def test_silent_where_lm_eval_has_found_the_entry_point_already() -> None:
    script = """
        import json
        from importlib.metadata import entry_points
        from lm_eval.api.registry import model_registry
        [ours] = entry_points(group="lm_eval.models", name="lift")
        model_registry.register("lift", target=ours)
        import lm_eval.models
        print(json.dumps([dict(model_registry.items())["lift"] is ours, model_registry["lift"].__name__]))
    """
    ran = python("-c", textwrap.dedent(script))
    assert json.loads(ran.stdout) == [True, "LiftLM"]
    assert "lift" not in ran.stderr


def test_leaves_the_entry_point_to_an_lm_eval_that_looks_for_it_later() -> None:
    script = """
        import json
        from lm_eval.api import registry
        registry.load_plugins = lambda *arguments: []
        import lm_eval.models
        print(json.dumps("lift" in registry.model_registry))
    """
    assert said(script) is False


def test_modules_keep_their_loaders_and_can_be_reloaded() -> None:
    script = """
        import importlib, json
        import lm_eval.models, lm_eval.tasks
        from lm_eval.tasks import TaskManager
        once = TaskManager.__init__
        for module in (lm_eval.models, lm_eval.tasks):
            importlib.reload(module)
        loaders = {type(m.__loader__).__name__ for m in (lm_eval.models, lm_eval.tasks)}
        loaders |= {type(m.__spec__.loader).__name__ for m in (lm_eval.models, lm_eval.tasks)}
        source = importlib.util.find_spec("lm_eval.models").loader.get_source("lm_eval.models")
        print(json.dumps([sorted(loaders), TaskManager.__init__ is once, "MODEL_MAPPING" in source]))
    """
    assert said(script) == [["SourceFileLoader"], True, True]


def test_an_lm_eval_that_has_changed_still_works_without_us(tmp_path: Path) -> None:
    for name, source in {
        "__init__.py": "",
        "models/__init__.py": "",  # and no lm_eval.api.registry
        "tasks/__init__.py": "class TaskManager:\n    def __init__(self, folders=()):\n        self.ok = True\n",
    }.items():
        path = tmp_path / "lm_eval" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    script = "import lm_eval.models, lm_eval.tasks; print(lm_eval.tasks.TaskManager().ok)"
    ran = python("-c", script, PYTHONPATH=str(tmp_path))
    assert (ran.returncode, ran.stdout) == (0, "True\n")
    complaints = ran.stderr.splitlines()
    assert [line.split(": ")[0] for line in complaints] == [
        "lift_eval cannot extend lm_eval.models",
        "lift_eval cannot extend lm_eval.tasks",
    ]


def test_other_modules_are_none_of_its_business() -> None:
    for extensions in (_autoload._LM_EVAL, _autoload._PEFT):
        for name in ("json", "lm_eval.api.model", "peft.config"):
            assert _autoload._Finder(extensions).find_spec(name) is None


# --- the tasks -------------------------------------------------------------------------------------------------


def task_file(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(f"task: {name}\n")
    return path


@pytest.fixture
def small_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """lm-eval's own tasks are one, `builtin`: reading the real ones takes seconds."""
    task_file(tmp_path / "lm_eval_tasks", "builtin")
    monkeypatch.setattr(lm_eval.tasks.manager, "__file__", str(tmp_path / "lm_eval_tasks" / "manager.py"))
    return tmp_path


def test_the_default_tasks_include_ours(small_index: Path) -> None:
    manager = TaskManager()
    assert {"builtin", "loogle_shortqa", "loogle_longqa"} <= set(manager.all_subtasks)
    assert "loogle" in manager.all_groups
    assert manager.include_path is None


def test_without_the_default_tasks_ours_are_left_out_too(small_index: Path) -> None:
    task_file(small_index / "mine", "my_task")
    assert TaskManager(include_path=small_index / "mine", include_defaults=False).all_tasks == ["my_task"]
    assert TaskManager(include_defaults=False).all_tasks == []


@pytest.mark.parametrize("wrap", [str, Path, lambda folder: [folder], lambda folder: (str(folder),)])
def test_the_users_path_is_read_last_and_wins(small_index: Path, wrap) -> None:
    mine = task_file(small_index / "mine", "loogle_shortqa")
    given = wrap(small_index / "mine")
    manager = TaskManager(None, given)
    assert manager.task_index["loogle_shortqa"].yaml_path == mine
    assert {"builtin", "loogle_longqa"} <= set(manager.all_tasks)
    assert manager.include_path == given


def test_our_folder_given_by_hand_is_read_once(small_index: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        manager = TaskManager(include_path=[str(_autoload.tasks_folder())])
    assert "loogle_shortqa" in manager.all_tasks
    assert "overrides" not in caplog.text


@pytest.fixture
def folders_read(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """The folders that a command line of lm-eval reads tasks from, where it then ends."""
    _autoload.register()

    def read(*arguments: str) -> list[str]:
        folders: list[str] = []

        def build(paths: Iterable[Path]) -> NoReturn:
            folders.extend(map(str, paths))
            sys.exit()

        monkeypatch.setattr(TaskIndex, "build", staticmethod(build))
        monkeypatch.setattr(sys, "argv", ["lm_eval", *arguments])
        with pytest.raises(SystemExit):
            HarnessCLI().execute(HarnessCLI().parse_args())
        return folders

    return read


LM_EVALS = str(Path(lm_eval.tasks.__file__).parent)
OURS = str(_autoload.tasks_folder())


@pytest.mark.parametrize(
    "tasks", [["lift_tiny"], ["loogle,lift_niah"], ["loogle_shortqa", "lift_tiny_longqa"]]
)
def test_a_command_line_that_names_our_tasks_reads_no_others(
    folders_read: Callable[..., list[str]], tasks: list[str]
) -> None:
    assert folders_read("run", "--model", "dummy", "--tasks", *tasks) == [OURS]


@pytest.mark.parametrize(
    "options",
    [
        ["--tasks", "loogle", "hellaswag"],
        ["--tasks", "loogle*"],
        ["--tasks", "loogle", "--include_path", "mine"],
    ],
)
def test_other_command_lines_read_all_tasks(
    folders_read: Callable[..., list[str]], options: list[str]
) -> None:
    mine = ["mine"] if "mine" in options else []
    assert folders_read("run", "--model", "dummy", *options) == [LM_EVALS, OURS, *mine]


def test_our_task_names_are_those_that_lm_eval_finds() -> None:
    names = TaskManager(include_path=OURS, include_defaults=False).all_tasks
    assert _autoload.task_names() == set(names)


# --- in interpreters of their own; tests/test_packaging.py lists our tasks among all of lm-eval's -------------------


def test_accelerate_launch_finds_our_tasks() -> None:
    launch = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes=1", "-m", "lm_eval"]
    ran = python(*launch, "validate", "--tasks", "loogle_shortqa,loogle")
    assert ran.returncode == 0, ran.stderr
    assert "All tasks found and valid" in ran.stdout


def test_a_run_knows_lift_without_an_import_of_ours_and_says_nothing_that_is_ours_to_prevent(
    tmp_path: Path,
) -> None:
    """Neither git's complaint outside of a repository, nor lm-eval's on rows of a function and metrics of some rows."""
    script = f"""
        import os, lm_eval.tasks.manager
        os.chdir({str(tmp_path)!r})
        lm_eval.tasks.manager.__file__ = os.path.abspath("manager.py")  # a small index of tasks
        results = lm_eval.simple_evaluate(
            model="lift", model_args="recipe=tiny_icl,store=off", tasks=["lift_tiny_longqa"], device="cpu",
            metadata={{"documents": 1}},
        )
        scores = results["results"]["lift_tiny_longqa"]
        print(results["config"]["model"], results["git_hash"], scores["exact_match_computation,none"])
    """
    ran = python("-c", textwrap.dedent(script), LMEVAL_LOG_LEVEL="WARNING")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("lift None 0.")
    lines = [line for line in ran.stderr.replace("\r", "\n").splitlines() if line.strip()]
    ours = ("document of ", "%|", "questions", "answering ", " \x1b[A")  # what a run says of itself
    assert [line for line in lines if not any(part in line for part in ours)] == []


def test_models_of_other_classes_are_evaluated_as_ever(tmp_path: Path) -> None:
    """Also those that were made before: what our model refuses is none of their business."""
    folder = line.prepare(tmp_path, documents=1)
    _autoload.register()
    done = lm_eval.simple_evaluate(
        model=DummyLM(),
        tasks=[line.task(folder, "answers")],
        task_manager=TaskManager(include_defaults=False),
        random_seed=-1,  # which Python takes, and our model does not
        bootstrap_iters=0,
    )
    assert done["results"]["answers"]["exact_match,none"] == 0
