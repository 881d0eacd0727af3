"""Plugins: code outside of the package that adds variants, axes, ablations, data sets or metrics of its own.

A plugin is a module that registers things when it is imported. It is named by `--plugin` (a module, or the path of a
file), by an entry point of the group "gitbench.plugins" of an installed package, or it is an ablation file given by its
path. Every process that gitbench starts imports the same ones: they are handed on in the environment.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from gitbench.errors import GitbenchError

GROUP = "gitbench.plugins"
VARIABLE = "GITBENCH_PLUGINS"  # what child processes import, separated as paths are


def load(names: Iterable[str] = ()) -> None:
    """Import the named plugins, those of installed packages, and those that the parent process has loaded.

    Errors: GitbenchError for a plugin that is not there or cannot be imported.
    """
    from importlib.metadata import entry_points  # 0.05 s, which `--help` need not pay

    installed = [each.module for each in entry_points(group=GROUP)]
    for name in dict.fromkeys([*installed, *_handed_on(), *names]):
        try:
            if name.endswith(".py"):
                load_file(Path(name))
                name = str(Path(name).resolve())
            else:
                importlib.import_module(name)
        except GitbenchError:
            raise
        except (Exception, SystemExit) as error:
            raise GitbenchError(
                f"plugin {name} cannot be imported ({type(error).__name__}: {error}): correct it, or check --plugin"
            ) from error
        hand_on(name)


def load_file(path: Path) -> ModuleType:
    """Import a Python file by its path, once, and return the module."""
    path = path.resolve()
    name = f"gitbench_file_{path.stem}"
    loaded = sys.modules.get(name)
    if loaded is not None and loaded.__file__ == str(path):
        return loaded
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise GitbenchError(f"plugin {path} is not there: pass the path of a Python file, or a module's name")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def hand_on(name: str) -> None:
    """Let the processes that this one starts import a plugin too. Errors: GitbenchError for a path that cannot be said."""
    if os.pathsep in name:
        raise GitbenchError(f"plugin {name}: its path holds '{os.pathsep}', which separates paths: rename the folder")
    os.environ[VARIABLE] = os.pathsep.join(dict.fromkeys([*_handed_on(), name]))


def modules() -> list[str]:
    """Return the plugins that are modules, as a run's config names them."""
    return [name for name in _handed_on() if not name.endswith(".py")]


def files_by_name() -> dict[str, list[Path]]:
    """Return plugin -> its Python files, of a package all, in the order of their names; a file is called by its stem."""
    found: dict[str, list[Path]] = {}
    for name in _handed_on():
        called = Path(name).stem if name.endswith(".py") else name
        module = sys.modules.get(f"gitbench_file_{called}" if name.endswith(".py") else name)
        place = Path(module.__file__) if module is not None and module.__file__ else None
        if place is not None:
            found[called] = sorted(place.parent.rglob("*.py")) if place.name == "__init__.py" else [place]
    return found


def files() -> list[Path]:
    """Return the Python files of the plugins, in the order of their names."""
    return sorted({file for some in files_by_name().values() for file in some})


def environment() -> dict[str, str]:
    """Return what a child process needs in its environment to load the same plugins."""
    return {VARIABLE: os.environ[VARIABLE]} if os.environ.get(VARIABLE) else {}


def _handed_on() -> list[str]:
    return [name for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name]
