"""Where scores of captions mislead: one caption for all images, CIDEr of few images, images too few for a margin.

Each function returns plain lines, none where nothing is wrong. No line changes a score or a verdict.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from scipy import stats

from gitbench.formats import digits

# Of 500 scenes, runs of the cpu profile on the base encoder write 76 to 97 % distinct captions, those that see little (random
# encoder, a tenth of the pre-training, the decoder's own rate) 30 to 66 %, a blind one a single caption (LOG.md, 2026-11-30).
# The share falls as images are added (random encoder: 12 to 20 % of 2,000), so it is taken of so many.
LEAST_DISTINCT = 0.2
_DISTINCT_OF = 500
FEW_IMAGES = 100  # people against people on Flickr8k: CIDEr 81 of 1,000 images, 88 of 100, 92 of 30, 106 of 10 (LOG.md)


def caption_warnings(predictions: Mapping[str, str]) -> list[str]:
    """Return what to know before believing the scores of these captions, image id -> text; there must be one at least."""
    captions = [" ".join(caption.lower().split()) for caption in predictions.values()]
    count, empty = len(captions), captions.count("")
    some = captions[:_DISTINCT_OF]
    distinct = len(set(some))
    found = []
    if len(set(captions)) == 1 and count > 1:
        found.append(f'the same caption for all {count} images ("{captions[0]}"): it does not depend on the image')
    elif distinct / len(some) < LEAST_DISTINCT:
        found.append(
            f"{distinct} distinct captions for {len(some)} images, {100 * distinct / len(some):.0f} % (flagged below "
            f"{100 * LEAST_DISTINCT:.0f} %): they hardly depend on the image"
        )
    if empty:
        found.append(f"empty captions, {empty} of {count}, which score 0")
    return found + cider_warnings(count)


def warnings_of_all(warnings: Mapping[str, Iterable[str]], everyone: str) -> list[str]:
    """Return the warnings of several sets of captions by name, each line once, with whom it is about."""
    found: dict[str, list[str]] = {}
    for name, lines in warnings.items():
        for line in dict.fromkeys(lines):
            found.setdefault(line, []).append(name)
    return [f"{everyone if len(names) == len(warnings) else ', '.join(names)}: {line}" for line, names in found.items()]


def cider_warnings(images: int) -> list[str]:
    """Return what to know about the CIDEr of so many images."""
    if images == 1:
        return [
            "CIDEr of a single image is 0.0 whatever it says: an n-gram weighs log(images / images whose references "
            "hold it), which is log(1) = 0"
        ]
    if images < FEW_IMAGES:
        return [
            f"CIDEr of {images} images is not comparable with that of more, and mostly too high: an n-gram weighs "
            "log(images / images whose references hold it), which comes from these images alone"
        ]
    return []


def margin_warnings(error: float, images: int, margin: float, what: str) -> list[str]:
    """Return whether there are too few images for a margin of `what` ("claim x"): more seeds would not help.

    `error` is the standard error of the judged difference that is due to the choice of `images`; its 95 % half-width is
    compared with the margin, in the same unit.
    """
    if images < 2 or margin <= 0:
        return []
    half = float(stats.t.ppf(0.975, images - 1)) * error
    if half <= margin:
        return []
    places, wanted = digits((half, margin)), math.ceil(images * (half / margin) ** 2)
    return [
        f"{images} test images are too few for the margin of {what}: over images alone the 95 % interval is ± "
        f"{half:.{places}f} and the margin {margin:.{places}f}; it would take about {wanted:,} images, and no number of "
        "seeds makes up for them"
    ]
