"""The command `gitbench verify`: recompute all that can be recomputed of a study or a bundle, and list what rests on trust."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gitbench.commands.options import study_of, study_options
from gitbench.formats import plural

if TYPE_CHECKING:
    from gitbench.study.store import Study


def add(commands: Any) -> None:
    """Add the parser of the command."""
    verify = commands.add_parser(
        "verify",
        help="recompute files, keys, seeds, chains, scores and ceiling of a study or bundle; list what is trusted",
    )
    verify.add_argument("ablation", metavar="ABLATION|BUNDLE")
    study_options(verify)
    verify.set_defaults(run=_verify)


def _verify(arguments: argparse.Namespace) -> int:
    """0: nothing was found; 1: something was."""
    from gitbench.study.bundle import is_bundle, open_bundle, unpack
    from gitbench.study.store import Study

    if not is_bundle(arguments.ablation):
        return _print(study_of(arguments))
    bundle = open_bundle(Path(arguments.ablation))
    with tempfile.TemporaryDirectory(prefix="gitbench-bundle-") as folder:
        unpack(bundle, Path(folder))
        return _print(Study.open(folder, bundle.study))


def _print(study: Study) -> int:
    from gitbench.metrics import CaptionScorer
    from gitbench.study.rescore import Rescored
    from gitbench.study.verify import findings, moved_on, numerics_of

    found = list(findings(study))
    with CaptionScorer(spice=False) as scorer:
        again = Rescored(study, scorer)
    found += [said for said in again.findings if said not in found]
    for finding in found:
        print(finding)
    print("What rests on trust:")
    for said in again.trust:
        print(f"  {said}")
    if said := moved_on(numerics_of(study)):
        print(said)
    done = sum(study.done(run) for run in study.unique_runs)
    print(f"{study.name}: {done} of {plural(len(study.unique_runs), 'run')} finished, {plural(len(found), 'finding')}")
    return 1 if found else 0
