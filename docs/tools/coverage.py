"""Coverage of the interval over seeds and images, by simulation with known truth. Prints a table of `docs/judge.md`.

    python docs/tools/coverage.py        (under a minute)

Tables with normal effects are not drawn: their mean and mean squares are independent, normal and chi-square, which
makes 40,000 studies a cell cheap. Tables of other shapes (skewed images as those of CIDEr, heavy-tailed seeds) are, and
go through `crossed_interval`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import stats

from gitbench.judge.crossed import IMAGES_COUNT, crossed_interval
from gitbench.judge.statistics import half_width

REPLICATES = (3, 4, 5, 6, 7, 8, 16)
IMAGES = (30, 100, 500, 5000)
# Shares of the variance of the mean that are due to (seeds, images, rest).
SHARES = (
    *((1.0, 0.0, 0.0), (0.9, 0.1, 0.0), (0.75, 0.25, 0.0), (0.5, 0.5, 0.0), (0.25, 0.75, 0.0), (0.0, 1.0, 0.0)),
    *((0.5, 0.0, 0.5), (0.3, 0.1, 0.6), (0.25, 0.25, 0.5), (0.1, 0.1, 0.8), (0.0, 0.0, 1.0)),
    *((0.0, 0.2, 0.8), (0.0, 0.5, 0.5), (0.05, 0.75, 0.2)),
)


def coverage(
    replicates: int, images: int, shares: tuple[float, float, float], studies: int = 40_000, seed: int = 0
) -> float:
    """Return how often the 95 % interval holds the true mean, for normal effects with these shares."""
    rng, (few, many) = np.random.default_rng(seed), (replicates - 1, images - 1)
    size, rest = replicates * images, shares[2] * replicates * images
    mean = rng.standard_normal(studies) * np.sqrt(sum(shares))
    by_seed, by_image, left = (
        expected * rng.chisquare(df, studies) / df
        for expected, df in ((rest + shares[0] * size, few), (rest + shares[1] * size, many), (rest, few * many))
    )
    found = by_image > left * stats.f.isf(IMAGES_COUNT, many, few * many)
    beyond = np.where(found, by_image - left, 0.0) + np.maximum(left - by_seed, 0.0)  # as in `image_covariance`
    factors = half_width(1.0, replicates), half_width(0.0, replicates, 1.0, images)
    half = np.sqrt((by_seed * factors[0] ** 2 + beyond * factors[1] ** 2) / size)
    return float((np.abs(mean) <= half).mean())


def drawn_coverage(
    replicates: int,
    images: int,
    shares: tuple[float, float, float],
    *,
    skewed_images: bool = True,
    seed_df: float | None = None,
    studies: int = 4000,
    seed: int = 0,
) -> float:
    """Return the coverage over drawn tables: images exponential or normal, seeds normal or Student-t (`seed_df` > 2)."""
    rng, inside = np.random.default_rng(seed), 0
    sd = np.sqrt([shares[0] * replicates, shares[1] * images, shares[2] * replicates * images])
    for _ in range(studies):
        seeds = rng.standard_normal(replicates)
        if seed_df is not None:
            seeds = rng.standard_t(seed_df, replicates) / np.sqrt(seed_df / (seed_df - 2))
        image = rng.exponential(size=images) - 1 if skewed_images else rng.standard_normal(images)
        table = sd[0] * seeds[:, None] + sd[1] * image + sd[2] * rng.standard_normal((replicates, images))
        found = crossed_interval(table)
        inside += found.low <= 0 <= found.high
    return inside / studies


def table(studies: int = 40_000) -> Iterator[str]:
    """Yield the lines of a Markdown table: seeds, lowest and highest coverage over all shares, by number of images."""
    yield "| seeds | " + " | ".join(f"{images:,} images" for images in IMAGES) + " |"
    yield "|---|" + "---|" * len(IMAGES)
    for replicates in REPLICATES:
        cells = []
        for images in IMAGES:
            found = [coverage(replicates, images, shares, studies) for shares in SHARES]
            cells.append(f"{100 * min(found):.1f}\N{EN DASH}{100 * max(found):.1f} %")
        yield f"| {replicates} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    print("\n".join(table()))
    for skewed, tails in ((True, None), (False, 3.0), (True, 3.0)):
        said = f"images {'exponential' if skewed else 'normal'}, seeds {f't, {tails:g} df' if tails else 'normal'}"
        cases = ((3, 100, (0.5, 0.3, 0.2)), (5, 500, (0.5, 0.3, 0.2)), (8, 500, (0.2, 0.6, 0.2)))
        cells = (drawn_coverage(*case, skewed_images=skewed, seed_df=tails) for case in cases)
        print(f"{said}: " + ", ".join(f"{100 * each:.1f} %" for each in cells))
