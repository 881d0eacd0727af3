"""`gitbench report --all`, the claims board, and `gitbench explain`, from a printed number back to its runs."""

from __future__ import annotations

import argparse
from typing import Any

from gitbench.commands.options import data_of, profile_of, study_options, work_dir_of
from gitbench.errors import GitbenchError
from gitbench.files import results_folder


def add(commands: Any) -> None:
    """Add `explain` to the command line."""
    explain = commands.add_parser("explain", help="walk from a number of a report to its runs, commands and versions")
    explain.add_argument(
        "number", metavar="ABLATION:ARM:METRIC|ABLATION:CLAIM", help="for example decoder_size:large:CIDEr"
    )
    study_options(explain)
    explain.set_defaults(run=_explain)


def add_board(report: argparse.ArgumentParser) -> None:
    """Add `--all` to `report`."""
    report.add_argument(
        "--all",
        action="store_true",
        help="the claims board: of all studies of --work-dir, or else of all reports under reports/results",
    )


def board(arguments: argparse.Namespace) -> int:
    """Write the claims board; `--profile` and `--data` narrow it."""
    from gitbench.report.board import rows_of_results, rows_of_work_dir, write_board

    if arguments.ablation:
        raise GitbenchError(f"--all is about every ablation: leave {arguments.ablation} out, or leave out --all")
    results = results_folder()
    out = arguments.out or results
    rows = rows_of_work_dir(arguments.work_dir) if arguments.work_dir else rows_of_results(results, out)
    rows = [
        row
        for row in rows
        if arguments.profile in (None, row.profile) and (arguments.data is None or row.data == str(arguments.data))
    ]
    if not rows:
        raise GitbenchError("no study has that --profile and --data: leave them out to see all")
    print(f"board: {write_board(rows, out)[0]}")
    return 0


def _explain(arguments: argparse.Namespace) -> int:
    from gitbench.commands.publish import find_study
    from gitbench.report.explain import explain_result, explain_runs, parse_target
    from gitbench.report.results import find_result

    target = parse_target(arguments.number)
    profile, data, work_dir = profile_of(arguments), data_of(arguments), work_dir_of(arguments)
    try:
        label = find_study(work_dir, target.ablation, profile, data, arguments.task).split(".", 2)[2]
    except GitbenchError:
        if arguments.work_dir is not None:
            raise
        result = find_result(results_folder(), target.ablation, profile, data)
        print(explain_result(result, target))
        return 0
    print(explain_runs(work_dir, target, profile, label))
    return 0
