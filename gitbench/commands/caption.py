"""The command `gitbench caption`: caption photographs with a checkpoint of any format."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Add the parser of the command."""
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
