"""A contact sheet of scenes with what is said about them: `gitbench scenes --show 16 --out scenes.png`."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path

from gitbench.data.scenes.world import Scenes
from gitbench.errors import GitbenchError
from gitbench.files import atomic_path

SHOWN = 3  # captions beneath a picture
HEIGHT, BELOW = 4.05, 1.3  # inches of a picture with its captions, and of the captions
FORMATS = (".png", ".jpg", ".jpeg", ".pdf", ".svg", ".webp")


def draw_contact_sheet(count: int, split: str, out: Path, size: int = 64) -> None:
    """Draw the first `count` scenes of a split, at `size` pixels each as a model sees them, with three captions.

    Writes `out` atomically; its suffix decides the format.
    """
    import matplotlib

    if count < 1:
        raise GitbenchError(f"--show {count}: show at least 1 scene")
    if not 16 <= size <= 1024:
        raise GitbenchError(f"--size {size}: scenes are drawn at 16 to 1024 pixels")
    if out.suffix.lower() not in FORMATS:
        raise GitbenchError(f"{out}: unknown picture format: end the name with one of {', '.join(FORMATS)}")
    from matplotlib.figure import Figure

    source = Scenes("scenes", split, count)
    columns = min(4, count)
    rows = math.ceil(count / columns)
    with matplotlib.rc_context({"font.family": "DejaVu Sans", "svg.fonttype": "none"}):
        figure = Figure(figsize=(3.0 * columns, HEIGHT * rows), dpi=110)
        below = BELOW / (HEIGHT * rows)
        figure.subplots_adjust(0.02, below, 0.98, 0.99, wspace=0.08, hspace=BELOW / (HEIGHT - BELOW))
        for place, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
            axes.axis("off")
            if place >= count:
                continue
            # blocks stay sharp when the picture is scaled: what is shown is what the model gets
            axes.imshow(source.render(place, size), interpolation="nearest")
            captions = source.example(place).captions[:SHOWN]
            lines = [textwrap.fill(f"\u2022 {said}", 46, subsequent_indent="   ") for said in captions]
            axes.text(0.0, -0.04, "\n".join(lines), fontsize=7.6, va="top", linespacing=1.3, transform=axes.transAxes)
        with atomic_path(out) as temporary:
            figure.savefig(temporary, format=out.suffix[1:].lower(), facecolor="white")
