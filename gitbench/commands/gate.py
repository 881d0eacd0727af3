"""The command `gitbench gate`: `record` makes references, `check` compares this code with them, and with a base revision."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from gitbench.errors import GitbenchError


def add(commands: Any) -> None:
    """Add the parsers of the command."""
    gate = commands.add_parser(
        "gate", help="red when a change breaks the captioner, green when it does not; in minutes"
    )
    parts = gate.add_subparsers(metavar="record|check", required=True)
    check = parts.add_parser("check", help="compare this code with references, and with a base revision")
    check.add_argument(
        "--base",
        metavar="REV",
        help="the revision whose speed is compared (default: HEAD, or its parent if nothing changed)",
    )
    check.add_argument("--minutes", type=float, default=15.0, metavar="M", help="for all tiers (default: 15)")
    check.set_defaults(run=_check)
    record = parts.add_parser("record", help="make references of this code, which is held to be right")
    record.add_argument("--reason", required=True, metavar="TEXT", help="why they change; the gate prints it")
    record.set_defaults(run=_record)
    for part in (check, record):
        part.add_argument(
            "--tiers", metavar="NAME,...", help="some of exact, trajectory, quality, speed (default: all)"
        )
        part.add_argument(
            "--references", type=Path, metavar="DIR", help="where references are (default: ./gate, else gitbench's own)"
        )
        part.add_argument("--out", type=Path, metavar="DIR", help="where results go (default: work_dirs/gate)")
        part.add_argument("--device", choices=("cpu", "cuda"), help="(default: cuda where there is a GPU)")
        part.add_argument("--jobs", type=int, metavar="N", help="processes at a time (default: one a core)")
        part.add_argument(
            "--variant", action="append", default=[], metavar="AXIS=NAME", help="gate this variant instead of the base"
        )
        part.add_argument("--task", default="caption", metavar="NAME", help="what the model is asked for")
        part.add_argument("--data", metavar="NAME|PATH", help="data of your own instead of the embedded world")


def _check(arguments: argparse.Namespace) -> int:
    """0 fine, 1 regressed, 2 could not measure, 3 reference stale."""
    from gitbench.files import DEFAULT_WORK_DIR
    from gitbench.gate.listing import chosen
    from gitbench.gate.outcome import EXITS, overall
    from gitbench.gate.output import table, write_outputs
    from gitbench.gate.reference import default_folder
    from gitbench.gate.run import run_check

    if not 0 < arguments.minutes < float("inf"):
        raise GitbenchError(f"--minutes {arguments.minutes:g}: use a number above 0")
    folder = arguments.out or DEFAULT_WORK_DIR / "gate"
    check = run_check(
        folder,
        _setting(arguments, arguments.base),
        chosen(arguments.tiers),
        arguments.references or default_folder(),
        60 * arguments.minutes,
    )
    files = write_outputs(check, folder)
    print(table(check))
    print(f"page: {files[-1]}")
    return EXITS[overall(check.outcomes)]


def _record(arguments: argparse.Namespace) -> int:
    from gitbench.files import DEFAULT_WORK_DIR
    from gitbench.gate.listing import chosen
    from gitbench.gate.reference import FOLDER
    from gitbench.gate.run import record

    folder = arguments.out or DEFAULT_WORK_DIR / "gate"
    places = (arguments.references or Path(FOLDER), arguments.reason)
    for file in record(folder, _setting(arguments, None), chosen(arguments.tiers), *places):
        print(file)
    return 0


def _setting(arguments: argparse.Namespace, base: str | None) -> Any:
    from gitbench.gate.setting import Setting, Subject
    from gitbench.machine import cpu_count, gpus

    variants = {}
    for each in arguments.variant:
        axis, equals, name = each.partition("=")
        if not (axis and equals and name):
            raise GitbenchError(f"--variant {each}: write AXIS=NAME, e.g. decoder=self_2x96")
        variants[axis] = name
    return Setting(
        folder="",
        subject=Subject(variants=variants, task=arguments.task, data=arguments.data),
        device=arguments.device or ("cuda" if gpus() else "cpu"),
        jobs=arguments.jobs or cpu_count(),
        base=base,
    )
