"""The command `gitbench bench`: speed against what a user would pick instead, on the same weights and work."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Add the parser of the command."""
    bench = commands.add_parser(
        "bench", help="speed against Hugging Face, the official code and pycocoevalcap, results checked equal first"
    )
    bench.add_argument(
        "--works",
        metavar="NAME,...",
        help="default: all (train-1, train-5, frozen-5, greedy, beam-4, scoring)",
    )
    bench.add_argument("--shapes", metavar="NAME,...", help="small, base (default: both), quick")
    bench.add_argument("--peers", metavar="NAME,...", help="hf, hf-fused, official (default: all that are here)")
    bench.add_argument(
        "--official",
        type=Path,
        metavar="PATH",
        help="a checkout of microsoft/GenerativeImage2Text (default: $GITBENCH_OFFICIAL; without it: not compared)",
    )
    bench.add_argument("--captions", metavar="NAME|PATH", help="data whose captions are scored (default: made ones)")
    bench.add_argument("--repeats", type=int, metavar="N", help="pairs of every row (default: what fits a row's time)")
    bench.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all cores)")
    bench.add_argument("--quick", action="store_true", help="a tiny shape, in seconds: for tests and regression checks")
    bench.add_argument("--out", type=Path, metavar="DIR", help="default: reports/results/speed/MACHINE")
    bench.add_argument(
        "--against",
        type=Path,
        metavar="FILE",
        help="a bench.json: status 1 where a ratio fell, with its whole interval, below 90 %% of it",
    )
    bench.set_defaults(run=_bench)


def _bench(arguments: argparse.Namespace) -> int:
    """0: measured; 1: measured, and slower than before."""
    from gitbench.bench.plan import WORKS, make_tasks
    from gitbench.bench.regression import regressions, stored_rows
    from gitbench.bench.report import write_report
    from gitbench.bench.run import run_tasks
    from gitbench.bench.shapes import get_shape
    from gitbench.errors import GitbenchError
    from gitbench.files import results_folder
    from gitbench.machine import cpu_count, machine_label

    for name in ("repeats", "threads"):
        if getattr(arguments, name) is not None and getattr(arguments, name) < 1:
            raise GitbenchError(f"--{name} {getattr(arguments, name)}: use 1 or more")
    stored = stored_rows(arguments.against) if arguments.against else None  # before the minutes of measuring
    official = arguments.official or (Path(path) if (path := os.environ.get("GITBENCH_OFFICIAL")) else None)
    shapes = _words(arguments.shapes) or (["quick"] if arguments.quick else ["small", "base"])
    for name in shapes:
        get_shape(name)
    tasks = make_tasks(_words(arguments.works) or list(WORKS), shapes, _peers(arguments.peers, official))
    threads = arguments.threads or cpu_count()
    print(f"{len(tasks)} works on {threads} CPU thread{'s' if threads > 1 else ''}")
    result = run_tasks(
        tasks,
        official=official,
        repeats=arguments.repeats,
        threads=threads,
        quick=arguments.quick,
        captions=arguments.captions,
    )
    where = results_folder() / "speed" / machine_label() / ("quick" if arguments.quick else "")
    folder = write_report(result, arguments.out or where)
    print(f"report: {folder / 'bench.md'}")
    if stored is None:
        return 0
    slower = regressions(result.rows, stored)
    for line in slower:
        print(f"slower: {line}")
    return 1 if slower else 0


def _words(given: str | None) -> list[str]:
    return [word.strip() for word in given.split(",") if word.strip()] if given else []


def _peers(given: str | None, official: Path | None) -> list[str]:
    """Return the peers asked for; without a word all that can be had, and a missing transformers is said."""
    import importlib.util

    from gitbench.bench.plan import PEERS
    from gitbench.errors import GitbenchError, unknown_name

    if given:
        for name in _words(given):
            if name not in PEERS:
                raise unknown_name("peer", name, PEERS)
        if "official" in _words(given) and official is None:
            raise GitbenchError("the official code is no part of gitbench: pass --official PATH of a checkout")
        return _words(given)
    peers = [peer for peer in PEERS if peer != "official" or official is not None]
    if importlib.util.find_spec("transformers") is None:
        print("transformers is not installed, Hugging Face is left out: python -m pip install 'gitbench[bench]'")
        peers = [peer for peer in peers if not peer.startswith("hf")]
    if official is None:
        print("the official code is left out: name a checkout with --official PATH")
    return peers
