"""The encoders that ship with the package: a manifest beside this file, and one file of weights each.

The manifest holds all notes of every encoder, so that planning can look one up, and its page can be made, without torch.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gitbench.data.scenes.world import VERSION
from gitbench.encoders.store import StoredEncoder, read_encoder
from gitbench.errors import GitbenchError
from gitbench.files import read_json, write_text
from gitbench.run_key import PRETRAIN_VERSION, from_json
from gitbench.spec import PretrainSpec
from gitbench.variants.encoder import EncoderSpec

FOLDER = Path(__file__).resolve().parent
SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A shipped encoder: name, hash of its content, and notes on how it was made (see `training.pretrain`)."""

    name: str
    content: str
    notes: Mapping[str, Any]

    @functools.cached_property
    def encoder(self) -> EncoderSpec:
        return from_json(EncoderSpec, self.notes["encoder"])

    @functools.cached_property
    def recipe(self) -> PretrainSpec:
        return from_json(PretrainSpec, self.notes["recipe"])

    @property
    def made_as(self) -> tuple[Any, ...]:
        """What decides which encoder it is: size, recipe, versions of the scenes and of pre-training."""
        version = self.notes.get("version", 1)  # those of version 1 did not say so
        return dataclasses.asdict(self.encoder), self.recipe, self.notes["scenes"], version

    def is_made_as(self, notes: Mapping[str, Any]) -> bool:
        """Tell whether notes are of an encoder that was made as this one; a stranger's notes are of none."""
        try:
            return self.made_as == Entry(name=self.name, content="", notes=notes).made_as
        except (KeyError, TypeError, ValueError, AttributeError):
            return False


def manifest(folder: Path | None = None) -> dict[str, Entry]:
    """Return what ships (None: with this package), name -> entry; nothing where there is no manifest."""
    path = (folder or FOLDER) / "manifest.json"
    return dict(_read(path)) if path.is_file() else {}


@functools.cache  # planning asks for it once a run
def _read(path: Path) -> Mapping[str, Entry]:
    values = read_json(path)
    try:
        if values.get("schema") != SCHEMA:
            raise GitbenchError(f"{path} is of another version of gitbench: reinstall gitbench")
        found = {
            name: Entry(name=name, content=each["content"], notes={k: v for k, v in each.items() if k != "content"})
            for name, each in values["encoders"].items()
        }
        for entry in found.values():
            _ = entry.made_as
    except (KeyError, TypeError, ValueError, AttributeError):
        raise GitbenchError(f"{path} is damaged: reinstall gitbench, or restore the file of the clone") from None
    return found


def write_manifest(entries: Mapping[str, Entry], folder: Path) -> None:
    """Write the manifest, sorted by name, a field of an encoder a line."""
    encoders = []
    for name in sorted(entries):
        fields = {"content": entries[name].content, **entries[name].notes}
        lines = ",\n".join(f"      {json.dumps(key)}: {json.dumps(value)}" for key, value in fields.items())
        encoders.append(f"    {json.dumps(name)}: {{\n{lines}\n    }}")
    body = ",\n".join(encoders)
    write_text(folder / "manifest.json", f'{{\n  "schema": {SCHEMA},\n  "encoders": {{\n{body}\n  }}\n}}\n')
    _read.cache_clear()


def find_shipped(encoder: EncoderSpec, recipe: PretrainSpec) -> Entry | None:
    """Return the shipped encoder of this size and recipe, made by these versions of scenes and pre-training, or None.

    Errors: GitbenchError where its file is missing from this installation.
    """
    wanted = (dataclasses.asdict(encoder), recipe, VERSION, PRETRAIN_VERSION)
    found = next((entry for entry in manifest().values() if entry.made_as == wanted), None)
    if found is not None and not (file := FOLDER / f"{found.name}.safetensors").is_file():
        raise GitbenchError(f"{file} is missing: reinstall gitbench, or restore the file of the clone")
    return found


def load_shipped(content: str) -> StoredEncoder:
    """Read the shipped encoder with this content. Errors: one line where none of this installation has it."""
    for entry in manifest().values():
        if entry.content == content:
            return read_encoder(FOLDER / f"{entry.name}.safetensors", content)
    raise GitbenchError(
        f"no encoder of this installation has the content {content[:8]} that the run was planned with: use the version of "
        "gitbench that planned it, or plan the study again"
    )
