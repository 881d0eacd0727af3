"""How a data set is named on one line: `NAME`, `PATH`, `SET:PATH` or `hub:OWNER/NAME[@REVISION]`, with options after a `?`.

    photos?columns=image=jpg,captions=txt&split=80/10/10

* `columns`: role=column pairs, where the names of columns leave a choice (roles: see `columns`);
* `split`: how train, val and test are made of what the data state, see `splits`;
* `images`: a further folder in which image files are looked for;
* `config`: which of the configurations of a data set on the hub.

`SET:PATH` is a folder that holds a published set (`coco_karpathy:data/coco`), see `published`.

One line, because it travels through plans, run folders and worker processes as one word.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gitbench.errors import GitbenchError, unknown_name

OPTIONS = ("columns", "split", "images", "config")
HUB = "hub:"
_SET = re.compile(r"(?P<set>[a-z][a-z0-9_]+):(?P<path>(?!//).+)", re.DOTALL)
_TAIL = re.compile(r"^(?P<name>.+?)\?(?P<options>(?:[a-z]+=[^&]*)(?:&[a-z]+=[^&]*)*)$")


@dataclass(frozen=True, kw_only=True)
class Address:
    """The parts of a data set's name."""

    name: str  # registered name, path, or hub:OWNER/NAME
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # role -> columns
    split: str = ""
    images: str = ""
    config: str = ""
    published: str = ""  # the name of the published set that the folder holds

    @property
    def on_hub(self) -> bool:
        return self.name.startswith(HUB)

    @property
    def path(self) -> Path:
        return Path(self.name).expanduser()

    def __str__(self) -> str:
        columns = ",".join(f"{role}={'+'.join(names)}" for role, names in self.columns.items())
        options = {"columns": columns, "split": self.split, "images": self.images, "config": self.config}
        tail = "&".join(f"{name}={value}" for name, value in options.items() if value)
        name = f"{self.published}:{self.name}" if self.published else self.name
        return f"{name}?{tail}" if tail else name


def parse(text: str) -> Address:
    """Take a data set's name apart. Errors: an option that is unknown, or given twice.

    A path that exists as it stands is that path, with a question mark in it or not.
    """
    if os.path.exists(os.path.expanduser(text)):  # False, too, for what is too long for a path
        return Address(name=text)
    found = _TAIL.match(text)
    if found is None:
        return _named(text)
    given: dict[str, str] = {}
    for pair in found["options"].split("&"):
        option, _, value = pair.partition("=")
        if option not in OPTIONS:
            raise unknown_name(f"option of the data set {found['name']}", option, OPTIONS)
        if option in given:
            raise GitbenchError(f"{text}: the option {option} is given twice: give it once")
        given[option] = value
    columns = parse_columns(given.pop("columns", ""))
    return dataclasses.replace(_named(found["name"]), columns=columns, **given)


def _named(text: str) -> Address:
    """Read a name without options, and before it that of a published set."""
    found = None if text.startswith(HUB) else _SET.fullmatch(text)
    return Address(name=found["path"], published=found["set"]) if found else Address(name=text)


def with_options(text: str, given: Mapping[str, str]) -> str:
    """Return a data set's name with options added: option -> value. Errors: one that it has already, a malformed one."""
    address = parse(text)
    columns, rest = given.get("columns", ""), {name: value for name, value in given.items() if name != "columns"}
    if twice := [name for name in given if getattr(address, name)]:
        raise GitbenchError(f"--{twice[0]}: {text} says it already: give it once")
    return str(dataclasses.replace(address, columns=parse_columns(columns) or address.columns, **rest))


def parse_columns(text: str) -> dict[str, tuple[str, ...]]:
    """Read `role=column,role=column+column`: role -> columns. Errors: what is not of that form, a role given twice."""
    found: dict[str, tuple[str, ...]] = {}
    for pair in filter(None, text.split(",")):
        role, equals, names = pair.partition("=")
        if not equals or not role or not names:
            raise GitbenchError(f"columns '{text}': write role=column,role=column, such as image=jpg,captions=txt")
        if role in found:
            raise GitbenchError(f"columns '{text}': {role} is given twice: join its columns with '+'")
        found[role] = tuple(names.split("+"))
    return found


def by_name(text: str) -> str:
    """Return a data set's name with folders and files by their names alone, for commands that others are to run."""
    address = parse(text)
    name, images = (
        os.path.basename(os.path.abspath(os.path.expanduser(each))) for each in (address.name, address.images)
    )
    return str(
        dataclasses.replace(
            address, name=address.name if address.on_hub else name, images=images if address.images else ""
        )
    )


def resolved(text: str) -> str:
    """Return a data set's name with absolute paths, so that another process finds it; registered names stay."""
    from gitbench.data import data_names

    address = parse(text)
    if text in data_names() or (not address.on_hub and not os.path.exists(address.path)):
        return text
    name = address.name if address.on_hub else str(address.path.resolve())
    images = str(Path(address.images).expanduser().resolve()) if address.images else ""
    return str(dataclasses.replace(address, name=name, images=images))
