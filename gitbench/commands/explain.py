"""The command `gitbench explain`: from a printed number back to its runs."""

from __future__ import annotations

import argparse
from typing import Any

from gitbench.commands.options import data_of, study_of, study_options
from gitbench.commands.starts import profile_of
from gitbench.files import results_folder


def add(commands: Any) -> None:
    """Add the parser of the command."""
    explain = commands.add_parser("explain", help="walk from a number of a report to its runs, commands and versions")
    explain.add_argument(
        "number", metavar="ABLATION:ARM:METRIC|ABLATION:CLAIM", help="for example decoder_size:large:CIDEr"
    )
    study_options(explain)
    explain.set_defaults(run=_explain)


def _explain(arguments: argparse.Namespace) -> int:
    from gitbench.report.explain import explain_result, explain_study, parse_target
    from gitbench.report.results import find_result
    from gitbench.study.interim import judge
    from gitbench.study.store import NoStudy

    target = parse_target(arguments.number)
    try:
        study = study_of(arguments, target.ablation)
    except NoStudy:
        if arguments.work_dir is not None:
            raise
        result = find_result(results_folder(), target.ablation, profile_of(arguments), data_of(arguments))
        print(explain_result(result, target))
        return 0
    print(explain_study(study, judge(study, "explain"), target))
    return 0
