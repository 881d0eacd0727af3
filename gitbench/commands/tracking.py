"""The option `--track`: trackers to which a command reports the runs that it trains."""

from __future__ import annotations

import argparse

from gitbench.files import DEFAULT_WORK_DIR
from gitbench.trackers import Trackers, parse_trackers


def track_option(parser: argparse.ArgumentParser) -> None:
    """Add the option."""
    parser.add_argument(
        "--track",
        action="append",
        default=[],
        metavar="NAME",
        help="report the runs to tensorboard, wandb, mlflow, aim, clearml or swanlab, too (a,b: to several)",
    )


def trackers_of(arguments: argparse.Namespace) -> Trackers | None:
    """Return the trackers asked for, None: none. Errors: GitbenchError for one that is unknown or not installed."""
    names = parse_trackers(arguments.track)
    place = getattr(arguments, "work_dir", None) or DEFAULT_WORK_DIR
    return Trackers(names=names, place=str((place / "trackers").resolve())) if names else None
