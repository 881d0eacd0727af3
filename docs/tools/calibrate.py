"""Calibrate the sequential test, and compare it with what else could be done. Prints the tables of `docs/sequential.md`.

    python docs/tools/calibrate.py levels      the thresholds in `gitbench.judge.sequential` (2 minutes)
    python docs/tools/calibrate.py compare     error and seeds of every method, looking after every seed (2 minutes)

Levels: with m the true mean, P(e ever reaches c) = E_Q[1 / e at that moment], Q being the mixture of effects whose
density is the numerator of e. Under Q nearly every path gets there, so that even small probabilities are exact to a
percent. What has not got there after `LONGEST` seeds counts by Ville's bound, as if it crossed as cheaply as it can.
"""

from __future__ import annotations

import argparse
import functools
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy import stats

from gitbench.judge.sequential import EARLY, FIRST, LATE, SCALE, log_evidence, score, threshold
from gitbench.judge.statistics import SIDE

LONGEST = 1000  # seeds followed when levels are made
THRESHOLDS = (0.2, 0.5, 1, 1.5, 2, 3, 4, 6, 8, 10, 12, 15, 20, 30, 50, 100, 200, 500, 1000, 3000, 10_000, 100_000)
EFFECTS = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0)  # distance from the margin in sd of the paired difference
Statistic = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (t, n) -> what is compared with a critical value


def levels(paths: int = 200_000, seed: int = 0, thresholds: Sequence[float] = THRESHOLDS) -> list[tuple[float, float]]:
    """Return (threshold, probability that the score ever reaches it at the boundary), by `paths` sample paths under Q."""
    rng = np.random.default_rng(seed)
    logs = np.log(np.asarray(thresholds, float))
    effects = np.abs(rng.standard_normal(paths)) * SCALE
    crossed = np.zeros(paths, int)  # thresholds that a path has reached
    sums, squares = np.zeros(paths), np.zeros(paths)
    totals = np.zeros(len(logs))
    alive = np.arange(paths)
    for n in range(1, LONGEST + 1):
        drawn = rng.standard_normal(len(alive)) + effects[alive]
        sums[alive] += drawn
        squares[alive] += drawn**2
        if n < FIRST:
            continue
        reached = np.searchsorted(logs, score(_t(sums[alive], squares[alive], n), n), side="right")
        weight = np.exp(-log_evidence(_t(sums[alive], squares[alive], n), n))
        for index in range(len(logs)):
            totals[index] += weight[(crossed[alive] <= index) & (reached > index)].sum()
        crossed[alive] = np.maximum(crossed[alive], reached)
        alive = alive[crossed[alive] < len(logs)]
    late = np.array([np.sum(crossed <= index) for index in range(len(logs))]) / (LATE * np.exp(logs))
    probabilities = np.minimum(1.0, (totals + late) / paths)
    return [(float(c), float(p)) for c, p in zip(thresholds, probabilities, strict=True)]


def _t(sums: np.ndarray, squares: np.ndarray, n: int) -> np.ndarray:
    spread = np.maximum(squares - sums**2 / n, 1e-300) / (n - 1)
    return sums / np.sqrt(n * spread)


def t_paths(draws: np.ndarray) -> np.ndarray:
    """Return the t statistics at n = 3, 4, ... of (paths, seeds) draws: (paths, seeds - 2)."""
    n = np.arange(1, draws.shape[1] + 1)
    sums, squares = draws.cumsum(1), (draws**2).cumsum(1)
    spread = np.maximum(squares - sums**2 / n, 1e-300)[:, FIRST - 1 :] / (n[FIRST - 1 :] - 1)
    return sums[:, FIRST - 1 :] / np.sqrt(n[FIRST - 1 :] * spread)


def noises() -> dict[str, Callable[[np.random.Generator, tuple[int, int]], np.ndarray]]:
    """Return the kinds of noise that are tried, each of mean 0 and (but for t3) standard deviation 1."""
    return {
        "normal": lambda rng, shape: rng.standard_normal(shape),
        "Laplace": lambda rng, shape: rng.laplace(scale=math.sqrt(0.5), size=shape),
        "t, 3 df": lambda rng, shape: rng.standard_t(3, shape) / math.sqrt(3),
        "normal, 10 % with 5 sd": lambda rng, shape: (
            rng.standard_normal(shape) * np.where(rng.random(shape) < 0.1, 5, 1) / math.sqrt(3.4)
        ),
        "skewed to the right": lambda rng, shape: rng.exponential(size=shape) - 1,
        "skewed to the left": lambda rng, shape: 1 - rng.exponential(size=shape),
    }


