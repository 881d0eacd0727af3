"""The command `gitbench scenes`: draw scenes of the embedded world with their captions."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Add the parser of the command."""
    scenes = commands.add_parser("scenes", help="draw scenes of the embedded world with their captions")
    scenes.add_argument("--show", type=int, default=16, metavar="N", help="how many (default 16)")
    scenes.add_argument("--split", default="train", choices=("pretrain", "train", "val", "test"))
    scenes.add_argument("--data", default="scenes", choices=("scenes", "scenes-motion", "scenes-shifted"))
    scenes.add_argument("--size", type=int, default=64, metavar="PX", help="pixels a scene is rendered at (default 64)")
    scenes.add_argument("--out", type=Path, default=Path("scenes.png"), metavar="FILE")
    scenes.set_defaults(run=_scenes)


def _scenes(arguments: argparse.Namespace) -> int:
    from gitbench.data.scenes.sheet import draw_contact_sheet

    draw_contact_sheet(arguments.show, arguments.split, arguments.out, arguments.size, arguments.data)
    print(f"{arguments.show} scenes: {arguments.out}")
    return 0
