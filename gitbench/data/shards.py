"""Tar shards of WebDataset: their samples, members of one stem; images stay in the archive and are read from there."""

from __future__ import annotations

import json
import lzma
import tarfile
import zlib
from itertools import islice
from pathlib import Path
from typing import Any

from gitbench.data.pictures import SUFFIXES, MemberPicture
from gitbench.errors import GitbenchError

_IMAGES = {suffix.removeprefix(".") for suffix in SUFFIXES}
_TEXTS = {"txt", "json", "cls"}
_PEEK = 16  # members in which a shard shows what it is
_DAMAGED = (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError)


def is_shard(path: Path) -> bool | None:
    """Tell whether an archive begins with images and texts, compressed or not; None for one that cannot be read."""
    try:
        with tarfile.open(path, "r:*") as archive:
            kinds = {_named(member.name)[1] for member in islice(archive, _PEEK) if member.isfile()}
    except _DAMAGED:
        return None
    return bool(kinds & _IMAGES and kinds & _TEXTS)


def _named(name: str) -> tuple[str, str]:
    """Return a member's stem and kind: `a/0001.seg.png` is the `seg.png` of `a/0001`."""
    folder, slash, last = name.rpartition("/")
    stem, _, kind = last.partition(".")
    return folder + slash + stem, kind.lower()


def samples_of(path: Path) -> dict[str, dict[str, Any]]:
    """Read the texts of a shard: stem -> its image, unread, and its columns. Errors: a damaged shard, half a sample."""
    found: dict[str, dict[str, Any]] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                stem, kind = _named(member.name)
                if not member.isfile() or not stem.rpartition("/")[2] or kind not in _IMAGES | _TEXTS:
                    continue  # a folder, what a Mac puts beside a file, and what no task reads
                sample, name = found.setdefault(stem, {}), "image" if kind in _IMAGES else kind
                if name in sample:
                    raise GitbenchError(f"{path}, sample {stem}: it has {name} twice: leave one")
                content = archive.extractfile(member)
                sample[name] = (
                    MemberPicture(path, member.offset_data, member.size)
                    if name == "image" or content is None
                    else _content(content.read(), kind, f"{path}, sample {stem}")
                )
    except _DAMAGED as error:
        raise GitbenchError(f"{path} is no whole tar archive ({error}): write or copy it again") from None
    for stem, sample in found.items():
        if "image" not in sample or len(sample) < 2:
            lacks = "image" if "image" not in sample else "txt, json or cls"
            raise GitbenchError(f"{path}, sample {stem}: there is no {lacks}: add it or remove the sample")
    return {stem: {**sample.pop("json", {}), **sample} for stem, sample in found.items()}


def _content(data: bytes, kind: str, where: str) -> Any:
    try:
        text = data.decode("utf-8-sig")
        content = json.loads(text) if kind == "json" else text.strip()
    except ValueError:
        content = None
    if content is None or (kind == "json" and not isinstance(content, dict)):
        raise GitbenchError(
            f"{where}: its {kind} is not {'a JSON object' if kind == 'json' else 'in UTF-8'}: correct it"
        )
    return int(content) if kind == "cls" and content.isdigit() else content
