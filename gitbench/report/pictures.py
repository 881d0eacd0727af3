"""The figure of captions beside their images. Only data sets whose pictures may be passed on get one."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from matplotlib.figure import Figure

from gitbench.report.style import FAINT, INK
from gitbench.report.view import Sample


def prediction_figure(samples: Sequence[Sample]) -> Figure:
    """Draw each sample's image with references and captions beside it; every sample must have its image."""
    columns = 2
    rows = -(-len(samples) // columns)
    blocks = [_caption_lines(sample) for sample in samples]
    line, gap = 0.148, 0.3  # inches a text line and between rows
    heights = [
        max(1.3, max(len(block) for block in blocks[row * columns : (row + 1) * columns]) * line) for row in range(rows)
    ]
    total = sum(heights) + gap * rows
    figure = Figure(figsize=(10.4, total))
    top = total - gap / 2
    for index, (sample, block) in enumerate(zip(samples, blocks, strict=True)):
        row, column = divmod(index, columns)
        if column == 0 and row:
            top -= heights[row - 1] + gap
        left = 0.1 + column * 5.2
        axes = figure.add_axes((left / 10.4, (top - 1.3) / total, 1.3 / 10.4, 1.3 / total))
        assert sample.image is not None
        axes.imshow(sample.image, interpolation="nearest" if min(sample.image.shape[:2]) < 64 else "antialiased")
        axes.set_axis_off()
        for number, (text, colour, weight) in enumerate(block):
            place = ((left + 1.42) / 10.4, (top - number * line) / total)
            figure.text(*place, text, va="top", size=7.4, color=colour, weight=weight)
    return figure


def _caption_lines(sample: Sample) -> list[tuple[str, str, str]]:
    """Return (text, colour, weight) lines: image id, two references, then every arm's caption, wrapped."""
    lines = [(f"image {sample.image_id}", FAINT, "normal")]
    if sample.given:
        lines += [(part, FAINT, "normal") for part in textwrap.wrap(f"question: {sample.given}", 62, max_lines=2)]
    for reference in sample.references[:2]:
        lines += [(part, FAINT, "normal") for part in textwrap.wrap(f"reference: {reference}", 62, max_lines=2)]
    for caption in sample.captions:
        score = "" if caption.score is None else f"  [{caption.score:.0f}]"
        wrapped = textwrap.wrap(f"{caption.arm}: {caption.text}{score}", 62, max_lines=3) or [f"{caption.arm}:"]
        lines += [(part, FAINT if caption.role == "floor" else INK, "normal") for part in wrapped]
    return lines
