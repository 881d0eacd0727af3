"""From the files of a bundled run back to its `RunSpec`: what was run, without executing anything that was bundled.

A `config.py` is a program, and a bundle comes from a stranger. So it is read as text, its values only; the spec is built
from `record.json`, which holds what decides a result, and from what a record leaves out (names, workers) as the config
has it. The config that this spec gives here must then say the same, key by key, and the run key must come out again.
"""

from __future__ import annotations

import ast
import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from gitbench.errors import GitbenchError
from gitbench.spec import RunSpec
from gitbench.study.proof import ABSENT
from gitbench.variants import axes

Spec = TypeVar("Spec")
# The parts of a config that decide a result, and in them what does not: names, places, workers.
_DECIDE = (
    "model",
    "optim_wrapper",
    "param_scheduler",
    "randomness",
    "train_cfg",
    "train_dataloader",
    "test_dataloader",
)
_FREE = ("dataset.data", "num_workers", "type", "path", "tokenizer")


def read_values(text: str) -> dict[str, Any]:
    """Return the values of a `config.py` without running it: assignments of literals, lists, tuples and `dict(...)`.

    Errors: ValueError or SyntaxError for anything else.
    """
    found = {}
    for line in ast.parse(text).body:
        if not (isinstance(line, ast.Assign) and len(line.targets) == 1 and isinstance(line.targets[0], ast.Name)):
            raise ValueError(f"line {line.lineno} is no plain value")
        found[line.targets[0].id] = _value(line.value)
    return found


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        if node.args or any(word.arg is None for word in node.keywords):
            raise ValueError(f"line {node.lineno} is no plain dict(...)")
        return {word.arg: _value(word.value) for word in node.keywords}
    if isinstance(node, ast.Dict) and all(key is not None for key in node.keys):
        return {
            _value(key): _value(value) for key, value in zip(node.keys, node.values, strict=True) if key is not None
        }
    if isinstance(node, ast.List):
        return [_value(each) for each in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(each) for each in node.elts)
    return ast.literal_eval(node)


def spec_of(record: Mapping[str, Any], config: Mapping[str, Any], data: str) -> RunSpec:
    """Return the spec of a bundled run, to be run on `data`. Errors: ValueError, TypeError, KeyError where it is not whole.

    A tokenizer or BERT is named as the config names it; names of variants that this version does not know are replaced.
    """
    values = dict(record["spec"])
    dataset, model = config["train_dataloader"]["dataset"], config["model"]
    values["data"] = {**values["data"], "workers": config["train_dataloader"].get("num_workers", 0)}
    values["text"] = {**values["text"], "tokenizer": dataset["text_spec"]["tokenizer"]}
    every = config["default_hooks"]["checkpoint"]["interval"]
    values["train"] = {**values["train"], "checkpoint_every": every}
    if "decoder_init" in values:
        values["decoder_init"] = {**values["decoder_init"], "path": model["decoder_init"].get("path")}
    names = {axis: str(name) for axis, name in record["variant_names"].items()}
    known = axes()
    every_axis = {axis: names.get(axis, choices[0]) for axis, choices in known.items()}
    chosen = {axis: name if name in known[axis] else known[axis][0] for axis, name in every_axis.items()}
    return built(RunSpec, {**values, "data_name": data, "variant_names": chosen})


def built(kind: type[Spec], values: Mapping[str, Any]) -> Spec:
    """Build a frozen dataclass from JSON values: nested ones and tuples as its type hints say; unknown fields raise."""
    hints = typing.get_type_hints(kind)
    return kind(**{name: _typed(hints[name], value) for name, value in values.items()})


def _typed(hint: Any, value: Any) -> Any:
    choices = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    for choice in choices:
        if isinstance(value, dict) and dataclasses.is_dataclass(choice):
            return built(choice, value)  # type: ignore[arg-type]
        if isinstance(value, list) and typing.get_origin(choice) is tuple:
            return tuple(value)
    return value


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """Return "key: theirs, here ours" for what two configs of one run say differently, as far as it decides a result.

    Keys that the bundled one lacks are younger than it.
    """
    flat = dict(_flat(ours))
    found = []
    for key, value in _flat(theirs):
        if key.split(".")[0] not in _DECIDE or any(key == name or key.endswith(f".{name}") for name in _FREE):
            continue
        here = flat.get(key, ABSENT)
        if here != value:
            found.append(f"{key}: {value!r} there, {here!r} here")
    return found


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _flat(each, f"{path}.{key}" if path else str(key))
    elif isinstance(value, (list, tuple)):
        for index, each in enumerate(value):
            yield from _flat(each, f"{path}.{index}")
    else:
        yield path, value


def read_run(files: Mapping[str, bytes], key: str) -> dict[str, Any]:
    """Return the values of a bundled run's `config.py`; one line where it is not one that gitbench wrote."""
    name = f"runs/{key}/config.py"
    try:
        return read_values(files[name].decode())
    except (KeyError, ValueError, SyntaxError, RecursionError) as error:
        raise GitbenchError(f"{name} is no config of gitbench's ({error}): the run cannot be made again") from None
