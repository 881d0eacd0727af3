"""The option `--memory`: a limit that a run's memory is to hold, and what follows from it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from gitbench.errors import GitbenchError

if TYPE_CHECKING:
    from gitbench.plan import Plan


def memory_option(parser: argparse.ArgumentParser, default: str = "no limit") -> None:
    """Add the option; `default` says what holds without it."""
    parser.add_argument(
        "--memory",
        type=float,
        metavar="GIB",
        help="what a run may take of a GPU, by formula: steps in parts, and blocks computed again, where it needs more "
        f"(default: {default})",
    )


def hold_memory(arguments: argparse.Namespace, plan: Callable[[], Plan], own: float | None = None) -> None:
    """Set --micro-batch and --checkpointing so that runs hold --memory, or `own` GiB where nothing is asked for.

    Errors: GitbenchError where these are given besides, and where no part of a batch is small enough.
    """
    gib: float | None = arguments.memory
    if gib is not None:
        if not 0 < gib < float("inf"):
            raise GitbenchError(f"--memory {gib:g}: use a number of GiB above 0")
        if arguments.micro_batch or arguments.checkpointing:
            raise GitbenchError("--memory decides --micro-batch and --checkpointing: leave it, or both of them, out")
    elif own is None or arguments.micro_batch or arguments.checkpointing:
        return
    else:
        gib = own
    from gitbench.study.memory import fit_plan

    micro, again = fit_plan(plan(), gib)
    arguments.micro_batch, arguments.checkpointing = micro or None, again
    if micro or again:
        chosen = [f"--micro-batch {micro}"] * bool(micro) + ["--checkpointing"] * again
        print(f"gitbench: to fit into {gib:.1f} GiB: {' '.join(chosen)}", file=sys.stderr)
