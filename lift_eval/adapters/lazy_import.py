"""bitsandbytes, imported when something is quantized and not before (docs/decisions/0018-bitsandbytes.md).

peft imports it wherever it is installed, and it sets functions up for compilation while it is imported. That takes
several times as long as everything else that this package adds to the start of a run, few of which quantize.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

NAME = "bitsandbytes"


class LazyModule(ModuleType):
    """A module that is executed when somebody wants more of it than its name and its file.

    Unlike the one of `importlib.util.LazyLoader` it is not woken by whoever looks at the files of all modules, as
    torch does.
    """

    def __getattr__(self, name: str) -> object:
        spec = self.__spec__
        assert spec is not None
        assert spec.loader is not None
        self.__class__ = ModuleType  # type: ignore[assignment] # from here on it is any module
        self.__path__ = spec.submodule_search_locations or []
        try:
            spec.loader.exec_module(self)
        except BaseException:
            del self.__path__
            self.__class__ = LazyModule  # the next one is told the same
            raise
        return getattr(self, name)


def lazy_import(name: str = NAME) -> None:
    """Let a package be executed when it is needed; one that is missing or there already stays as it is.

    Args:
        name: Of the package.
    """
    if name in sys.modules or (spec := importlib.util.find_spec(name)) is None:
        return
    module = LazyModule(name)
    module.__spec__, module.__loader__, module.__file__ = spec, spec.loader, spec.origin
    sys.modules[name] = module  # without a __path__, so that importing a part of it wakes it too


@contextmanager
def nothing_quantized() -> Iterator[None]:
    """Let peft adapt a model that is not quantized without waking bitsandbytes to find this out."""
    waiting = sys.modules.get(NAME)
    if not isinstance(waiting, LazyModule):
        yield
        return
    from peft.import_utils import is_bnb_4bit_available, is_bnb_available

    sys.modules[NAME] = None  # type: ignore[assignment] # how Python is told that there is no such module
    try:
        yield
    finally:
        sys.modules[NAME] = waiting
        for asked in (is_bnb_available, is_bnb_4bit_available):
            asked.cache_clear()
