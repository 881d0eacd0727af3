"""The command `gitbench encoders`: the image encoders that ship, and whether those made here are as good."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gitbench.errors import GitbenchError

if TYPE_CHECKING:
    from gitbench.encoders.manifest import Entry


def add(commands: Any) -> None:
    """Add the parser of the command."""
    encoders = commands.add_parser("encoders", help="the pre-trained image encoders that ship, with what they see")
    encoders.add_argument(
        "--check",
        nargs="?",
        const="",
        metavar="FOLDER",
        help="compare those that `gitbench pretrain` made here (default: in the cache); exit status 1 if one is worse",
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

    width = max(map(len, entries)) + 2
    print(f"{'share right, %':<{width}}" + "".join(f"{name:>10}" for name in MEASURED) + "  made in")
    for name, entry in entries.items():
        print(f"{name:<{width}}" + _row(final(entry.notes)) + f"  {duration(entry.notes['seconds'])}")
        print(f"{'  random values':<{width}}" + _row(floor(entry.notes)))
    return 0


def _row(shares: dict[str, float]) -> str:
    from gitbench.encoders.quality import MEASURED

    return "".join(f"{100 * shares[name]:>10.1f}" if name in shares else f"{'-':>10}" for name in MEASURED)


def _check(entries: dict[str, Entry], folder: str) -> int:
    """0: all that were found are as good; 1: one is worse."""
    from gitbench.encoders.manifest import find_shipped
    from gitbench.encoders.quality import STANDARD_ERRORS, differences
    from gitbench.encoders.store import is_encoder, read_encoder
    from gitbench.files import cache_dir
    from gitbench.run_key import from_json
    from gitbench.spec import PretrainSpec
    from gitbench.variants.encoder import EncoderSpec

    place = Path(folder) if folder else cache_dir() / "encoders"
    compared, worse = 0, 0
    for file in sorted(place.glob("*.safetensors")):
        if not is_encoder(file):
            continue
        ours = read_encoder(file)
        recipe = from_json(PretrainSpec, ours.notes["recipe"])
        entry = find_shipped(from_json(EncoderSpec, ours.notes["encoder"]), recipe)
        if entry is None or entry.name not in entries or not ours.notes["points"]:
            continue  # of another recipe, or made by a run, which measures nothing
        compared += 1
        if ours.content == entry.content:
            print(f"{entry.name}: the same weights, bit for bit")
            continue
        lower = [each for each in differences(ours.notes, entry.notes) if each.worse]
        worse += bool(lower)
        said = "; ".join(
            f"{each.measured} {100 * each.here:.1f} %, below {100 * each.shipped:.1f} % by more than {100 * each.tolerance:.1f}"
            for each in lower
        )
        print(f"{entry.name}: {f'WORSE: {said}' if lower else f'as good, within {STANDARD_ERRORS:g} standard errors'}")
    if not compared:
        raise GitbenchError(
            f"{place} holds no encoder made by a recipe of those that ship: run `gitbench pretrain` first"
        )
    return 1 if worse else 0