def _z(t: np.ndarray, n: np.ndarray) -> np.ndarray:
    return stats.norm.isf(np.clip(stats.t.sf(t, n - 1), 1e-300, 1))


def methods(paths: int = 100_000, alpha: float = SIDE, seed: int = 1) -> dict[str, tuple[Statistic, float]]:
    """Return name -> (statistic, critical value); those that need it are calibrated to `alpha` within `EARLY` seeds."""
    n = np.arange(FIRST, EARLY + 1)
    null = t_paths(np.random.default_rng(seed).standard_normal((paths, EARLY)))

    def calibrated(statistic: Statistic) -> tuple[Statistic, float]:
        return statistic, float(np.quantile(statistic(null, n).max(1), 1 - alpha))

    return {
        "t-test, looking ignored": (_z, float(stats.norm.isf(alpha))),
        "Bonferroni over the looks": (_z, float(stats.norm.isf(alpha / len(n)))),
        "group sequential, Pocock": calibrated(_z),
        "group sequential, O'Brien-Fleming": calibrated(lambda t, n: _z(t, n) * np.sqrt(n)),
        "group sequential, between (n^1/4)": calibrated(lambda t, n: _z(t, n) * n**0.25),
        "evidence, Ville's threshold 40": (log_evidence, -math.log(alpha)),
        **{
            f"evidence of scale {scale:g}, for 30 only": calibrated(functools.partial(log_evidence, scale=scale))
            for scale in (0.5, SCALE, 2.0)
        },
        "evidence, calibrated (chosen)": (score, math.log(threshold(alpha))),
    }


def errors(
    chosen: Mapping[str, tuple[Statistic, float]], paths: int = 100_000, seed: int = 2
) -> dict[str, dict[str, float]]:
    """Return method -> noise -> share of studies at the boundary that are ever wrong, looking after seeds 3 to 30."""
    n, rng = np.arange(FIRST, EARLY + 1), np.random.default_rng(seed)
    drawn = {name: t_paths(noise(rng, (paths, EARLY))) for name, noise in noises().items()}
    return {
        method: {name: float((statistic(t, n).max(1) >= critical).mean()) for name, t in drawn.items()}
        for method, (statistic, critical) in chosen.items()
    }


def seeds(
    chosen: Mapping[str, tuple[Statistic, float]],
    effects: Sequence[float] = EFFECTS,
    paths: int = 20_000,
    seed: int = 3,
) -> dict[str, dict[float, tuple[float, float]]]:
    """Return method -> effect -> (power within 30 seeds, expected seeds, undecided ones counted as 30); normal noise."""
    n, noise = np.arange(FIRST, EARLY + 1), np.random.default_rng(seed).standard_normal((paths, EARLY))
    drawn = {effect: t_paths(noise + effect) for effect in effects}
    found: dict[str, dict[float, tuple[float, float]]] = {}
    for method, (statistic, critical) in chosen.items():
        found[method] = {}
        for effect, t in drawn.items():
            hit = statistic(t, n) >= critical
            ends = np.where(hit.any(1), hit.argmax(1) + FIRST, EARLY)
            found[method][effect] = (float(hit.any(1).mean()), float(ends.mean()))
    return found


def _print_levels() -> None:
    for value, probability in levels():
        print(f"    ({value:g}, {probability:.3g}),")


def _print_comparison() -> None:
    chosen = methods()
    wrong, cost = errors(chosen), seeds(chosen)
    names = list(noises())
    print("| method | " + " | ".join(names) + " |\n|---|" + "---|" * len(names))
    for method in chosen:
        print(f"| {method} | " + " | ".join(f"{100 * wrong[method][name]:.1f} %" for name in names) + " |")
    print("\n| method | " + " | ".join(f"{effect:g} sd" for effect in EFFECTS) + " |\n|---|" + "---|" * len(EFFECTS))
    for method in chosen:
        cells = (f"{mean:.1f} ({power:.2f})" for power, mean in cost[method].values())
        print(f"| {method} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=("levels", "compare"))
    {"levels": _print_levels, "compare": _print_comparison}[parser.parse_args().what]()
