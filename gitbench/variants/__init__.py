"""The model variants, one file an axis: `encoder`, `decoder`, `vision`, ...

A variant is a name for a frozen spec. `add("decoder", "self_6x768", DecoderSpec(...))` puts it into the registry as
"decoder/self_6x768"; `resolve("decoder", "self_6x768")` gives the spec back. A new variant is one entry in its
axis's file, a new axis is one new file here: every module of this package is imported when the package is.

Kept apart from the registry that reads them (`gitbench.registry`), whose mmengine takes 0.3 s to import: `gitbench list`
needs the names only.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

from gitbench.errors import GitbenchError, unknown_name

BUILDERS: dict[str, Callable[..., Any]] = {}  # "<axis>/<name>" -> a function that gives the spec


def add(axis: str, name: str, spec: Any) -> None:
    """Register `spec` as variant `name` of `axis`; building it with keywords replaces single fields.

    A name that is taken is a GitbenchError.
    """
    key = f"{axis}/{name}"
    if key in BUILDERS:
        raise GitbenchError(f"there are two variants {key}: give one of them another name")

    def build(**overrides: Any) -> Any:
        known = {f.name for f in dataclasses.fields(spec)}
        for field in overrides:
            if field not in known:
                raise unknown_name(f"field of {key}", field, known)
        return dataclasses.replace(spec, **overrides)

    build.__name__ = key
    BUILDERS[key] = build


def axes() -> dict[str, list[str]]:
    """Return axis -> names of its variants, in order of registration."""
    found: dict[str, list[str]] = {}
    for key in BUILDERS:
        axis, name = key.split("/", 1)
        found.setdefault(axis, []).append(name)
    return found


def resolve(axis: str, name: str) -> Any:
    """Return the spec of a variant; an unknown axis or name raises an error that offers the nearest one."""
    build = BUILDERS.get(f"{axis}/{name}")
    if build is not None:
        return build()
    known = axes()
    if axis not in known:
        raise unknown_name("axis", axis, known)
    raise unknown_name(f"{axis} variant", name, known[axis])


for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
