"""The model variants, one file an axis: `encoder`, `decoder`, `vision`, ...

A variant is a name for a frozen spec. `add("decoder", "self_6x768", DecoderSpec(...))` puts it into the registry as
"decoder/self_6x768"; `resolve("decoder", "self_6x768")` gives the spec back. A new variant is one entry in its
axis's file, a new axis is one new file here: every module of this package is imported when the package is.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from typing import Any

from gitbench.errors import unknown_name
from gitbench.registry import VARIANTS


def add(axis: str, name: str, spec: Any) -> None:
    """Register `spec` as variant `name` of `axis`; building it with keywords replaces single fields."""

    def build(**overrides: Any) -> Any:
        known = {f.name for f in dataclasses.fields(spec)}
        for field in overrides:
            if field not in known:
                raise unknown_name(f"field of {axis}/{name}", field, known)
        return dataclasses.replace(spec, **overrides)

    build.__name__ = f"{axis}/{name}"
    build.spec = spec  # type: ignore[attr-defined]
    VARIANTS.register_module(name=f"{axis}/{name}", module=build)


def axes() -> dict[str, list[str]]:
    """Return axis -> names of its variants, in order of registration."""
    found: dict[str, list[str]] = {}
    for key in VARIANTS.module_dict:
        axis, name = key.split("/", 1)
        found.setdefault(axis, []).append(name)
    return found


def resolve(axis: str, name: str) -> Any:
    """Return the spec of a variant; an unknown axis or name raises an error that offers the nearest one."""
    known = axes()
    if axis not in known:
        raise unknown_name("axis", axis, known)
    if name not in known[axis]:
        raise unknown_name(f"{axis} variant", name, known[axis])
    return VARIANTS.module_dict[f"{axis}/{name}"]()  # not VARIANTS.get(), whose logging imports torch


for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
