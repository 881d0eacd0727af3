"""The floating-point operations that a work needs, whoever does it: the numerator of a share of the matrix rate.

By the formulas of `gitbench.models.flops`: each image once per layer however many captions it has, text positions only,
the vocabulary only where a token is predicted; a backward pass costs twice the forward pass. A frozen encoder with kept
features costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from gitbench.bench.shapes import STEPS
from gitbench.models.flops import flops_by_part
from gitbench.models.git import GIT


def training_operations(model: GIT, images: int, lengths: Sequence[int], frozen: bool = False) -> float:
    """Operations of a training step on `images` images with texts of these lengths (ids, [CLS] and [SEP] counted).

    A text of n ids is read at n - 1 positions, each of which predicts the next.
    """
    image = flops_by_part(model, captions=1, tokens=1)
    of_images = images * (image["projection"] + image["image_stream"] + (0 if frozen else image["encoder"]))
    of_texts = 0.0
    for length in lengths:
        text = flops_by_part(model, captions=1, tokens=length - 1)
        of_texts += text["text_stream"] + text["head"]
    return 3 * (of_images + of_texts)


def generation_operations(model: GIT, images: int, beams: int) -> float:
    """Operations of writing STEPS tokens with so many beams an image."""
    return images * sum(flops_by_part(model, captions=beams, tokens=STEPS).values())
