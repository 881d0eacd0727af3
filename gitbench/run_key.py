"""Run keys, and specs from JSON: what decides a run's result, hashed; and the values of `dataclasses.asdict` read back.

One rule for every field of every spec: a field at its default never enters a key, so that a field that is added later
changes none. Fields made by `spec.unkeyed` never enter at all.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from gitbench.errors import GitbenchError
from gitbench.files import read_json
from gitbench.spec import RunSpec

# Enters every run key: raise it when a change alters the numbers a run produces.
NUMERICS_VERSION = 7
# Enters the key of a run whose encoder does not ship: raise it when a recipe of pre-training would give other weights.
PRETRAIN_VERSION = 1

Spec = TypeVar("Spec")


def run_key(spec: RunSpec | Mapping[str, Any], data_fingerprint: str, numerics: int | None = None) -> str:
    """Hash what decides a run's result: canonical spec, data content and numerics version (None: this code's).

    `spec` may be canonical already. 16 hex digits.
    """
    payload = {"spec": canonical(spec), "data": data_fingerprint, "numerics": numerics or NUMERICS_VERSION}
    return hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()[:16]


def canonical(value: Any) -> Any:
    """Return the part of a spec that decides its result, as plain JSON values: what is keyed and not at its default."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            each.name: canonical(found)
            for each in dataclasses.fields(value)
            if each.metadata.get("keyed", True) and _departs(found := getattr(value, each.name), default_of(each))
        }
    if isinstance(value, Mapping):  # a spec at its defaults says nothing: it is left out as its axis would be
        kept = {str(key): (each, canonical(each)) for key, each in sorted(value.items())}
        return {key: found for key, (each, found) in kept.items() if found != {} or not dataclasses.is_dataclass(each)}
    return [canonical(each) for each in value] if isinstance(value, (list, tuple)) else value


def _departs(found: Any, default: Any) -> bool:
    """Tell whether a field's value decides something else than its default does."""
    if dataclasses.is_dataclass(found) and dataclasses.is_dataclass(default):
        return bool(canonical(found) != canonical(default))
    return bool(found != default)


def default_of(field: dataclasses.Field) -> Any:
    """Return the default of a dataclass field; MISSING where it has none."""
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def from_json(kind: type[Spec], values: Mapping[str, Any]) -> Spec:
    """Build a frozen dataclass from JSON values; errors as of `typed_fields`, and TypeError for missing fields."""
    return kind(**typed_fields(kind, values))


def typed_fields(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of some fields of a dataclass: nested dataclasses and tuples as its type hints say.

    Values may be a stranger's, so each must be of the kind that its hint names. Errors: TypeError for unknown fields and
    for values of another kind, which names them; ValueError for a tuple of another length.
    """
    hints = typing.get_type_hints(kind)
    if unknown := sorted(set(values) - set(hints)):
        raise TypeError(f"{kind.__name__} has no field {unknown[0]}")
    return {name: _typed(hints[name], value, f"{kind.__name__}.{name}") for name, value in values.items()}


def read_as(kind: type[Spec], path: Path, fix: str) -> Spec:
    """Read a frozen dataclass from the JSON file that holds its values, and maybe a "schema".

    Errors: GitbenchError that names the `fix` for a damaged file.
    """
    values = read_json(path)
    try:
        return from_json(kind, {name: value for name, value in values.items() if name != "schema"})
    except (TypeError, ValueError, AttributeError):
        raise GitbenchError(f"{path} is damaged: {fix}") from None


def _typed(hint: Any, value: Any, name: str) -> Any:
    kind, parts = typing.get_origin(hint) or hint, typing.get_args(hint)
    if kind is types.UnionType:
        return None if value is None else _typed(next(one for one in parts if one is not type(None)), value, name)
    if kind is tuple and isinstance(value, (list, tuple)):
        each = [parts[0]] * len(value) if parts[-1] is Ellipsis else parts
        return tuple(_typed(part, one, name) for part, one in zip(each, value, strict=True))
    if isinstance(value, Mapping):
        if dataclasses.is_dataclass(kind):
            return from_json(kind, value)  # type: ignore[arg-type]
        if kind is Mapping:
            return {key: _typed(parts[1], one, f"{name}[{key!r}]") for key, one in value.items()}
    fits = value in parts if kind is typing.Literal else kind is Any or type(value) is kind
    if fits or (kind is float and type(value) is int):
        return value
    raise TypeError(f"{name} is {value!r}, of another kind")
