"""The command `gitbench caption`: caption photographs with a checkpoint of any format."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gitbench.errors import GitbenchError
from gitbench.formats import plural

ENDINGS = (".jsonl", ".json")  # of --out
SILENCE = 30.0  # seconds between two lines that say how far it is
Captions = Iterator[tuple[Path, str]]


def add(commands: Any) -> None:
    """Add the parser of the command."""
    caption = commands.add_parser("caption", help="caption photographs with a checkpoint of any format")
    caption.add_argument(
        "images", nargs="+", metavar="IMAGE", help="files, folders (all images in them and below) and patterns"
    )
    caption.add_argument(
        "--weights",
        required=True,
        type=Path,
        metavar="PATH",
        help="folder of a finished run, of an official model (snapshot/model.pt) or of save_pretrained, or the file in it",
    )
    search = caption.add_mutually_exclusive_group()
    search.add_argument("--beam", type=int, default=4, metavar="N", help="beam size (default 4)")
    search.add_argument(
        "--greedy", action="store_true", help="the likeliest token at each step instead of a beam search"
    )
    caption.add_argument("--batch", type=int, default=1, metavar="N", help="images captioned at a time (default 1)")
    caption.add_argument(
        "--tokenizer", metavar="NAME|PATH", help="instead of the checkpoint's own, or BERT's for an official one"
    )
    caption.add_argument("--question", metavar="TEXT", help="answer this about each image (VQA checkpoints)")
    caption.add_argument("--frames", action="store_true", help="the images are the frames of one video, in order")
    caption.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="write them: JSON lines (.jsonl) or COCO's results format (.json); until all are there into FILE.part, from "
        "which the same command goes on",
    )
    caption.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="what computes, in float32 (default: cpu)"
    )
    caption.add_argument(
        "--skip-unreadable", action="store_true", help="leave out images that cannot be read, and say which"
    )
    caption.set_defaults(run=_caption)


def _caption(arguments: argparse.Namespace) -> int:
    from gitbench.data.image_paths import image_paths

    _check(arguments)
    files = image_paths(arguments.images)
    options = {
        "beam_size": arguments.beam,
        **{name: getattr(arguments, name) for name in ("tokenizer", "question", "greedy", "device")},
    }
    if arguments.out is None:
        arguments.stopped = "what is printed is all there is: with --out the same command would go on from here"
    if arguments.frames:
        from gitbench.training.caption import caption_video

        print(f"{' '.join(map(str, files))}\t{caption_video(files, arguments.weights, **options)}")
        return 0
    files = list(dict.fromkeys(files))  # a folder, and a file in it
    unreadable: list[str] | None = [] if arguments.skip_unreadable else None
    options |= {"batch": arguments.batch, "unreadable": unreadable}
    if arguments.out is None:
        from gitbench.training.caption import caption_files

        for file, text in caption_files(files, arguments.weights, **options):
            print(f"{file}\t{text}", flush=True)
        _check_readable(unreadable, files)
    else:
        _write(arguments, files, options)
    for line in unreadable or ():
        print(f"gitbench: left out: {line}", file=sys.stderr)
    if unreadable:
        print(f"gitbench: {len(unreadable)} of {plural(len(files), 'image')} left out", file=sys.stderr)
    return 0


def _check_readable(unreadable: list[str] | None, files: list[Path]) -> None:
    """Refuse images of which none can be read."""
    if unreadable and len(unreadable) == len(files):
        raise GitbenchError(f"none of the images can be read ({plural(len(files), 'image')}): {unreadable[0]}")


def _check(arguments: argparse.Namespace) -> None:
    """Refuse options that cannot hold together, before any file is looked at."""
    out, batch = arguments.out, arguments.batch
    if batch < 1:
        raise GitbenchError(f"--batch {batch}: use 1 or more")
    if out is not None and out.suffix not in ENDINGS:
        raise GitbenchError(
            f"--out {out}: name a file that ends in .jsonl (JSON lines) or .json (COCO's results format)"
        )
    if out is not None and out.suffix == ".json" and arguments.question is not None:
        raise GitbenchError(f"--out {out}: COCO's results format is of captions: write answers to a .jsonl file")
    if arguments.frames and (out is not None or batch > 1 or arguments.skip_unreadable):
        raise GitbenchError("--frames makes one video of all images: leave out --out, --batch and --skip-unreadable")


def _write(arguments: argparse.Namespace, files: list[Path], options: dict[str, Any]) -> None:
    """Caption files that have no caption yet, show how far it is, and write all captions when they are there."""
    from gitbench.data.caption_file import CaptionFile

    with CaptionFile(arguments.out, files, _made_by(arguments)) as out:
        if out.captions:
            done = f"{len(out.captions)} of {plural(len(files), 'image')} were captioned before ({out.part})"
            print(f"gitbench: {done}: going on", file=sys.stderr)
        if out.left:
            from gitbench.training.caption import caption_files

            for file, text in _shown(caption_files(out.left, arguments.weights, **options), len(out.left)):
                out.add(file, text)
        _check_readable(options["unreadable"], files)
        written = len(out.captions)
        out.finish(arguments.question)
    print(f"{plural(written, 'caption')}: {arguments.out}")


def _made_by(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what decides the captions: captions that other weights or another search made are none of this command's."""
    from gitbench.models.checkpoint import checkpoint_files

    stats = {os.path.abspath(file): file.stat() for file in checkpoint_files(arguments.weights)}
    weights = {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}
    return {
        "weights": weights,
        **{name: getattr(arguments, name) for name in ("beam", "greedy", "question", "tokenizer")},
    }


def _shown(captions: Captions, total: int) -> Captions:
    """Pass captions on and show how far they are: by a bar on a terminal, elsewhere by a line now and then."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    if console.is_terminal:
        yield from track(captions, "captioning", total, console=console)
        return
    said = time.monotonic()
    for number, each in enumerate(captions, 1):
        yield each
        if time.monotonic() - said >= SILENCE:
            said = time.monotonic()
            print(f"gitbench: {number} of {plural(total, 'image')} captioned", file=sys.stderr, flush=True)
