"""The command `gitbench bench`: speed against what a user would pick instead, on the same weights and workloads."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from gitbench.commands.options import report_options
from gitbench.errors import GitbenchError, installing


def add(commands: Any) -> None:
    """Add the parser of the command."""
    bench = commands.add_parser(
        "bench", help="speed against Hugging Face, the official code and pycocoevalcap, results checked equal first"
    )
    workloads = "default: all (train-1, train-5, frozen-5, greedy, beam-4, scoring)"
    bench.add_argument("--workloads", metavar="NAME,...", type=_words, help=workloads)
    bench.add_argument(
        "--shapes", metavar="NAME,...", type=_words, help="small, base (default: both; with --quick: quick)"
    )
    bench.add_argument(
        "--peers", metavar="NAME,...", type=_words, help="hf, hf-fused, official (default: all that are here)"
    )
    bench.add_argument(
        "--official",
        metavar="PATH",
        default=os.environ.get("GITBENCH_OFFICIAL"),
        help="a checkout of microsoft/GenerativeImage2Text (default: $GITBENCH_OFFICIAL; without it: not compared)",
    )
    bench.add_argument("--repeats", type=int, metavar="N", help="pairs of every row (default: what fits a row's time)")
    bench.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all cores)")
    bench.add_argument("--quick", action="store_true", help="a tiny shape, in seconds: for tests and regression checks")
    report_options(bench)
    slower = "a bench.json: status 1 where a ratio fell, with its whole interval, below 90 %% of it"
    bench.add_argument("--against", type=Path, metavar="FILE", help=slower)
    bench.set_defaults(run=_bench)


def _bench(arguments: argparse.Namespace) -> int:
    """0: measured; 1: measured, and slower than before."""
    from gitbench.bench.report import write_report
    from gitbench.bench.rows import regressions, stored_rows
    from gitbench.bench.run import run_tasks
    from gitbench.bench.workloads import WORKLOADS, make_tasks
    from gitbench.files import DEFAULT_WORK_DIR, results_folder
    from gitbench.machine import cpu_count, machine_label

    for name in ("repeats", "threads"):
        if getattr(arguments, name) is not None and getattr(arguments, name) < 1:
            raise GitbenchError(f"--{name} {getattr(arguments, name)}: use 1 or more")
    stored = stored_rows(arguments.against) if arguments.against else None  # before the minutes of measuring
    quick, official = arguments.quick, arguments.official
    tasks = make_tasks(
        arguments.workloads or list(WORKLOADS),
        arguments.shapes or (["quick"] if quick else ["small", "base"]),
        _peers(arguments.peers, official),
        quick=quick,
        official=os.path.abspath(official) if official else None,
        repeats=arguments.repeats,
        threads=arguments.threads or cpu_count(),
    )
    rows, made = run_tasks(tasks)
    reports = results_folder() if arguments.publish else DEFAULT_WORK_DIR / "reports"
    where = reports / "speed" / machine_label() / ("quick" if quick else "")
    print(f"report: {write_report(rows, made, arguments.out or where) / 'bench.md'}")
    slower = regressions(rows, stored) if stored is not None else []
    for line in slower:
        print(f"slower: {line}")
    return 1 if slower else 0


def _words(given: str) -> list[str]:
    return [word.strip() for word in given.split(",") if word.strip()]


def _peers(given: list[str] | None, official: str | None) -> list[str]:
    """Return the peers asked for; without a word all that can be had, and what is missing is said."""
    import importlib.util

    from gitbench.bench.workloads import PEERS

    if given:
        return given
    peers = list(PEERS)
    if importlib.util.find_spec("transformers") is None:
        print(f"transformers is not installed, Hugging Face is left out: {installing('transformers')}")
        peers = ["official"]
    if official is None:
        print("the official code is left out: name a checkout with --official PATH")
        peers.remove("official")
    return peers
