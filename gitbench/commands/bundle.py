"""The command `gitbench bundle`: a study in one archive, without images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from gitbench.commands.options import study_of, study_options


def add(commands: Any) -> None:
    """Add the parser of the command."""
    bundle = commands.add_parser("bundle", help="pack a study into one archive: specs, scores, predictions; no images")
    bundle.add_argument("ablation", metavar="ABLATION")
    study_options(bundle)
    bundle.add_argument("--out", type=Path, metavar="FILE", help="the archive (default: STUDY.tar.xz)")
    bundle.set_defaults(run=_bundle)


def _bundle(arguments: argparse.Namespace) -> int:
    from gitbench.study.bundle import write_bundle

    study = study_of(arguments)
    bundle = write_bundle(study, arguments.out)
    finished = sum(study.done(run) for run in study.unique_runs)
    print(f"bundle: {bundle.path} ({bundle.path.stat().st_size / 1e6:.2f} MB, SHA-256 {bundle.digest})")
    print(f"{bundle.study}: {finished} of {len(study.unique_runs)} runs, {len(bundle.files)} files")
    return 0
