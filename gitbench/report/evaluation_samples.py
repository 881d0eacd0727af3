"""Images of an evaluation with what was said of them: the best, the worst and some at random; of several, where they part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from gitbench.data.tasks import TaskSource
from gitbench.judge.systems import ALIKE
from gitbench.metric_info import quality_sign
from gitbench.report.paper_row import main_score
from gitbench.report.samples import Pictures, Sample, chance_of, image_scores, sample_of
from gitbench.study.evaluations import Evaluation

EACH, DRAWN = 4, 6  # pictures of the best and of the worst images, and of images drawn at random
SIDE = 224  # pixels of a picture's longer side, at most


def pictures_of(source: TaskSource) -> Pictures:
    """Return what gives the picture of an image of a split, small; of a film a frame from its middle."""
    places = {source.image_id(index): index for index in range(len(source))}

    def picture(image_id: Any) -> np.ndarray:
        image = source.image(places[str(image_id)])
        image = image[len(image) // 2] if image.ndim == 4 else image
        small = Image.fromarray(image)
        small.thumbnail((SIDE, SIDE))
        return np.asarray(small)

    return picture


def groups_of(
    evaluations: Sequence[Evaluation], titles: Sequence[str], images: Pictures | None
) -> tuple[tuple[str, tuple[Sample, ...]], ...]:
    """Return headings, each with its images, by how they score; of several systems by how far the last is from the first."""
    plan = evaluations[0].plan
    metric, several = main_score(plan), len(evaluations) > 1
    captions = {title: each.rows for title, each in zip(titles, evaluations, strict=True)}
    scores = {title: image_scores(each.per_image, metric) for title, each in zip(titles, evaluations, strict=True)}
    first, last, sign = scores[titles[0]], scores[titles[-1]], quality_sign(metric)
    names = [str(name) for name in chance_of(plan.data_fingerprint).permutation(list(evaluations[0].rows))]
    heights = {name: sign * (last[name] - first[name] * several) for name in names if name in first and name in last}
    best_last = sorted(heights, key=heights.__getitem__)  # ties fall by chance
    best, worst = best_last[::-1][:EACH], best_last[:EACH]
    if several:
        best = [name for name in best if heights[name] > ALIKE]
        worst = [name for name in worst if heights[name] < -ALIKE]
    heads = (f"{titles[-1]} gains most", f"{titles[-1]} loses most") if several else ("Best", "Worst")
    groups = ((heads[0], best), (heads[1], worst), ("At random", names[:DRAWN]))
    return tuple(
        (head, tuple(sample_of(name, captions, scores, images) for name in chosen)) for head, chosen in groups if chosen
    )
