"""A contact sheet: images with texts beneath them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gitbench.errors import GitbenchError
from gitbench.files import atomic_path

if TYPE_CHECKING:
    import numpy as np

SHOWN = 3  # texts beneath an image
HEIGHT, BELOW = 4.05, 1.3  # inches of an image with its texts, and of the texts
FORMATS = (".png", ".jpg", ".jpeg", ".pdf", ".svg", ".webp")


def check_format(out: Path) -> None:
    """Refuse a picture's name whose ending says no format."""
    if out.suffix.lower() not in FORMATS:
        raise GitbenchError(f"{out}: unknown picture format: end the name with one of {', '.join(FORMATS)}")


def draw_sheet(shown: Sequence[tuple[np.ndarray, Sequence[str]]], out: Path) -> None:
    """Draw images, uint8 (H, W, 3), each with the first three of its texts, and write `out` atomically.

    Its ending decides the format. Blocks stay sharp when an image is scaled: what is shown is what a model gets.
    """
    check_format(out)
    import matplotlib
    from matplotlib.figure import Figure

    columns = min(4, len(shown))
    rows = math.ceil(len(shown) / columns)
    with matplotlib.rc_context({"font.family": "DejaVu Sans", "svg.fonttype": "none"}):
        figure = Figure(figsize=(3.0 * columns, HEIGHT * rows), dpi=110)
        below = BELOW / (HEIGHT * rows)
        figure.subplots_adjust(0.02, below, 0.98, 0.99, wspace=0.08, hspace=BELOW / (HEIGHT - BELOW))
        for place, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
            axes.axis("off")
            if place >= len(shown):
                continue
            image, texts = shown[place]
            axes.imshow(image, interpolation="nearest")
            height, width = image.shape[:2]
            side = max(
                height, width
            )  # of the square at whose lower left the image stands, so that texts are in columns
            axes.set(xlim=(-0.5, side - 0.5), ylim=(height - 0.5, height - 0.5 - side))
            # a text in data must not be taken for a formula
            lines = [textwrap.fill(f"\u2022 {said}", 46, subsequent_indent="   ") for said in texts[:SHOWN]]
            said = "\n".join(lines)
            axes.text(
                0.0, -0.04, said, fontsize=7.6, va="top", linespacing=1.3, transform=axes.transAxes, parse_math=False
            )
        with atomic_path(out) as temporary:
            figure.savefig(temporary, format=out.suffix[1:].lower(), facecolor="white")
