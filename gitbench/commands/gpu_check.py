"""The command `gitbench gpu-check`: the proof on a GPU, its page, and the archive that takes it to a machine without network."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from gitbench.commands.options import report_options
from gitbench.errors import GitbenchError
from gitbench.gpu_check.listing import BUDGET, CHECKS


def add(commands: Any) -> None:
    """Add the parser of the command."""
    check = commands.add_parser(
        "gpu-check", help="the proof on a GPU: right, the same bits twice, fast; at most 8 minutes, sized for an H100"
    )
    check.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a test of the checks, no proof")
    check.add_argument("--only", metavar="NAME,...", type=_words, help="these checks alone")
    check.add_argument("--list", action="store_true", help="list the checks and run none")
    check.add_argument(
        "--budget", type=float, default=BUDGET, metavar="S", help=f"seconds for all of them (default: {BUDGET:.0f})"
    )
    report_options(check)
    scored = "the folder of a proof that was made elsewhere: score its captions, make its page again"
    check.add_argument("--score", type=Path, metavar="DIR", help=scored)
    packed = "write an archive for a machine with torch and no network, which starts with `python3 FILE`"
    check.add_argument("--pack", type=Path, metavar="FILE.pyz", help=packed)
    check.add_argument("--python", metavar="3.N", help="of --pack: the Python of that machine (default: this one's)")
    check.set_defaults(run=_gpu_check)


def _gpu_check(arguments: argparse.Namespace) -> int:
    """0: no check failed; 1: some did, or nothing was proven."""
    if arguments.list:
        for check in CHECKS:
            print(f"{check.name:<10} {check.doc}{' (needs a card)' if check.needs_card else ''}")
        return 0
    if arguments.pack is not None:
        from gitbench.gpu_check.pack import pack

        size = pack(arguments.pack, arguments.python)
        print(f"{arguments.pack}: {size / 2**20:.1f} MiB; there: python3 {arguments.pack.name}")
        return 0
    return _proof(arguments)


def _proof(arguments: argparse.Namespace) -> int:
    """Run the checks, or score what others made, and say where the page is."""
    from gitbench.files import DEFAULT_WORK_DIR, results_folder
    from gitbench.gpu_check.listing import chosen
    from gitbench.gpu_check.page import NOTHING, PAGE, failed, proves, publish
    from gitbench.gpu_check.run import run_checks

    if not 0 < arguments.budget < float("inf"):
        raise GitbenchError(f"--budget {arguments.budget:g}: use a number of seconds above 0")
    if arguments.score is not None:
        from gitbench.gpu_check.scores import score

        folder, results = arguments.score, score(arguments.score)
    else:
        if arguments.publish and arguments.device == "cpu":
            raise GitbenchError("--publish: what a CPU shows is no proof of a card: leave it out")
        folder = arguments.out or DEFAULT_WORK_DIR / "gpu_check"
        try:
            results = run_checks(folder, arguments.device, chosen(arguments.only), arguments.budget)
        except GitbenchError as error:  # the option of other commands
            raise GitbenchError(str(error).replace("choose another place", "pass another --out")) from None
    bad, something = failed(results), proves(results)
    page = publish(folder, results_folder()) if arguments.publish and something else folder / PAGE
    said = f"failed: {', '.join(bad)}" if bad else "no check failed" if something else NOTHING
    print(f"{said}; page: {page}")
    return 1 if bad or not something else 0


def _words(given: str) -> list[str]:
    return [word.strip() for word in given.split(",") if word.strip()]
