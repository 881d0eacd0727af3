"""The commands `gitbench report` and `gitbench publish`: the report of a study or of a bundle; with `--all` the claims board."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gitbench.commands.options import report_options, study_of, study_options, work_dir_of
from gitbench.commands.printing import print_makers
from gitbench.errors import GitbenchError
from gitbench.files import results_folder
from gitbench.profiles import check_publishable

if TYPE_CHECKING:
    import numpy as np

    from gitbench.report.board import BoardRow
    from gitbench.study.store import Study


def add(commands: Any) -> None:
    """Add the parsers of the commands."""
    report = commands.add_parser("report", help="rebuild a report from the run folders (needs no torch)")
    _add_options(report)
    report_options(report)
    report.set_defaults(run=_report)
    publish = commands.add_parser("publish", help="put a report under reports/results, to be committed")
    _add_options(publish)
    publish.set_defaults(run=_report, publish=True, out=None)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ablation", nargs="?", metavar="ABLATION|BUNDLE")
    study_options(parser)
    parser.add_argument("--bundle", type=Path, metavar="FILE", help="an archive that `gitbench bundle` wrote")
    parser.add_argument(
        "--all",
        action="store_true",
        help="the claims board: of all studies of --work-dir, or else of all reports under reports/results",
    )


def _report(arguments: argparse.Namespace) -> int:
    if arguments.all:
        return _board(arguments)
    bundle = _bundle_of(arguments)
    if bundle is not None:
        folder = _report_bundle(bundle, arguments.work_dir, arguments.out, arguments.publish)
    else:
        study = study_of(arguments)
        folder = make_report(study, arguments.out, arguments.publish)
        print_makers(study)
    print(f"report: {folder / 'report.html'}")
    return 0


def make_report(study: Study, out: Path | None = None, publish: bool = False) -> Path:
    """Write the report of a study and return its folder: `out`, or its place in the work directory or, to `publish` it,
    under `reports/results`.

    Every score is first put together again from what its run stored per image, and the report is kept as a look at the
    study. Errors: GitbenchError for a record that says something else than its images.
    """
    from gitbench.report import write_report
    from gitbench.study.interim import judge
    from gitbench.study.verify import check_records

    folder = out or report_folder(study, publish)
    board = None if out else "../../board.html"  # from its own place; a report elsewhere has no board beside it
    check_records(study)
    verdicts = judge(study, "publish" if publish else "report")
    return write_report(study, verdicts, folder, images=pictures(study), board=board)


def pictures(study: Study) -> Callable[[Any], np.ndarray] | None:
    """Return what draws the test images that a report may show: only those of scenes, this project's own."""
    import numpy as np

    from gitbench.study.scoring import test_source

    source = test_source(study)
    if source is None:
        return None
    places = {source.image_id(index): index for index in range(len(source))}

    def picture(image_id: Any) -> np.ndarray:
        """An image as it is, a film as its frames side by side."""
        if image_id not in places:
            raise GitbenchError(
                f"{study.name}: its runs name a test image {image_id} that {study.plan.data} has not: run it again"
            )
        image = source.image(places[image_id])
        return image if image.ndim == 3 else np.concatenate(list(image), axis=1)

    return picture


def report_folder(study: Study, publish: bool = False, work_dir: Path | None = None) -> Path:
    """Return `<ablation>/<profile>-<data>-<machine>` in `reports` of the work directory, or `reports/results` to publish.

    `work_dir` stands in for the study's own. Errors: GitbenchError for a profile that is not published.
    """
    from gitbench.machine import machine_label

    if publish:
        check_publishable(study.plan.profile)
    reports = results_folder() if publish else (work_dir or study.work_dir) / "reports"
    machines = [record["cost"].get("machine") for run in study.finished if (record := study.record(run.run_key))]
    name = f"{study.plan.profile}-{study.plan.label}-{next(filter(None, machines), machine_label())}"
    return reports / study.plan.ablation / name.replace("/", "-")  # the records of a bundle are a stranger's


