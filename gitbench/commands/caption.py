"""The command `gitbench caption`: caption photographs with a checkpoint of any format."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from gitbench.errors import GitbenchError
from gitbench.formats import plural

ENDINGS = (".jsonl", ".json")  # of --out


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
        "--out", type=Path, metavar="FILE", help="write them: JSON lines (.jsonl) or COCO's results format (.json)"
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
        **{name: getattr(arguments, name) for name in ("tokenizer", "question", "greedy")},
    }
    if arguments.frames:
        from gitbench.training.caption import caption_video

        print(f"{' '.join(map(str, files))}\t{caption_video(files, arguments.weights, **options)}")
        return 0
    unreadable: list[str] | None = [] if arguments.skip_unreadable else None
    options |= {"batch": arguments.batch, "unreadable": unreadable}
    if arguments.out is None:
        from gitbench.training.caption import caption_files

        for file, text in caption_files(files, arguments.weights, **options):
            print(f"{file}\t{text}", flush=True)
    else:
        _write(arguments, files, options)
    for line in unreadable or ():
        print(f"gitbench: left out: {line}", file=sys.stderr)
    if unreadable:
        print(f"gitbench: {len(unreadable)} of {plural(len(files), 'image')} left out", file=sys.stderr)
    return 0


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
    """Caption files, show how far it is, and write the captions when all are there."""
    from rich.console import Console
    from rich.progress import track

    from gitbench.data.predictions import coco_ids, write_captions

    files = list(dict.fromkeys(files))  # a folder, and a file in it
    if arguments.out.suffix == ".json":
        coco_ids(files)  # what can have no id is told before anything is captioned
    from gitbench.training.caption import caption_files

    captions = caption_files(files, arguments.weights, **options)
    console = Console(stderr=True)
    shown = track(captions, "captioning", len(files), console=console, disable=not console.is_terminal)
    written = dict(shown)
    write_captions(arguments.out, written, arguments.question)
    print(f"{plural(len(written), 'caption')}: {arguments.out}")
