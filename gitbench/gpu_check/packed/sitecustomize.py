"""Stands in for large packages that gitbench's own import and never use in a check, where they are missing.

Python imports a module of this name when it starts. Whatever is asked of such a package is there, and an error once it is used.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import types
from typing import Any

ABSENT = ("cv2", "matplotlib", "torchvision")


class _Kind(type):
    def __getattr__(cls, name: str) -> Any:
        return _stand_in(cls, name)


class _Missing(metaclass=_Kind):
    """Whatever is asked of a package that is missing: a class of its own for each name."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise RuntimeError(f"one of {', '.join(ABSENT)} is not in this archive and not installed")


def _stand_in(owner: Any, name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    made = _Kind(name, (_Missing,), {})
    setattr(owner, name, made)
    return made


class _Module(types.ModuleType):
    __path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return _stand_in(self, name)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.partition(".")[0] not in ABSENT:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: Any) -> types.ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        module.__version__ = "0"  # type: ignore[attr-defined] # which others compare with what they need
        if module.__name__ == "cv2":  # mmengine tells it not to start threads
            module.setNumThreads = lambda number: None  # type: ignore[attr-defined]


sys.meta_path.append(_Finder())  # the last to be asked: what is installed comes first
