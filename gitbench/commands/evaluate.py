"""The command `gitbench evaluate`: score checkpoints of any format on a split of data, and compare several."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gitbench.commands.data_options import data_options
from gitbench.commands.options import device_option, without_folder, work_dir_of
from gitbench.errors import GitbenchError
from gitbench.spec import EvaluateSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gitbench.launch.evaluation_plan import Asked, Prepared
    from gitbench.study.evaluations import Evaluation


class _Split(argparse.Action):
    """--split names the split that is evaluated, or says how splits are made, as for other commands."""

    def __call__(self, parser: Any, arguments: Any, value: Any, option: Any = None) -> None:
        if "/" in value or "=" in value:
            arguments.data_split = [*(getattr(arguments, "data_split", None) or []), value]
        else:
            arguments.split = value


def add(commands: Any) -> None:
    """Add the parser of the command."""
    evaluate = commands.add_parser("evaluate", help="score checkpoints of any format on a data set, and compare them")
    evaluate.add_argument(
        "weights",
        nargs="+",
        type=Path,
        metavar="WEIGHTS",
        help="folder of a finished run, of an official model (snapshot/model.pt) or of save_pretrained, or the file in it; "
        "several are compared with the first",
    )
    evaluate.add_argument(
        "--data",
        required=True,
        metavar="NAME|PATH",
        help="scenes, a folder, SET:FOLDER or hub:OWNER/NAME, as for `run`",
    )
    data_options(evaluate, split=False)
    evaluate.add_argument(
        "--split",
        action=_Split,
        default="test",
        metavar="NAME",
        help="test (default), val or train; or how splits are made, as for `data`: 80/10/10",
    )
    evaluate.add_argument(
        "--task",
        metavar="NAME",
        help="caption, vqa, video, classify or read (default: the checkpoint's, or the data's)",
    )
    evaluate.add_argument("--limit", type=int, metavar="N", help="the first N images alone")
    evaluate.add_argument("--beam", type=int, metavar="N", help="beam size (default: the checkpoint's, or 4)")
    evaluate.add_argument(
        "--tokenizer", metavar="NAME|PATH", help="instead of the checkpoint's own, or BERT's for an official one"
    )
    evaluate.add_argument(
        "--batch",
        type=int,
        default=EvaluateSpec.batch_images,
        metavar="N",
        help=f"images at a time (default {EvaluateSpec.batch_images}); another number may change the last digits",
    )
    device_option(evaluate)
    evaluate.add_argument(
        "--jobs", type=int, metavar="N", help="processes that share the images (default: one per GPU or CPU core)"
    )
    evaluate.add_argument(
        "--work-dir", type=Path, metavar="DIR", help="where evaluations are kept (default: work_dirs)"
    )
    evaluate.set_defaults(run=_evaluate)


def _evaluate(arguments: argparse.Namespace) -> int:
    asked = _asked(arguments)
    from gitbench.data import read_once
    from gitbench.launch.evaluation import evaluate
    from gitbench.launch.evaluation_plan import prepare
    from gitbench.metrics import CaptionScorer
    from gitbench.report.evaluation import text, write_evaluation

    with CaptionScorer() as scorer:  # no Java is told now
        with read_once():
            prepared = prepare(arguments.weights, asked, work_dir_of(arguments))
            images = _pictures(prepared)
        evaluations = []
        for each in prepared:
            for line in each.warnings:
                print(f"gitbench: {each.plan.name}: {line}", file=sys.stderr)
            with _progress(each) as done:
                evaluations.append(evaluate(each, scorer, arguments.jobs, _command(arguments), done))
    for each, evaluation in zip(prepared, evaluations, strict=True):
        view = write_evaluation(evaluation, images)
        for line in evaluation.record["warnings"]:
            if line not in each.warnings:
                print(f"gitbench: {each.plan.name}: {line}", file=sys.stderr)
        if len(evaluations) == 1:
            print(text(view))
        print(f"report: {evaluation.folder.report}")
    if len(evaluations) > 1:
        _compare(evaluations, images, work_dir_of(arguments))
    return 0


def _asked(arguments: argparse.Namespace) -> Asked:
    """Return what is asked for. Errors: GitbenchError for numbers that are none, and weights that are not there."""
    from gitbench.captioners.shipped import existing_weights
    from gitbench.data import SPLITS
    from gitbench.errors import unknown_name
    from gitbench.launch.evaluation_plan import Asked

    for name in ("limit", "beam", "batch", "jobs"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise GitbenchError(f"--{name} {value}: use 1 or more")
    if arguments.split not in SPLITS:
        raise unknown_name("split", arguments.split, SPLITS)
    for path in arguments.weights:
        existing_weights(path)
    return Asked(
        data=arguments.data,
        task=arguments.task,
        split=arguments.split,
        limit=arguments.limit,
        tokenizer=arguments.tokenizer,
        beam_size=arguments.beam,
        batch=arguments.batch,
        device=_device(arguments.device),
    )


def _device(asked: str | None) -> Any:
    """Return what computes: as asked for, else a GPU where there is one."""
    from gitbench.machine import gpus

    if asked == "cuda" and not gpus():
        raise GitbenchError("--device cuda: this machine has no GPU that can be used (`gitbench doctor`): leave it out")
    return asked or ("cuda" if gpus() else "cpu")


def _pictures(prepared: Sequence[Prepared]) -> Any:
    from gitbench.data.tasks import open_task
    from gitbench.report.evaluation_samples import pictures_of

    plan = prepared[0].plan
    return pictures_of(open_task(plan.data, plan.split, plan.limit, plan.task))


@contextmanager
def _progress(prepared: Prepared) -> Iterator[Callable[[int], None]]:
    """Show how far an evaluation is, on a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task(prepared.plan.name, total=prepared.plan.images)
        yield lambda images: progress.advance(bar, images)


def _compare(evaluations: Sequence[Evaluation], images: Any, work_dir: Path) -> None:
    """Compare several evaluations, in a folder that is named after all of them."""
    import hashlib

    from gitbench.launch.evaluation_plan import EVALUATIONS, label_of
    from gitbench.report.evaluation import text, write_comparison

    keys = hashlib.sha256(" ".join(each.record["key"] for each in evaluations).encode()).hexdigest()[:8]
    first = evaluations[0].plan
    others = evaluations[1].plan.name if len(evaluations) == 2 else f"{len(evaluations) - 1}-others"
    folder = work_dir / EVALUATIONS / f"{first.name}-beside-{others}.{label_of(first)}.{keys}"
    view = write_comparison(evaluations, folder, images)
    print(text(view))
    print(f"comparison: {folder / 'report.html'}")


def _command(arguments: argparse.Namespace) -> str:
    """Return the command as provenance may name it: folders by name alone."""
    from gitbench.data.address import by_name

    words = ["gitbench", "evaluate", *(path.name for path in arguments.weights), "--data", by_name(arguments.data)]
    for name in ("split", "task", "limit", "beam", "batch", "device"):
        if (value := getattr(arguments, name)) is not None:
            words += [f"--{name}", str(value)]
    if arguments.tokenizer is not None:
        words += ["--tokenizer", without_folder(arguments.tokenizer)]
    return shlex.join(words)
