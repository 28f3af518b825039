"""Makes the model ``lift`` and the folder ``tasks/`` known to lm-evaluation-harness, and Gated Memory to peft.

A line in site-packages (``hatch_autorun_lift_eval.pth``, written by the build) waits for the import of lm_eval
and then calls `install`. That puts one finder in front of ``sys.meta_path``. The finder passes every import by,
except those of `_LM_EVAL`. Right after ``lm_eval.models`` has run, the model is registered, to be imported when it
is asked for. After ``lm_eval.tasks`` our tasks are added to the task manager. After ``lm_eval.evaluator`` a run's flags
are noted for the model, and on lm-eval's command line an error that a user can fix ends in one line. An
interpreter that never imports lm_eval never gets here.

lm-eval reads the 14,000 tasks of its own at every start, which takes longer than a small evaluation. A command line
that names none but ours is spared that.

Set ``LIFT_EVAL_AUTOLOAD=0`` to switch it off; `register` is the explicit way.

``import lift_eval`` calls `extend_peft`, so that peft loads adapters of Gated Memory. Nothing is imported for that
before peft is.
"""

from __future__ import annotations

import functools
import inspect
import logging
import os
import re
import sys
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    from lm_eval.tasks import TaskManager

    StrPath = str | os.PathLike[str]
    Extension = Callable[[ModuleType], None]

MODEL_NAME = "lift"
MODEL_TARGET = "lift_eval.harness.model:LiftLM"
OFF_SWITCH = "LIFT_EVAL_AUTOLOAD"
"""``0`` turns off automatic registration with lm-eval; call `register` instead."""

_ours_suffice: ContextVar[bool] = ContextVar("ours_suffice", default=False)
"""Whether the task managers that are being made need no task of lm-eval's own."""


def install() -> None:
    """Prepare lm-eval for ``--model lift`` and our tasks, unless ``LIFT_EVAL_AUTOLOAD=0``; never raises."""
    if os.environ.get(OFF_SWITCH) != "0":
        _install_finder(_LM_EVAL)


def register() -> None:
    """Register the model ``lift`` and our tasks with lm-eval, whatever ``LIFT_EVAL_AUTOLOAD`` says.

    Use it if automatic registration is off, or if the package is on the path without being installed. It may be
    called before or after lm_eval is imported, and more than once. Existing task managers keep their tasks.
    """
    _install_finder(_LM_EVAL)
    for name, extend in _LM_EVAL.items():
        module = sys.modules.get(name)
        if module is not None:
            extend(module)


def extend_peft() -> None:
    """Make Gated Memory known to peft: now if peft is imported already, otherwise right after it; never raises."""
    _install_finder(_PEFT)
    if "peft" in sys.modules:
        _extend(sys.modules["peft"], _add_gated_memory)


def tasks_folder() -> Path:
    """Where the task files are: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "tasks"
    return inside if inside.is_dir() else package.parent / "tasks"


def task_names() -> frozenset[str]:
    """The tasks and groups that our task files define."""
    texts = [path.read_text(encoding="utf-8") for path in tasks_folder().rglob("*.yaml")]
    return frozenset(
        name for text in texts for name in re.findall(r"^(?:task|group): *([\w-]+)", text, re.MULTILINE)
    )


def _install_finder(extensions: Mapping[str, Extension]) -> None:
    installed = [finder.extensions for finder in sys.meta_path if isinstance(finder, _Finder)]
    if extensions not in installed:
        sys.meta_path.insert(0, _Finder(extensions))


def _extend(module: ModuleType, extension: Extension) -> None:
    """Extend a module. If it has changed and cannot be extended, it must still work, if without us."""
    try:
        extension(module)
    except Exception as error:
        hint = f"; {OFF_SWITCH}=0 switches this off" if module.__name__ in _LM_EVAL else ""
        logging.getLogger(__name__).warning("lift_eval cannot extend %s: %s%s", module.__name__, error, hint)


def _add_gated_memory(_peft: ModuleType) -> None:
    # It registers itself. Where this module is why peft was imported, it goes on and does so in a moment.
    import lift_eval.adapters.gated_memory.method  # noqa: F401


def _add_model(_models: ModuleType) -> None:
    """Register ``lift`` as lm-eval registers its own models: by name, imported when it is asked for."""
    from lm_eval.api import registry

    # Releases after 0.4.13 find our entry point in the group `lm_eval.models`, by `load_plugins`.
    if hasattr(registry, "load_plugins") or MODEL_NAME in registry.model_registry:
        return
    registry.model_registry.register(MODEL_NAME, target=MODEL_TARGET)


def _extend_evaluator(evaluator: ModuleType) -> None:
    """Let the model know of the flags that lm-eval does not hand it, and ask git only where there is a repository."""
    original = evaluator.simple_evaluate
    if hasattr(original, "_notes_flags"):
        return
    signature = inspect.signature(original)

    @functools.wraps(original)
    def simple_evaluate(*args: object, **kwargs: object) -> object:
        call = signature.bind(*args, **kwargs)
        call.apply_defaults()
        if not _is_ours(call.arguments["model"]):
            return original(*args, **kwargs)
        from lift_eval.harness.flags import noting
        from lift_eval.harness.forms import follow_recipe

        with noting(call.arguments):
            follow_recipe(call.arguments)
            return original(*call.args, **call.kwargs)

    vars(simple_evaluate)["_notes_flags"] = True
    vars(evaluator).update(
        simple_evaluate=simple_evaluate, get_git_commit_hash=_quiet(evaluator.get_git_commit_hash)
    )


def _is_ours(model: object) -> bool:
    """Whether lm-eval was given the model ``lift``, by name or made already."""
    home = MODEL_TARGET.partition(":")[0]
    return model == MODEL_NAME or any(kind.__module__ == home for kind in type(model).__mro__)


def _quiet(get_git_commit_hash: Callable[[], str | None]) -> Callable[[], str | None]:
    """The commit that lm-eval runs in; outside of a repository there is none, and git would complain of it."""

    @functools.wraps(get_git_commit_hash)
    def commit() -> str | None:
        import shutil
        import subprocess

        git = shutil.which("git")
        outside = git and subprocess.run([git, "rev-parse"], capture_output=True, check=False).returncode  # noqa: S603
        return None if outside else get_git_commit_hash()

    return commit


def _prepare_command_line(harness: ModuleType) -> None:
    """Let lm-eval's command line end in one line where the program is not at fault, and read only tasks it needs."""
    command_line = harness.HarnessCLI
    if hasattr(command_line, "_ends_as_lift_eval"):
        return
    parse, original = command_line.parse_args, command_line.execute

    @functools.wraps(parse)
    def parse_args(self: object) -> Namespace:
        from lift_eval.harness.exit_status import set_exit_status

        with set_exit_status(foreign=MODEL_NAME in re.split(r"[\s=]", " ".join(sys.argv))):
            arguments: Namespace = parse(self)
            return arguments

    @functools.wraps(original)
    def execute(self: object, args: Namespace) -> None:
        from lift_eval.harness.exit_status import set_exit_status

        given = vars(args)
        model = given.get("model") or (MODEL_NAME if given.get("config") else None)
        with set_exit_status(foreign=model == MODEL_NAME), _tasks_of(args):
            original(self, args)

    command_line.parse_args, command_line.execute = parse_args, execute
    command_line._ends_as_lift_eval = True


