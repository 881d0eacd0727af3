"""The command `gitbench merge`: join work directories that each hold a part of the same studies, as `--shard` leaves them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from gitbench.formats import plural


def add(commands: Any) -> None:
    """Add the parser of the command."""
    merge = commands.add_parser("merge", help="join work directories that each hold a part of a study")
    merge.add_argument(
        "sources", nargs="+", type=Path, metavar="DIR", help="work directories, as `run --shard` left them"
    )
    merge.add_argument(
        "--work-dir", type=Path, required=True, metavar="DIR", help="where they are joined; may hold runs already"
    )
    merge.set_defaults(run=_merge)


def _merge(arguments: argparse.Namespace) -> int:
    """0: every study is whole; 1: runs are missing still."""
    from gitbench.study.merge import merge

    merged = merge(arguments.sources, arguments.work_dir)
    for each in merged:
        rest = f", {each.missing} missing" if each.missing else ""
        print(f"{each.name}: {plural(each.copied, 'run')} copied, {each.found} found{rest}")
    return 1 if any(each.missing for each in merged) else 0
