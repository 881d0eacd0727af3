"""What two rules of the judge are worth: variances that are only ever raised, and margins whose noise counts.

    python docs/tools/variances.py [--studies 10000] [--write docs/judge.md]        (3 minutes)

Both tables are errors at the boundary of a claim "better", of the judge and of what it might have been instead; the
studies are those of `simulate.py`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy import special, stats
from simulate import ARMS, BASE, LEARNED, NOISES, SETTINGS, draws, table, true_means, write_into

from gitbench.judge.effects import effect_of
from gitbench.judge.moderation import residual_variances
from gitbench.judge.statistics import SIDE, median_factor
from gitbench.spec import MARGIN

BETTER = SETTINGS[0]
SEEDS = (3, 5, 8, 16)
BEGIN = "<!-- made by docs/tools/variances.py -->"
RATIOS = (1, 3, 10, 30)  # sd over seeds of what was learned, in sd of the difference
GRID = np.logspace(-3, 6, 20_000)


def fitted(variances: np.ndarray, df: float) -> tuple[np.ndarray, np.ndarray]:
    """Return (d0, s0^2) of variances (..., arms) of `df` degrees of freedom, as limma's `fitFDist` finds them."""
    logs = np.log(variances) - special.digamma(df / 2) + np.log(df / 2)
    spread = logs.var(-1, ddof=1) - special.polygamma(1, df / 2)
    half = np.exp(np.interp(-np.log(np.maximum(spread, 1e-6)), -np.log(special.polygamma(1, GRID)), np.log(GRID)))
    return 2 * half, np.exp(logs.mean(-1) + special.digamma(half) - np.log(half))


def ways(scores: np.ndarray) -> dict[str, np.ndarray]:
    """Return way of testing -> p-values (2, studies) of d > m and of d < m; `scores` are (studies, arms, n)."""
    n = scores.shape[-1]
    effect = effect_of(scores, [BETTER.weights, BASE], scores)
    contrast = effect.contrast(MARGIN)
    mean, median, own = contrast.mean(-1), np.median(contrast, axis=-1), contrast.var(-1, ddof=1)
    d0, s0 = fitted(np.maximum(residual_variances(scores), 1e-12), (n - 1) * (ARMS - 1) / ARMS)
    size = np.square(np.array(BETTER.weights) - MARGIN * np.array(BASE)).sum()
    shrunk = (d0 * s0 * size + (n - 1) * own) / (d0 + n - 1)
    plain = [stats.t.sf(sign * mean / np.sqrt(own / n), n - 1) for sign in (1, -1)]
    typical = [stats.t.sf(sign * median / np.sqrt(own / n) / median_factor(n), n - 1) for sign in (1, -1)]
    return {
        "judge": np.stack([effect.above(MARGIN, sign=sign).p for sign in (1, -1)]),
        "limma": np.stack([stats.t.sf(sign * mean / np.sqrt(shrunk / n), d0 + n - 1) for sign in (1, -1)]),
        "plain t": np.stack(plain),
        "plain t, mean and median": np.maximum(plain, typical),
    }


def errors(noise: str, n: int, studies: int, seed: int = 0) -> dict[str, float]:
    """Return way of testing -> how often it is wrong at the boundary: the worse side, the worst draw."""
    worst: dict[str, float] = {}
    for place, draw in enumerate(draws(noise, BETTER)):
        means = true_means(BETTER, (1.0, None), draw) + LEARNED
        scores = means[:, None] + draw.scores(np.random.default_rng([seed, n, place]), studies, n)
        for way, p in ways(scores).items():
            worst[way] = max(worst.get(way, 0.0), *(p < SIDE).mean(1).tolist())
    return worst


def margin_errors(ratio: float, n: int, studies: int, seed: int = 0) -> tuple[float, float]:
    """Return how often the judge is wrong at the boundary, and a plain t-test that takes the margin as known.

    The arms of a replicate have nearly everything in common and the blind floor nothing: what was learned varies `ratio`
    times as much as the difference.
    """
    rng, weights = np.random.default_rng([seed, n]), ((-1.0, 1.0, 0.0, 0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 0.0, -1.0))
    scores = rng.standard_normal((studies, ARMS + 1, n)) / np.sqrt(2) + LEARNED
    scores[:, 1] += MARGIN * LEARNED
    scores[:, -1] = np.sqrt(max(0.0, ratio**2 - 0.5)) * rng.standard_normal((studies, n))
    effect = effect_of(scores, weights, scores[:, :-1])
    margin = MARGIN * effect.values[:, 1].mean(-1, keepdims=True)
    known = stats.ttest_1samp(effect.values[:, 0] - margin, 0, axis=1).pvalue < 2 * SIDE
    wrong = max(float((effect.above(MARGIN, sign=sign).p < SIDE).mean()) for sign in (1, -1))
    return wrong, float(known.mean()) / 2


def report(studies: int) -> str:
    """Return both tables as Markdown."""
    rows = []
    for noise in NOISES:
        found = [errors(noise, n, studies) for n in SEEDS]
        rows += [[noise, way, *(f"{100 * each[way]:.1f}" for each in found)] for way in found[0]]
    head = [f"n = {n}" for n in SEEDS]
    known = [
        [str(ratio), *(" / ".join(f"{100 * e:.1f}" for e in margin_errors(ratio, n, studies)) for n in SEEDS)]
        for ratio in RATIOS
    ]
    return "\n\n".join(
        [
            f"**Other ways to test the same claim** (better): the worse side of the errors at the boundary, in per cent; 2.5 is "
            f"what is promised; {studies:,} studies a cell.",
            table(["noise", "test", *head], rows),
            "**A margin that is taken as known**: errors of the judge / of a t-test against 10 % of the measured mean, in per "
            "cent a side, by the sd of what was learned in sd of the difference.",
            table(["sd of what was learned", *head], known),
        ]
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--studies", type=int, default=10_000, metavar="N")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables into this Markdown file")
    options = parser.parse_args()
    made = report(options.studies)
    if options.write is None:
        print(made)
    else:
        write_into(options.write, made, BEGIN)