def _bundle_of(arguments: argparse.Namespace) -> Path | None:
    """Return the bundle that a report is asked of (`--bundle FILE`, or FILE for ABLATION); None: a study is meant."""
    from gitbench.study.bundle import is_bundle

    if arguments.bundle is not None:
        if arguments.ablation is not None:
            raise GitbenchError(f"report of {arguments.ablation} or of the bundle {arguments.bundle}: name one of them")
        return arguments.bundle
    if arguments.ablation is None:
        raise GitbenchError("report of what? name an ablation, or a bundle")
    return Path(arguments.ablation) if is_bundle(arguments.ablation) else None


def _report_bundle(path: Path, work_dir: Path | None, out: Path | None, publish: bool) -> Path:
    """Unpack a bundle into `work_dir` (None: nowhere that stays) and write the report of its study."""
    from gitbench.files import DEFAULT_WORK_DIR
    from gitbench.study.bundle import open_bundle, unpack
    from gitbench.study.store import Study

    bundle = open_bundle(path)
    with tempfile.TemporaryDirectory(prefix="gitbench-bundle-") as folder:
        unpack(bundle, work_dir or Path(folder))
        study = Study.open(work_dir or folder, bundle.study)
        print_makers(study)
        return make_report(study, out or report_folder(study, publish, work_dir or DEFAULT_WORK_DIR), publish)


def _board(arguments: argparse.Namespace) -> int:
    """Write the claims board; `--profile` and `--data` narrow it."""
    from gitbench.profiles import UNPUBLISHED
    from gitbench.report.board import rows_of_results, rows_of_studies, write_board
    from gitbench.study.interim import judge
    from gitbench.study.store import open_studies

    if one := arguments.ablation or arguments.bundle:
        raise GitbenchError(f"--all is about every ablation: leave {one} out, or leave out --all")
    if arguments.task:
        raise GitbenchError("--all with --task: a study's data says its task, so pass --data, for example scenes-vqa")
    results, work_dir = results_folder(), arguments.work_dir
    if arguments.publish and work_dir:
        raise GitbenchError(
            "the published board is of the published reports: leave --work-dir out, and publish its studies"
        )
    out = arguments.out or (results if arguments.publish else work_dir_of(arguments) / "reports")

    def wanted(profile: str, data: str) -> bool:
        return arguments.profile in (None, profile) and (arguments.data is None or data == str(arguments.data))

    if work_dir:  # what is not shown is not judged: that would be a look
        there = open_studies(work_dir)
        studies = [each for each in there if wanted(each.plan.profile, each.plan.label)]
        for study in studies:
            print_makers(study)
        judged = ((study, judge(study, "board")) for study in studies if study.finished)
        rows = rows_of_studies(judged, lambda study: _link(report_folder(study), out)) if studies or not there else []
    else:
        rows = [row for row in rows_of_results(results, out) if wanted(row.profile, row.data)]
        rows = [row for row in rows if row.profile not in UNPUBLISHED]
        _print_makers(rows)
    if not rows:
        raise GitbenchError("no study has that --profile and --data: leave them out to see all")
    print(f"board: {write_board(rows, out)[0]}")
    return 0


def _print_makers(rows: Sequence[BoardRow]) -> None:
    """Say on stderr which runs of committed reports other code made; what was made before code was fingerprinted stays so."""
    from gitbench.study.makers import Standing

    makers = {key: some for row in rows for key, some in row.origin.makers.items() if some}
    for line in Standing.of(makers).lines:
        print(f"gitbench: {line}", file=sys.stderr)


def _link(report: Path, out: Path) -> str | None:
    """Return the way from the folder of a board to that of a report; None where no report was written."""
    return Path(os.path.relpath(report, out)).as_posix() if (report / "report.html").is_file() else None
