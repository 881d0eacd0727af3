"""The commands about bundles: `gitbench bundle | replicate`, and `gitbench report` of a bundle."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from gitbench.commands.options import study_of, study_options, work_dir_of
from gitbench.errors import GitbenchError
from gitbench.files import make_dir


def add(commands: Any) -> None:
    """Add the parsers of the two commands."""
    bundle = commands.add_parser("bundle", help="pack a study into one archive: specs, scores, predictions; no images")
    bundle.add_argument("ablation", metavar="ABLATION")
    study_options(bundle)
    bundle.add_argument("--out", type=Path, metavar="FILE", help="the archive (default: STUDY.tar.xz)")
    bundle.set_defaults(run=_bundle)

    again = commands.add_parser("replicate", help="run a few runs of a bundle again and say whether they agree")
    again.add_argument("bundle", type=Path, metavar="BUNDLE", help="an archive that `gitbench bundle` wrote")
    again.add_argument("--sample", type=int, default=3, metavar="N", help="how many runs (default 3)")
    again.add_argument("--seed", type=int, default=0, metavar="N", help="decides which runs (default 0)")
    again.add_argument("--data", metavar="PATH", help="the folder of its images, where it was run on a folder")
    again.add_argument("--work-dir", type=Path, metavar="DIR", help="where the runs are made (default: work_dirs)")
    again.add_argument(
        "--out", type=Path, metavar="DIR", help="where replication.json and .md go (default: beside the runs)"
    )
    again.add_argument("--jobs", type=int, metavar="N", help="runs at a time (default: one per CPU core or GPU share)")
    again.add_argument("--plain", action="store_true", help="plain progress lines, no bar")
    again.set_defaults(run=_replicate)


def asked_for(arguments: argparse.Namespace) -> Path | None:
    """Return the bundle that a report is asked of (`--bundle FILE`, or FILE for ABLATION); None: a study is meant."""
    from gitbench.study.bundle import is_bundle

    if arguments.bundle is not None:
        if arguments.ablation is not None:
            raise GitbenchError(f"report of {arguments.ablation} or of the bundle {arguments.bundle}: name one of them")
        return arguments.bundle
    if arguments.ablation is None:
        raise GitbenchError("report of what? name an ablation, or a bundle")
    return Path(arguments.ablation) if is_bundle(arguments.ablation) else None


def report_bundle(path: Path, work_dir: Path | None, out: Path | None) -> Path:
    """Write the report of a bundle and return its folder (default: `<study>.report` in the current folder).

    The bundle is unpacked into `work_dir`, or for the time of it into a temporary folder.
    """
    from gitbench.commands.publish import publish
    from gitbench.study.bundle import open_bundle, unpack

    bundle = open_bundle(path)
    out = out or Path.cwd() / f"{bundle.study}.report"
    if work_dir is not None:
        unpack(bundle, make_dir(work_dir))
        return publish(work_dir, bundle.study, out)
    with tempfile.TemporaryDirectory(prefix="gitbench-bundle-") as folder:
        unpack(bundle, Path(folder))
        return publish(Path(folder), bundle.study, out)


def _bundle(arguments: argparse.Namespace) -> int:
    from gitbench.study.bundle import write_bundle

    bundle = write_bundle(*study_of(arguments), arguments.out)
    finished, planned = bundle.manifest["finished"], bundle.manifest["runs"]
    print(f"bundle: {bundle.path} ({bundle.path.stat().st_size / 1e6:.2f} MB, SHA-256 {bundle.digest})")
    print(f"{bundle.study}: {finished} of {planned} runs, {len(bundle.files)} files")
    return 0


def _replicate(arguments: argparse.Namespace) -> int:
    """0: all agree; 1: one disagrees; 2: one could not be run or judged."""
    from gitbench.commands.rerun import replicate
    from gitbench.judge.replication import AGREE, DISAGREE, markdown, verdict
    from gitbench.study.bundle import open_bundle

    if arguments.out is not None and arguments.out.is_file():
        raise GitbenchError(f"--out {arguments.out} is a file: pass a folder")
    bundle = open_bundle(arguments.bundle)
    runs = replicate(
        bundle,
        work_dir_of(arguments),
        sample=arguments.sample,
        seed=arguments.seed,
        data=arguments.data,
        out=arguments.out,
        jobs=arguments.jobs,
        plain=arguments.plain,
        command=f"gitbench replicate {arguments.bundle.name} --sample {arguments.sample} --seed {arguments.seed}",
    )
    print(markdown(bundle.study, bundle.digest, runs))
    return {AGREE: 0, DISAGREE: 1}.get(verdict(runs), 2)