@contextmanager
def _tasks_of(arguments: Namespace) -> Iterator[None]:
    """Note inside whether all tasks of a command line are ours; a file or folder of the user's may change any."""
    given = vars(arguments)
    words = given.get("tasks") or ()
    named = [name for word in ([words] if isinstance(words, str) else words) for name in word.split(",")]
    others = given.get("include_path") or given.get("config")
    token = _ours_suffice.set(bool(named) and not others and task_names().issuperset(named))
    try:
        yield
    finally:
        _ours_suffice.reset(token)


def _add_tasks(tasks: ModuleType) -> None:
    """Let every task manager that reads lm-eval's own tasks read ours next, and the user's paths last.

    Where two files define one name, the later path wins: a user's task can still replace ours.
    """
    manager = tasks.TaskManager
    if hasattr(manager, "_reads_lift_eval"):  # lm_eval.tasks was loaded again, its class was not
        return
    original = manager.__init__
    signature = inspect.signature(original)
    if not {"include_path", "include_defaults"} <= set(signature.parameters):
        raise TypeError("its TaskManager takes no include_path and include_defaults")

    @functools.wraps(original)
    def init(self: TaskManager, *args: object, **kwargs: object) -> None:
        call = signature.bind(self, *args, **kwargs)
        call.apply_defaults()
        given = call.arguments["include_path"]
        if call.arguments["include_defaults"]:
            call.arguments["include_path"] = _with_ours(given or ())
            call.arguments["include_defaults"] = not _ours_suffice.get()
        original(*call.args, **call.kwargs)
        self.include_path = given

    manager.__init__ = init
    manager._reads_lift_eval = True


def _with_ours(given: StrPath | Sequence[StrPath]) -> list[StrPath]:
    """Put our folder before the paths that the user gave, unless it is one of them."""
    paths: list[StrPath] = [given] if isinstance(given, (str, os.PathLike)) else list(given)
    ours = tasks_folder()
    return paths if ours in (Path(path).resolve() for path in paths) else [ours, *paths]


_LM_EVAL: dict[str, Extension] = {
    "lm_eval.models": _add_model,
    "lm_eval.tasks": _add_tasks,
    "lm_eval.evaluator": _extend_evaluator,
    "lm_eval._cli.harness": _prepare_command_line,
}
_PEFT: dict[str, Extension] = {"peft": _add_gated_memory}


class _Finder:
    """Finds some modules as the finders behind it do, and has them extended after they have run."""

    def __init__(self, extensions: Mapping[str, Extension]) -> None:
        self.extensions = extensions

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self.extensions:
            return None
        # Only those behind: the ones in front have been asked already, and may themselves be asking us.
        for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]:
            find_spec = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find_spec and find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _ExtendingLoader(spec.loader, self.extensions[name])  # type: ignore[assignment]
                return spec
        return None


class _ExtendingLoader:
    """Stands in for a module's loader until it has executed the module."""

    def __init__(self, loader: Loader, extension: Extension) -> None:
        self._loader, self._extension = loader, extension

    def __getattr__(self, name: str) -> object:
        return getattr(self._loader, name)

    def exec_module(self, module: ModuleType) -> None:
        # The module gets its own loader back first, so that nothing of this package stays in it.
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        _extend(module, self._extension)
