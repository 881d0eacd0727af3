"""Putting encoders into the package of a clone: their files, and the manifest that planning reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from gitbench.data.scenes.world import VERSION
from gitbench.encoders.manifest import Entry, manifest, write_manifest
from gitbench.encoders.quality import is_measured
from gitbench.encoders.store import read_encoder
from gitbench.encoders.wanted import Wanted
from gitbench.errors import GitbenchError
from gitbench.files import ROOT, atomic_path
from gitbench.run_key import PRETRAIN_VERSION

MOST_BYTES = 4_000_000  # of all files together


def check_clone() -> None:
    """Refuse to ship from an installation: only a clone can be committed."""
    if not (ROOT / "pyproject.toml").is_file():
        raise GitbenchError(
            "--ship writes into the package of a clone, and this is an installation: run it from a clone"
        )


def ship(made: Mapping[str, Path], wanted: Iterable[Wanted], folder: Path) -> dict[str, Entry]:
    """Put encoders (name -> file) into a folder, beside those that are there; returns its manifest's entries.

    What is not `wanted` any more, by name and recipe, or was made by another version of scenes or pre-training, is taken out.
    Errors: an encoder whose quality was not measured; more bytes than may ship.
    """
    current = [(each.name, each.recipe, VERSION, PRETRAIN_VERSION) for each in wanted]
    entries = {name: entry for name, entry in manifest(folder).items() if (name, *entry.made_as[1:]) in current}
    contents = {name: path.read_bytes() for name, path in made.items()}
    for name, path in made.items():
        found = read_encoder(path)
        if not is_measured(found.notes):
            raise GitbenchError(f"{path}: its quality was not measured: make it with `gitbench pretrain`")
        entries[name] = Entry(name=name, content=found.content, notes=found.notes)
    kept = {name: folder / f"{name}.safetensors" for name in entries}
    size = sum(len(contents[name]) if name in contents else path.stat().st_size for name, path in kept.items())
    if size > MOST_BYTES:
        raise GitbenchError(
            f"{size / 1e6:.1f} MB of encoders are more than the {MOST_BYTES / 1e6:g} MB that ship: make fewer"
        )
    for name, content in contents.items():
        with atomic_path(kept[name]) as temporary:
            temporary.write_bytes(content)
    write_manifest(entries, folder)
    for file in folder.glob("*.safetensors"):
        if file not in kept.values():
            file.unlink()
    return entries
