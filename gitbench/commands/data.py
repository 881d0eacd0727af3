"""The command `gitbench data`: what a data set is taken for, what is in it, and sixteen of its images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from gitbench.commands.data_options import data_options
from gitbench.errors import GitbenchError


def add(commands: Any) -> None:
    """Add the parser of the command."""
    data = commands.add_parser("data", help="say what a data set is taken for and what is in it, and draw 16 samples")
    data.add_argument("data", metavar="DATA", help="a folder, SET:FOLDER for a published set, or hub:OWNER/NAME")
    data_options(data)
    data.add_argument(
        "--task", metavar="NAME", help="caption, vqa, video, classify or read (default: all that it suits)"
    )
    data.add_argument(
        "--out", type=Path, default=Path("data.png"), metavar="FILE", help="the picture (default: data.png)"
    )
    data.add_argument(
        "--to", nargs=2, metavar=("parquet", "DIR"), help="also write it in gitbench's own layout, into a new folder"
    )
    data.set_defaults(run=_data, stopped="the same command begins anew")


def _data(arguments: argparse.Namespace) -> int:
    from gitbench.data.describe import described, draw_samples, splits_by_task
    from gitbench.data.export import write_parquet

    if arguments.to and arguments.to[0] != "parquet":
        raise GitbenchError(f"--to {arguments.to[0]}: a data set is written as parquet alone: --to parquet DIR")
    tasks = splits_by_task(arguments.data, arguments.task)
    for splits in tasks.values():
        print(described(arguments.data, splits))
    first = next(iter(tasks))
    draw_samples(tasks[first], arguments.out)
    print(f"samples: {arguments.out}")
    if arguments.to:
        print(f"written: {write_parquet(arguments.data, first, Path(arguments.to[1]))}")
    return 0
