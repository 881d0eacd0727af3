"""The command `gitbench judge`: two systems' captions of the same images, from anywhere; needs no torch and no study."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gitbench.errors import GitbenchError

if TYPE_CHECKING:
    from gitbench.data.predictions import Predictions
    from gitbench.metrics.base import Scores
    from gitbench.report.systems import Systems


def add(commands: Any) -> None:
    """Add the parser of the command."""
    judge = commands.add_parser("judge", help="compare two systems' captions of the same images, from anywhere")
    files = "captions of system A, then of B: JSON lines or COCO's results format"
    judge.add_argument("captions", nargs="+", type=Path, metavar="FILE", help=files)
    against = (
        "captions of system B; then all files before it are A's, one a seed, and as many follow here, in the same order"
    )
    judge.add_argument("--against", nargs="+", action="extend", type=Path, metavar="FILE", help=against)
    references = "COCO's annotations or JSON lines (default: those in the files of captions)"
    judge.add_argument("--references", type=Path, metavar="FILE", help=references)
    judge.add_argument("--out", type=Path, metavar="DIR", help="write a figure, a LaTeX table, CSV and JSON there")
    judge.set_defaults(run=_judge)


def _judge(arguments: argparse.Namespace) -> int:
    from gitbench.data.predictions import check_together, read_predictions_file, references_of
    from gitbench.metrics import CaptionScorer
    from gitbench.report.systems import text, write_systems

    sides = _sides(arguments.captions, arguments.against)
    files = [read_predictions_file(path) for side in sides for path in side]
    check_together(files)
    references = references_of(files, arguments.references)
    if len(references) < 2:
        raise GitbenchError("one image gives no interval over images, and a CIDEr of 0: pass captions of at least 2")
    with CaptionScorer() as scorer:
        scores = [scorer.score(file.captions, references) for file in files]
    systems = _systems(files, scores, len(sides[0]), arguments.references)
    print(text(systems))
    if arguments.out is not None:
        write_systems(systems, arguments.out)
        print(f"written: {arguments.out / 'systems.*'}")
    return 0


def _sides(captions: Sequence[Path], against: Sequence[Path] | None) -> tuple[Sequence[Path], Sequence[Path]]:
    """Say which files are A's and which B's."""
    if against is None:
        if len(captions) != 2:
            raise GitbenchError(
                f"judge {len(captions)} files: pass one of A and one of B, or those of A, --against and those of B"
            )
        return captions[:1], captions[1:]
    if len(captions) != len(against):
        raise GitbenchError(
            f"A has {len(captions)} files and B {len(against)}: pass as many of each, one a seed, in the same order"
        )
    return captions, against


def _systems(files: Sequence[Predictions], scores: Sequence[Scores], each_side: int, given: Path | None) -> Systems:
    """Compare by every metric that all files have."""
    from gitbench.judge.systems import compare_systems
    from gitbench.metric_info import DESCRIPTIVE, ordered
    from gitbench.report.systems import Systems, short_names

    names = short_names([file.path for file in files])
    metrics = ordered(set.intersection(*(set(each.values) for each in scores)))
    tables = [each.per_image for each in scores]
    compared = (compare_systems(metric, tables[:each_side], tables[each_side:]) for metric in metrics)
    differences = tuple(each for each in compared if each is not None)
    return Systems(
        a=tuple(names[:each_side]),
        b=tuple(names[each_side:]),
        references=given.name if given else "those in the files of captions",
        images=len(tables[0]),
        differences=differences,
        signatures={
            metric: tuple(dict.fromkeys(each.values[metric].signature for each in scores))
            for metric in (*(each.metric for each in differences), *DESCRIPTIVE)
        },
        described={
            metric: (_mean(scores[:each_side], metric), _mean(scores[each_side:], metric)) for metric in DESCRIPTIVE
        },
        absent={metric: why for each in scores for metric, why in each.absent.items()},
        warnings=tuple(_warnings(dict(zip(names, files, strict=True)), dict(zip(names, scores, strict=True)))),
    )


def _mean(scores: Sequence[Scores], metric: str) -> float:
    return sum(each.values[metric].value for each in scores) / len(scores)


def _warnings(files: Mapping[str, Predictions], scores: Mapping[str, Scores]) -> list[str]:
    """Return what to know before believing the scores, and which files say the same."""
    from gitbench.metrics.guards import warnings_of_all

    names = list(files)
    alike = [
        f"{other} and {name} say the same of every image, as if one were a copy of the other"
        for place, name in enumerate(names)
        for other in names[:place]
        if files[other].captions == files[name].captions
    ]
    return [*alike, *warnings_of_all({name: each.warnings for name, each in scores.items()}, "all files")]
