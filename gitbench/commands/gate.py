"""The command `gitbench gate`: `record` makes references, `check` compares this code with them, and with a base revision."""

from __future__ import annotations

import argparse
import functools
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gitbench.errors import GitbenchError

if TYPE_CHECKING:
    from gitbench.gate.listing import Tier
    from gitbench.gate.setting import Setting, Subject


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
    check.add_argument("--fresh", action="store_true", help="begin anew although the last check was stopped")
    check.add_argument(
        "--minutes",
        type=float,
        default=15.0,
        metavar="M",
        help="for all tiers, whose limits grow with it (default: 15)",
    )
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
        plugin = "import this first: it may register a variant of your own"
        part.add_argument("--plugin", action="append", metavar="MODULE|FILE", default=argparse.SUPPRESS, help=plugin)


def _no_regression(work: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """Let a fault of the gate itself, which is no regression, end with 2 and a traceback."""

    @functools.wraps(work)
    def guarded(arguments: argparse.Namespace) -> int:
        try:
            return work(arguments)
        except GitbenchError as error:  # the option of other commands
            raise GitbenchError(str(error).replace("choose another place", "pass another --out")) from None
        except Exception:
            traceback.print_exc()
            return GitbenchError.exit_code

    return guarded


@_no_regression
def _check(arguments: argparse.Namespace) -> int:
    """0 fine, 1 regressed, 2 could not measure, 3 reference stale."""
    from gitbench.files import DEFAULT_WORK_DIR
    from gitbench.gate import words
    from gitbench.gate.outcome import EXITS, REGRESSED, overall
    from gitbench.gate.reference import default_folder
    from gitbench.gate.run import run_check

    if not 0 < arguments.minutes < float("inf"):
        raise GitbenchError(f"--minutes {arguments.minutes:g}: use a number above 0")
    if arguments.references is not None and not arguments.references.is_dir():
        raise GitbenchError(
            f"--references {arguments.references}: there is no such folder: `gitbench gate record` makes it"
        )
    folder = arguments.out or DEFAULT_WORK_DIR / "gate"
    tiers, notes = _tiers(arguments)
    setting, references = _setting(arguments, arguments.base), arguments.references or default_folder()
    check = run_check(folder, setting, tiers, references, 60 * arguments.minutes, notes=notes, fresh=arguments.fresh)
    status = overall(check.outcomes)
    try:
        from gitbench.gate.output import show, write_outputs  # seconds of imports, which the tiers need not wait for

        print()
        show(check)
        print(f"page: {write_outputs(check, folder)[-1]}")
    except Exception:
        if status != REGRESSED:
            raise
        traceback.print_exc()  # the change broke this, too
        print(words.first_sentence(check) or words.headline(check))
    return EXITS[status]


@_no_regression
def _record(arguments: argparse.Namespace) -> int:
    from gitbench.files import DEFAULT_WORK_DIR
    from gitbench.gate.listing import chosen
    from gitbench.gate.reference import FOLDER
    from gitbench.gate.run import record

    folder = arguments.out or DEFAULT_WORK_DIR / "gate"
    tiers, setting = chosen(arguments.tiers), _setting(arguments, None)
    if not any(tier.has_reference for tier in tiers):
        raise GitbenchError(f"--tiers {arguments.tiers}: it has no reference, it is compared with a base revision")
    for file in record(folder, setting, tiers, arguments.references or Path(FOLDER), arguments.reason):
        print(file)
    return 0


def _tiers(arguments: argparse.Namespace) -> tuple[tuple[Tier, ...], tuple[str, ...]]:
    """Return the tiers of a check, and a note where speed is left out, since there is no base and nobody asked for it.

    Errors: GitbenchError for a base that is named and not there.
    """
    from gitbench.files import ROOT
    from gitbench.gate.base import base_of
    from gitbench.gate.listing import chosen

    tiers = chosen(arguments.tiers)
    try:
        base_of(ROOT, arguments.base)
    except GitbenchError as error:
        if arguments.base is not None:
            raise
        if arguments.tiers is None:
            return tuple(tier for tier in tiers if tier.has_reference), (f"speed is left out: {error}",)
    return tiers, ()


def _setting(arguments: argparse.Namespace, base: str | None) -> Setting:
    """Return what is gated and where. Errors: GitbenchError for what is not known here, before anything is measured."""
    from gitbench.gate.setting import Setting, Subject
    from gitbench.machine import cpu_count, gpus

    if arguments.jobs is not None and arguments.jobs < 1:
        raise GitbenchError(f"--jobs {arguments.jobs}: at least 1 process is needed")
    if arguments.device == "cuda" and not gpus():
        raise GitbenchError("--device cuda: no GPU is in sight: see `gitbench doctor`, or use --device cpu")
    variants: dict[str, str] = {}
    for each in arguments.variant:
        axis, equals, name = each.partition("=")
        if not (axis and equals and name):
            raise GitbenchError(f"--variant {each}: write AXIS=NAME, e.g. decoder=self_2x96")
        if axis in variants:
            raise GitbenchError(f"--variant {each}: {axis} is given twice: a model has one of each")
        variants[axis] = name
    subject = Subject(variants=variants, task=arguments.task, data=arguments.data)
    _known(subject)
    return Setting(
        folder="",
        subject=subject,
        device=arguments.device or ("cuda" if gpus() else "cpu"),
        jobs=arguments.jobs or cpu_count(),
        base=base,
    )


def _known(subject: Subject) -> None:
    """Refuse variants, a task or data that are not there."""
    from gitbench import variants
    from gitbench.tasks import get_task

    for axis, name in subject.variants.items():
        variants.resolve(axis, name)
    task = get_task(subject.task)
    if subject.usual:
        return
    from gitbench.data import SPLITS
    from gitbench.data.tasks import open_task
    from gitbench.profiles import SMOKE
    from gitbench.tasks import task_spec

    for split in SPLITS:
        open_task(subject.data or task.data, split, 8, task_spec(subject.task, SMOKE)).check()
