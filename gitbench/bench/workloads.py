"""What is timed: the workloads, the shapes of models and batches, the lengths of texts, and the tasks of a command.

Two kinds of training batch are shown, because the gain from doing no work on padding depends on them:

* `filled`: every text has the full length, our worst case;
* `captions`: lengths drawn from those of real captions, padded to the longest of the batch, as a collate function does.

Lengths count ids with [CLS] and [SEP]. A caption longer than a shape's texts is cut, as in training. No torch here.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gitbench.errors import GitbenchError, unknown_name
from gitbench.variants.decoder import DecoderSpec
from gitbench.variants.encoder import EncoderSpec

PEERS = ("hf", "hf-fused", "official")
TEXTS = ("filled", "captions")
STEPS = 20  # decoder steps of every caption that is generated
SCORED_IMAGES, QUICK_IMAGES = 5000, 200
SCORING_REPEATS = 3  # of pairs that take 20 s each

# Captions by their number of word pieces, without [CLS] and [SEP]: all 40,000 of Flickr8k (8,000 images), tokenised with
# BERT's uncased vocabulary of 30,522 and cut after 40. Mean 12.3, median 12.
CAPTION_LENGTHS = {
    2: 9, 3: 30, 4: 161, 5: 438, 6: 1029, 7: 2224, 8: 2990, 9: 3478, 10: 3988, 11: 4151, 12: 4057, 13: 3802, 14: 3210,
    15: 2686, 16: 2077, 17: 1607, 18: 1135, 19: 880, 20: 620, 21: 410, 22: 323, 23: 223, 24: 136, 25: 98, 26: 77, 27: 51,
    28: 38, 29: 18, 30: 12, 31: 16, 32: 6, 33: 7, 34: 6, 35: 3, 36: 2, 37: 1, 40: 1,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A training step with so many captions an image (the encoder frozen or not), captioning, or scoring."""

    name: str
    doc: str
    captions: int = 0  # of a training step; 0: no training
    frozen: bool = False
    beams: int = 0  # of captioning; 0: no captioning
    peers: tuple[str, ...] = ("hf", "official")


_ALL = (
    Workload(name="train-1", doc="training step, 1 caption per image", captions=1, peers=PEERS),
    Workload(name="train-5", doc="training step, 5 captions per image", captions=5),
    Workload(
        name="frozen-5",
        doc="training with frozen encoder, 5 captions per image",
        captions=5,
        frozen=True,
        peers=("hf",),
    ),
    Workload(name="greedy", doc="greedy captioning, 20 tokens", beams=1),
    Workload(name="beam-4", doc="beam-4 captioning, 20 tokens", beams=4),
    Workload(name="scoring", doc="scores of tokenised captions", peers=()),
)
WORKLOADS = {workload.name: workload for workload in _ALL}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A model and its batches. Dropout is 0 everywhere, in every program: random numbers are not what is compared."""

    name: str
    encoder: EncoderSpec
    decoder: DecoderSpec
    vocab_size: int
    text: int  # ids of a full text, with [CLS] and [SEP]
    train_images: int  # of a training step
    greedy_images: int
    beam_images: int
    seconds: float  # of timing a row; how many pairs fit in is how many are measured


_SHAPES = (
    Shape(  # for --quick: tests, and the regression check of a small CI machine
        name="quick",
        encoder=EncoderSpec(width=64, layers=2, heads=2, patch=8, image_size=64),
        decoder=DecoderSpec(layers=3, width=64, heads=2, ffn=256, dropout=0.0),
        vocab_size=512,
        text=16,
        train_images=8,
        greedy_images=4,
        beam_images=4,
        seconds=2.0,
    ),
    Shape(
        name="small",
        encoder=EncoderSpec(width=192, layers=6, heads=4, patch=8, image_size=64),  # 65 image tokens
        decoder=DecoderSpec(layers=4, width=192, heads=4, ffn=768, dropout=0.0),
        vocab_size=512,
        text=16,
        train_images=64,
        greedy_images=64,
        beam_images=64,
        seconds=12.0,
    ),
    Shape(  # GIT-base: ViT-B/16 at 224 px (197 image tokens), six decoder layers, BERT's vocabulary
        name="base",
        encoder=EncoderSpec(width=768, layers=12, heads=12, patch=16, image_size=224),
        decoder=DecoderSpec(layers=6, width=768, heads=12, ffn=3072, dropout=0.0),
        vocab_size=30522,
        text=40,
        train_images=4,
        greedy_images=2,
        beam_images=8,
        seconds=30.0,
    ),
)
SHAPES = {shape.name: shape for shape in _SHAPES}


def text_lengths(shape: Shape, texts: str, captions: int) -> list[int]:
    """Return the lengths in ids, [CLS] and [SEP] counted, of the texts of a training batch, in image order."""
    count = shape.train_images * captions
    if texts == "filled":
        return [shape.text] * count
    stream = random.Random(f"gitbench bench {shape.name} 0")
    drawn = stream.choices(list(CAPTION_LENGTHS), weights=list(CAPTION_LENGTHS.values()), k=count)
    return [min(pieces + 2, shape.text) for pieces in drawn]


@dataclass(frozen=True, kw_only=True)
class Task:
    """What one child process measures."""

    workload: str
    shape: str = ""  # empty for scoring
    peers: tuple[str, ...] = ()
    official: str | None = None  # a checkout of the official code
    repeats: int | None = None  # pairs of every row; None: what fits into the shape's seconds
    threads: int = 1
    images: int = SCORED_IMAGES  # of scoring

    def __str__(self) -> str:
        return f"{self.workload} {self.shape}".rstrip()


def make_tasks(
    workloads: Sequence[str], shapes: Sequence[str], peers: Sequence[str], *, quick: bool = False, **options: Any
) -> list[Task]:
    """Return the tasks of a benchmark run; `options` are fields of every task.

    A name that does not exist is an error that offers the nearest; so is the official code without its checkout.
    """
    for kind, names, known in (("workload", workloads, WORKLOADS), ("shape", shapes, SHAPES), ("peer", peers, PEERS)):
        for name in names:
            if name not in known:
                raise unknown_name(f"benchmark {kind}", name, known)
    if "official" in peers and not options.get("official"):
        raise GitbenchError("the official code is no part of gitbench: pass --official PATH of a checkout")
    tasks = []
    for name in workloads:
        if name == "scoring":
            images = QUICK_IMAGES if quick else SCORED_IMAGES
            scored = {**options, "threads": 1, "repeats": options.get("repeats") or SCORING_REPEATS}
            tasks.append(Task(workload=name, images=images, **scored))
            continue
        chosen = tuple(peer for peer in WORKLOADS[name].peers if peer in peers)
        if chosen:
            tasks += [Task(workload=name, shape=shape, peers=chosen, **options) for shape in shapes]
    if not tasks:
        raise GitbenchError(
            f"none of {', '.join(peers)} does any of {', '.join(workloads)}: name other --workloads or --peers"
        )
    return tasks
