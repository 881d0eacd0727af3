"""What is timed: the shapes of models and batches, and how long the texts of a training batch are. No torch.

Two kinds of training batch are shown, because the gain from doing no work on padding depends on them:

* `filled`: every text has the full length, our worst case;
* `captions`: lengths drawn from those of real captions, padded to the longest of the batch, as a collate function does.

Lengths count ids with [CLS] and [SEP]. A caption longer than a shape's texts is cut, as in training.
"""

from __future__ import annotations

import dataclasses
import random
from dataclasses import dataclass

from gitbench.errors import unknown_name
from gitbench.variants.decoder import DecoderSpec
from gitbench.variants.encoder import EncoderSpec

TEXTS = ("filled", "captions")
STEPS = 20  # decoder steps of every caption that is generated

# Captions by their number of word pieces, without [CLS] and [SEP]: all 40,000 of Flickr8k (8,000 images), tokenised with
# BERT's uncased vocabulary of 30,522 and cut after 40. Mean 12.3, median 12.
CAPTION_LENGTHS = {
    2: 9, 3: 30, 4: 161, 5: 438, 6: 1029, 7: 2224, 8: 2990, 9: 3478, 10: 3988, 11: 4151, 12: 4057, 13: 3802, 14: 3210,
    15: 2686, 16: 2077, 17: 1607, 18: 1135, 19: 880, 20: 620, 21: 410, 22: 323, 23: 223, 24: 136, 25: 98, 26: 77, 27: 51,
    28: 38, 29: 18, 30: 12, 31: 16, 32: 6, 33: 7, 34: 6, 35: 3, 36: 2, 37: 1, 40: 1,
}  # fmt: skip


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


SHAPES = {
    shape.name: shape
    for shape in (
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
        Shape(
            name="base",  # GIT-base: ViT-B/16 at 224 px (197 image tokens), six decoder layers, BERT's vocabulary
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
}


def get_shape(name: str) -> Shape:
    """Return a shape by name; an unknown one is an error that offers the nearest."""
    if name not in SHAPES:
        raise unknown_name("benchmark shape", name, SHAPES)
    return SHAPES[name]


def for_gpu(shape: Shape, gib: float) -> Shape:
    """Return the shape with batches for a GPU of so much memory: up to 8 times as large, or nothing would fill it.

    Hugging Face's step of the base shape, which repeats the images, sets the limit: about 10 GiB for each time.
    """
    factor = 2 ** min(3, max(0, int(gib / 10)).bit_length() - 1) if gib >= 10 else 1
    images = {name: factor * getattr(shape, name) for name in ("train_images", "greedy_images", "beam_images")}
    return dataclasses.replace(shape, **images)


def text_lengths(shape: Shape, texts: str, captions: int, seed: int = 0) -> list[list[int]]:
    """Return the lengths in ids, [CLS] and [SEP] counted, of each image's texts in a training batch: (images, captions)."""
    if texts not in TEXTS:
        raise unknown_name("kind of texts", texts, TEXTS)
    if texts == "filled":
        return [[shape.text] * captions for _ in range(shape.train_images)]
    stream = random.Random(f"gitbench bench {shape.name} {seed}")
    drawn = stream.choices(
        list(CAPTION_LENGTHS), weights=list(CAPTION_LENGTHS.values()), k=shape.train_images * captions
    )
    lengths = [min(pieces + 2, shape.text) for pieces in drawn]
    return [lengths[row * captions : (row + 1) * captions] for row in range(shape.train_images)]
