"""The command `gitbench encoders`: the image encoders that ship, and whether those made here are as good."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gitbench.errors import GitbenchError

if TYPE_CHECKING:
    from gitbench.encoders.manifest import Entry
    from gitbench.encoders.quality import Difference
    from gitbench.training.probes import Quality
    from gitbench.variants.encoder import EncoderSpec


def add(commands: Any) -> None:
    """Add the parser of the command."""
    encoders = commands.add_parser("encoders", help="the pre-trained image encoders that ship, with what they see")
    encoders.add_argument(
        "--check",
        nargs="?",
        const="",
        metavar="FOLDER",
        help="probe those that were made here (default: in the cache) beside those that ship; exit status 1 if one is worse "
        "or missing",
    )
    encoders.set_defaults(run=_encoders)


def _encoders(arguments: argparse.Namespace) -> int:
    from gitbench.encoders.manifest import manifest

    entries = manifest()
    if not entries:
        raise GitbenchError(
            "no encoder ships with this installation: make them with `gitbench pretrain --ship` in a clone"
        )
    if arguments.check is None:
        return _list(entries)
    return _check(entries, arguments.check)


def _list(entries: dict[str, Entry]) -> int:
    from gitbench.encoders.quality import MEASURED, final, floor
    from gitbench.formats import duration

    head, line = table(entries, MEASURED)
    print(f"{head}  made in")
    for name, entry in entries.items():
        print(f"{line(name, final(entry.notes))}  {duration(entry.notes['seconds'])}")
        print(line("  random values", floor(entry.notes)))
    return 0


def table(names: Iterable[str], measured: Sequence[str]) -> tuple[str, Callable[[str, Mapping[str, float]], str]]:
    """Return the head of a table of shares, and what makes a line of it: a name, and the share of what is measured."""
    width = max(map(len, names)) + 2

    def line(name: str, shares: Mapping[str, float]) -> str:
        cells = (f"{100 * shares[each]:>10.1f}" if each in shares else f"{'-':>10}" for each in measured)
        return f"{name:<{width}}" + "".join(cells)

    return f"{'share right, %':<{width}}" + "".join(f"{name:>10}" for name in measured), line


def _check(entries: dict[str, Entry], folder: str) -> int:
    """0: all that ship were made here, too, and are as good; 1: one is worse or missing."""
    from gitbench.encoders.manifest import FOLDER
    from gitbench.encoders.quality import ALLOWANCE, STANDARD_ERRORS, differences

    made = _made_here(entries, Path(folder) if folder else None)
    quality = functools.cache(_quality)
    right = functools.cache(lambda file, size: _right(quality(size.image_size), file, size))
    failed = False
    for name, entry in entries.items():
        if not made[name]:
            print(f"{name}: MISSING: make it with `gitbench pretrain`")
        failed |= not made[name]
        for file, content in made[name]:
            if content == entry.content:
                print(f"{name}: the same weights, bit for bit")
                continue
            shipped = right(FOLDER / f"{name}.safetensors", entry.encoder)
            lower = [each for each in differences(right(file, entry.encoder), shipped) if each.worse]
            failed |= bool(lower)
            print(f"{name}: " + (f"WORSE: {'; '.join(map(_said, lower))}" if lower else "as good"), flush=True)
    print(
        f"as good: every probe at most {100 * ALLOWANCE:g} points lower, beside {STANDARD_ERRORS:g} standard errors over the "
        "same images; retrieval is not measured again, since the text encoder is not stored"
    )
    return 1 if failed else 0


def _said(each: Difference) -> str:
    here, shipped, tolerance = (f"{100 * share:.1f}" for share in (each.here, each.shipped, each.tolerance))
    return f"{each.measured} {here} %, below {shipped} % by more than {tolerance}"


def _made_here(entries: dict[str, Entry], folder: Path | None) -> dict[str, list[tuple[Path, str]]]:
    """Return name -> files with their contents, of the encoders in a folder (None: the cache) that were made as one that ships.

    A file that is none, or damaged, is named. Errors: no folder, or no encoder in it.
    """
    from gitbench.encoders.store import read_encoder
    from gitbench.files import cache_dir

    place = folder or cache_dir() / "encoders"
    if folder is None and not place.exists():
        raise GitbenchError("no encoder was made here yet: run `gitbench pretrain` first, or pass their folder")
    if not place.is_dir():
        raise GitbenchError(
            f"{place} {'is no folder' if place.exists() else 'does not exist'}: pass the folder of encoders"
        )
    files = sorted(place.glob("[!.]*.safetensors"))  # a hidden one is half a file, of a process that was killed
    if not files:
        raise GitbenchError(f"{place} holds no encoder (*.safetensors): run `gitbench pretrain` first")
    found: dict[str, list[tuple[Path, str]]] = {name: [] for name in entries}
    for file in files:
        try:
            ours = read_encoder(file)
        except GitbenchError as error:
            print(error)
            continue
        for name, entry in entries.items():
            if entry.is_made_as(ours.notes):
                found[name].append((file, ours.content))
    return found


def _quality(image_size: int) -> Quality:
    from gitbench.training.probes import Quality

    return Quality(image_size)


def _right(quality: Quality, file: Path, size: EncoderSpec) -> dict[str, Any]:
    """Probe the weights of an encoder file; see `Quality.right`."""
    from types import SimpleNamespace

    from gitbench.models.encoder import ImageEncoder
    from gitbench.training.caption_model import ImagePreprocessor
    from gitbench.training.encoder_init import encoder_weights

    encoder = ImageEncoder(size).eval()
    encoder.load_state_dict(encoder_weights(str(file), size))
    return quality.right(SimpleNamespace(encoder=encoder), ImagePreprocessor().normalised)
