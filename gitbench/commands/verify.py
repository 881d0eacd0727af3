"""The command `gitbench verify`: whether a study says what its runs stored."""

from __future__ import annotations

import argparse
from typing import Any

from gitbench.commands.options import study_of, study_options


def add(commands: Any) -> None:
    """Add the parser of the command."""
    verify = commands.add_parser("verify", help="check that scores follow from images, run keys from specs; the proof")
    verify.add_argument("ablation", metavar="ABLATION")
    study_options(verify)
    verify.set_defaults(run=_verify)


def _verify(arguments: argparse.Namespace) -> int:
    """0: nothing was found; 1: something was."""
    from gitbench.study.verify import findings

    study = study_of(arguments)
    found = list(findings(study))
    for finding in found:
        print(finding)
    done = sum(study.done(run) for run in study.unique_runs)
    print(f"{study.name}: {done} of {len(study.unique_runs)} runs finished, {len(found) or 'no'} findings")
    return 1 if found else 0
