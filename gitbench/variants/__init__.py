"""The axes, one file each (`encoder`, `decoder`, `vision`, ...), with their variants.

A variant is a name for a frozen spec. `add("decoder", "self_3x96", spec)` adds one, `resolve("decoder", "self_3x96")`
gives it back. A new axis is one new file here that exports `AXIS`; a plugin calls `register(Axis(...))`.

Kept apart from the registry that reads them (`gitbench.registry`), whose mmengine takes 0.3 s to import: `gitbench list`
needs the names only.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

from gitbench.axis import Axis
from gitbench.errors import GitbenchError, lookup
from gitbench.run_key import from_json
from gitbench.spec import RunSpec

AXES: dict[str, Axis] = {}


def register(axis: Axis) -> Axis:
    """Register an axis. Errors: GitbenchError for a name that is taken."""
    if axis.name in AXES:
        raise GitbenchError(f"there are two axes {axis.name}: give one of them another name")
    AXES[axis.name] = axis
    return axis


def get_axis(name: str) -> Axis:
    """Return an axis; an unknown name raises an error that offers the nearest one."""
    return lookup("axis", name, AXES)


def add(axis: str, name: str, spec: Any) -> None:
    """Add `spec` as variant `name` of an axis; see `Axis.add`."""
    get_axis(axis).add(name, spec)


def resolve(axis: str, name: str) -> Any:
    """Return the spec of a variant; an unknown axis or name raises an error that offers the nearest one."""
    return get_axis(axis).resolve(name)


def run_spec_from_json(values: Mapping[str, Any]) -> RunSpec:
    """Build the spec of a run from what its record holds (`dataclasses.asdict` of it).

    Errors: GitbenchError for an axis that is not known here, and for values that are no spec.
    """
    try:
        specs, names = values["variants"], values["variant_names"]
        if unknown := sorted({*specs, *names} - set(AXES)):
            raise GitbenchError(
                f"the axis {unknown[0]} of the run is not known here: name the plugin that registers it with --plugin"
            )
        if not set(specs) <= set(names):
            raise ValueError("a variant without a name")
        variants: dict[str, Any] = {axis: from_json(AXES[axis].spec, spec) for axis, spec in specs.items()}
        return dataclasses.replace(from_json(RunSpec, {**values, "variants": {}}), variants=variants)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise GitbenchError(
            f"this gitbench does not know the spec of the run ({error}): use the version that made it"
        ) from None


for _module in pkgutil.iter_modules(__path__):
    register(importlib.import_module(f"{__name__}.{_module.name}").AXIS)
