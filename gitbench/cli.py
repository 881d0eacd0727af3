"""The command line. `list`, `report`, `scenes`, `caption` and `doctor` are here, the others in the `cli_*` beside it.

Parsing and `list` import neither torch nor pandas; each command imports what it needs. Errors meant for people end
with one line on stderr and a non-zero status; Ctrl-C ends with 130 and loses nothing.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from pathlib import Path
from typing import NoReturn

from gitbench.commands import bench as cli_bench
from gitbench.commands import bundle as cli_bundle
from gitbench.commands import doctor
from gitbench.commands import explain as cli_report
from gitbench.commands import lock as cli_lock
from gitbench.commands import noise_floor as cli_noise
from gitbench.commands import run as cli_run
from gitbench.commands.options import study_of, study_options
from gitbench.errors import GitbenchError


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are one line: what is wrong and where help is."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status (0 done, 1 not all done, 2 an error to mend, 130 interrupted)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that knows ASCII alone gets "?" for "×", not a traceback
            stream.reconfigure(errors="replace")
    arguments = _parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except GitbenchError as error:
        print(f"gitbench: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("gitbench: stopped; what was done is kept, the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `gitbench list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="gitbench",
        description="Reproducible benchmarks and ablations of GIT, the Generative Image-to-text Transformer.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    listing = commands.add_parser("list", help="ablations, arms, claims, profiles, data sets and variants")
    listing.set_defaults(run=_list)

    cli_run.add(commands)

    report = commands.add_parser("report", help="rebuild a report from the run folders (needs no torch)")
    report.add_argument("ablation", nargs="?", metavar="ABLATION|BUNDLE")
    study_options(report)
    report.add_argument("--out", type=Path, metavar="DIR")
    report.add_argument("--bundle", type=Path, metavar="FILE", help="an archive that `gitbench bundle` wrote")
    cli_report.add_board(report)
    report.set_defaults(run=_report)
    cli_report.add(commands)
    cli_bundle.add(commands)
    cli_noise.add(commands)
    cli_bench.add(commands)
    cli_lock.add(commands)

    scenes = commands.add_parser("scenes", help="draw scenes of the embedded world with their captions")
    scenes.add_argument("--show", type=int, default=16, metavar="N", help="how many (default 16)")
    scenes.add_argument("--split", default="train", choices=("train", "val", "test"))
    scenes.add_argument("--size", type=int, default=64, metavar="PX", help="pixels a scene is rendered at (default 64)")
    scenes.add_argument("--out", type=Path, default=Path("scenes.png"), metavar="FILE")
    scenes.set_defaults(run=_scenes)

    caption = commands.add_parser("caption", help="caption photographs with a checkpoint of any format")
    caption.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    caption.add_argument(
        "--weights",
        required=True,
        type=Path,
        metavar="PATH",
        help="folder of a finished run, of an official model (snapshot/model.pt) or of save_pretrained, or the file in it",
    )
    caption.add_argument("--beam", type=int, default=4, metavar="N", help="beam size (default 4)")
    caption.add_argument(
        "--tokenizer", metavar="NAME|PATH", help="instead of the checkpoint's own, or BERT's for an official one"
    )
    caption.add_argument("--question", metavar="TEXT", help="answer this about each image (VQA checkpoints)")
    caption.add_argument("--frames", action="store_true", help="the images are the frames of one video, in order")
    caption.set_defaults(run=_caption)

    doctor.add(commands)
    return parser


def _list(arguments: argparse.Namespace) -> int:
    from gitbench.ablations import ablation_files, load_ablation, summary
    from gitbench.data import data_names
    from gitbench.profiles import PROFILES
    from gitbench.tasks import TASKS
    from gitbench.variants import axes

    print("ablations")
    for name, path in ablation_files().items():
        print(f"  {name:<20} {summary(path)}")
        ablation = load_ablation(name)
        for size, arms in ablation.arms.items():
            shown = ", ".join(f"{arm.name} ({', '.join(arm.variants.values())})" for arm in arms)
            print(f"    {size:<6} {shown}")
        for claim in ablation.claims:
            print(f"    claim  {claim.name}: {claim.says} ({claim.where})")
    print("profiles")
    for profile in PROFILES.values():
        print(f"  {profile.name:<20} {profile.doc}")
    print("tasks")
    for name, task in TASKS.items():
        print(f"  {name:<20} {task.doc}")
    print("data sets")
    for name in data_names():
        print(f"  {name:<20} part of gitbench: rendered, with captions, questions and graphs; no file, no network")
    print(
        "  FOLDER               Parquet shards ({train,val,test}*.parquet with image, captions), or COCO layout (images/ +\n"
        "                       JSON); vqa: images/ + questions.json; read: Parquet with text; classify: with label"
    )
    print("variants")
    for axis, names in axes().items():
        print(f"  {axis:<20} {', '.join(names)}")
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from gitbench.commands.publish import publish

    if arguments.all:
        return cli_report.board(arguments)
    bundle = cli_bundle.asked_for(arguments)
    if bundle is not None:
        print(f"report: {cli_bundle.report_bundle(bundle, arguments.work_dir, arguments.out) / 'report.html'}")
        return 0
    work_dir, study = study_of(arguments)
    print(f"report: {publish(work_dir, study, arguments.out) / 'report.html'}")
    return 0


def _scenes(arguments: argparse.Namespace) -> int:
    from gitbench.data.scenes.sheet import draw_contact_sheet

    draw_contact_sheet(arguments.show, arguments.split, arguments.out, arguments.size)
    print(f"{arguments.show} scenes: {arguments.out}")
    return 0


def _caption(arguments: argparse.Namespace) -> int:
    from gitbench.training.caption import caption_files

    captions = caption_files(
        arguments.images,
        arguments.weights,
        arguments.beam,
        tokenizer=arguments.tokenizer,
        question=arguments.question,
        frames=arguments.frames,
    )
    for images, caption in captions:
        print(f"{images}\t{caption}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
