"""Put the judge to the test on synthetic studies whose truth is known. Makes the tables of `docs/judge.md`.

    python docs/tools/simulate.py [--studies 20000] [--write docs/judge.md]        (half an hour)

A study is the scores of its arms by replicate: noise of a kind around true means that put the claim exactly at a
boundary, with regard to the typical seed (how often is the judge wrong?), or at a distance from it (how often does it
decide?). Five arms, of which the claim rests on some and the others tell which spread is usual, and a blind floor. They go
through `effects.effect_of`, `rules.tests_of` and `statistics.holm`: the functions that judge real studies.
`tests/judge/test_judge_simulation.py` runs a small version.

To add a column: a noise in `NOISES`; a table: one function in `TABLES`.
"""

from __future__ import annotations

import argparse
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gitbench.files import write_text
from gitbench.judge.effects import Effect, effect_of
from gitbench.judge.rules import tests_of
from gitbench.judge.sequential import EARLY, FIRST
from gitbench.judge.statistics import SIDE, decide, half_width, holm, t_interval
from gitbench.judge.verdict import REFUTED, SUPPORTED
from gitbench.spec import MARGIN, Claim

SEEDS = (3, 4, 5, 6, 8, 16)
ARMS = 5
LEARNED = 20.0  # of the base arm beyond the blind floor, in standard deviations of a run: the margin is 2 of them
BEGIN, END = "<!-- made by docs/tools/simulate.py -->", "<!-- end -->"
Noise = Callable[[np.random.Generator, tuple[int, ...], tuple[int, ...]], np.ndarray]


def _skewed(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.exponential(size=shape) - 1.0


def _odd(others: Callable[..., np.ndarray], odd: Callable[..., np.ndarray]) -> Noise:
    """Some arms (those given) have a noise of their own."""

    def draw(rng: np.random.Generator, shape: tuple[int, ...], arms: tuple[int, ...]) -> np.ndarray:
        found = others(rng, shape)
        found[:, list(arms)] = odd(rng, (shape[0], len(arms), shape[2]))
        return found

    return draw


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_normal(shape)


def _still(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.zeros(shape)


def _collapsing(rate: float, depth: float) -> Callable[..., np.ndarray]:
    return lambda rng, shape: rng.standard_normal(shape) - depth * (rng.random(shape) < rate)


# The noise (studies, arms, n) of runs around their arms' means, of sd 1 where nothing else is said; skewness of "skewed": 2.
NOISES: dict[str, Noise] = {
    "normal": lambda rng, shape, arms: _normal(rng, shape),
    "t, 3 df": lambda rng, shape, arms: rng.standard_t(3, shape) / math.sqrt(3),
    "skewed": lambda rng, shape, arms: _skewed(rng, shape),
    "one arm skewed, the others do not vary": _odd(_still, _skewed),
    "one arm skewed, the others normal, sd 0.3": _odd(lambda rng, shape: 0.3 * _normal(rng, shape), _skewed),
    "one arm 3 times noisier": _odd(_normal, lambda rng, shape: 3 * _normal(rng, shape)),
    "one arm collapses: 10 % of seeds, 8 sd": _odd(_normal, _collapsing(0.1, 8.0)),
    "one arm collapses: 20 % of seeds, 12 sd": _odd(_normal, _collapsing(0.2, 12.0)),
}
ALIKE = ("normal", "t, 3 df", "skewed")  # every arm has the same noise
SYMMETRIC = ("normal", "t, 3 df", "one arm 3 times noisier")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A kind of claim, the weights (arms,) of its difference, and its boundaries.

    A boundary is (true difference in margins, the step of a trend that is truly 0; None: both are half of the whole).
    `odd` are the arms of which a noise may be odd: each of the claim's, one that it does not name, and two at once.
    """

    kind: str
    weights: tuple[float, ...]
    boundaries: tuple[tuple[float, int | None], ...] = ((1.0, None),)
    along: tuple[str, ...] = ()
    odd: tuple[tuple[int, ...], ...] = ((0,), (1,), (4,), (0, 1))

    @property
    def claim(self) -> Claim:
        """The claim, as far as the rules ask."""
        texts: dict[str, Any] = dict.fromkeys(("name", "says", "quote", "where", "confidence"), "-")
        return Claim(
            kind=self.kind,  # type: ignore[arg-type]
            metric="CIDEr",
            treatment="1",
            reference="0",
            along=self.along,
            **texts,
        )


SETTINGS = (
    Setting(kind="better", weights=(-1, 1, 0, 0, 0)),
    Setting(kind="not_better", weights=(-1, 1, 0, 0, 0)),
    Setting(kind="equivalent", weights=(-1, 1, 0, 0, 0), boundaries=((1.0, None), (-1.0, None))),
    Setting(kind="interaction", weights=(-1, 1, 1, -1, 0)),
    Setting(
        kind="trend",
        weights=(-1, 0, 1, 0, 0),
        boundaries=((1.0, None), (1.0, 0), (3.0, 0), (3.0, 1)),
        along=("0", "1", "2"),
        odd=((0,), (1,), (2,), (4,), (0, 2)),
    ),
)
BASE = (1.0, 0.0, 0.0, 0.0, 0.0)  # the reference is the base arm
STEPS = ((-1.0, 1.0, 0.0, 0.0, 0.0), (0.0, -1.0, 1.0, 0.0, 0.0))


@dataclass(frozen=True, kw_only=True)
class Draw:
    """Where a noise is odd: in which arms, mirrored or not."""

    noise: str
    arms: tuple[int, ...] = (0,)
    turn: int = 1

    def scores(self, rng: np.random.Generator, studies: int, n: int) -> np.ndarray:
        """Return (studies, arms, n): noise, and what the arms of a replicate share."""
        noise = self.turn * NOISES[self.noise](rng, (studies, ARMS, n), self.arms)
        return noise + rng.standard_normal((studies, 1, n))

    def median(self, weights: np.ndarray) -> float:
        """Return the median, over seeds, of a weighted sum of arms around its true centre of 0."""
        return _median(self, tuple(weights))


@functools.cache
def _median(draw: Draw, weights: tuple[float, ...]) -> float:
    return float(np.median(np.array(weights) @ draw.scores(np.random.default_rng(7), 20_000, 20)))


def draws(noise: str, setting: Setting) -> list[Draw]:
    """Return the ways in which a noise can fall on a claim: which arms are the odd ones, and the noise mirrored."""
    turns = (1,) if noise in SYMMETRIC else (1, -1)
    places = setting.odd[:1] if noise in ALIKE else setting.odd
    return [Draw(noise=noise, arms=arms, turn=turn) for arms in places for turn in turns]


def true_means(setting: Setting, boundary: tuple[float, int | None], draw: Draw) -> np.ndarray:
    """Return the arms' true means (arms,) that put the typical seed at a boundary."""
    margins, step = boundary
    means, share = np.zeros(ARMS), margins * MARGIN
    # the test is about d - share x learned; what was learned is LEARNED, and 0 the mean of the base arm here
    whole = share * LEARNED - draw.median(np.array(setting.weights) - share * np.array(BASE))
    means[2 if setting.along else 1] = whole
    if step == 0:
        means[1] = -draw.median(np.array(STEPS[0]))
    elif step == 1:
        means[1] = whole + draw.median(np.array(STEPS[1]))
    elif setting.along:
        means[1] = whole / 2
    return means


def judged(setting: Setting, scores: np.ndarray, *, sequential: bool = False) -> np.ndarray:
    """Return the words (studies,) of a claim; `scores` (studies, arms, n) are beyond the blind floor, which is 0."""
    claim = setting.claim

    def effect(weights: Sequence[float]) -> Effect:
        return effect_of(scores, [weights, BASE], scores, sequential=sequential)

    found = effect(setting.weights)
    return decide(*tests_of(claim, found, [effect(each) for each in STEPS] if setting.along else ()).p)


def error(
    setting: Setting, noise: str, n: int, *, sequential: bool = False, studies: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Return how often (SUPPORTED, REFUTED) is given where the truth is the boundary: the worst over boundaries and draws.

    `sequential`: looks after every seed from the third to the nth, and is wrong where any look is.
    """
    worst = np.zeros(2)
    for boundary in setting.boundaries:
        for place, draw in enumerate(draws(noise, setting)):
            rng = np.random.default_rng([seed, n, place])
            means = true_means(setting, boundary, draw) + LEARNED
            scores = means[:, None] + draw.scores(rng, studies, n)
            given = np.zeros((2, studies), bool)
            for size in range(FIRST, n + 1) if sequential else (n,):
                words = judged(setting, scores[..., :size], sequential=sequential)
                given |= np.stack([words == SUPPORTED, words == REFUTED])
            worst = np.maximum(worst, given.mean(1))
    return float(worst[0]), float(worst[1])


def coverage(setting: Setting, noise: str, n: int, *, studies: int = 2000, seed: int = 0) -> float:
    """Return how often the 95 % interval of a verdict holds the true mean difference."""
    weights, worst = np.array(setting.weights), 1.0
    for draw in draws(noise, setting):
        scores = draw.scores(np.random.default_rng([seed, n]), studies, n)
        found = effect_of(scores, [setting.weights, BASE], scores)
        mean, errors = found.values[:, 0].mean(-1), np.sqrt(found.seeds[:, 0, 0])
        large = draw.turn * NOISES[draw.noise](np.random.default_rng(3), (40_000, ARMS, 20), draw.arms)
        truth = float((weights @ large).mean())
        worst = min(worst, float((np.abs(mean - truth) <= half_width(1.0, n) * errors).mean()))
    return worst


def power(setting: Setting, distance: float, n: int, *, studies: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Return how often a claim is SUPPORTED that lies `distance` sd of its difference inside its boundary; normal noise.

    By the judge, and by a plain t-test of the mean at the same 2.5 %: what the further demands cost.
    """
    rng, weights = np.random.default_rng([seed, n]), np.array(setting.weights)
    noise = Draw(noise="normal").scores(rng, studies, n)
    sd = float(np.linalg.norm(weights - MARGIN * np.array(BASE)))
    way = -1 if setting.kind in ("not_better", "equivalent") else 1
    margin = MARGIN * LEARNED
    target = max(0.0, margin - distance * sd) if setting.kind == "equivalent" else margin + way * distance * sd
    means = np.zeros(ARMS)
    means[2 if setting.along else 1] = target
    means[1] = target / 2 if setting.along else means[1]
    scores = LEARNED + means[:, None] + noise
    contrast = way * ((weights - MARGIN * np.array(BASE)) @ scores)
    plain = [interval for interval in map(t_interval, contrast) if interval.low is not None and interval.low > 0]
    return float((judged(setting, scores) == SUPPORTED).mean()), len(plain) / studies


def family_error(claims: int, noise: str, n: int, *, studies: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Return how often any of `claims` claims "better", all at the boundary with one reference arm, is SUPPORTED.

    As the judge does it, with Holm's correction, and without.
    """
    rng = np.random.default_rng([seed, n])
    scores = LEARNED + NOISES[noise](rng, (studies, claims + 1, n), (0,))
    scores[:, 1:] += MARGIN * LEARNED
    base = np.eye(claims + 1)[0]
    claim = SETTINGS[0].claim
    p = [
        tests_of(claim, effect_of(scores, [np.eye(claims + 1)[at] - base, base], scores)).p[0]
        for at in range(1, claims + 1)
    ]
    support = np.stack(p, axis=1)
    return float((holm(support) < SIDE).any(1).mean()), float((support < SIDE).any(1).mean())


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _by_seeds(first: str, cell: Callable[[Setting, Any, int], str], columns: Sequence[Any], settings: Any) -> str:
    rows = [
        [setting.kind.replace("_", " "), str(column), *(cell(setting, column, n) for n in SEEDS)]
        for setting in settings
        for column in columns
    ]
    return table(["kind", first, *(f"n = {n}" for n in SEEDS)], rows)


def error_table(studies: int) -> str:
    """Return the errors at the boundary: SUPPORTED / REFUTED, kinds and noises by seeds."""

    def cell(setting: Setting, noise: str, n: int) -> str:
        return " / ".join(_percent(each) for each in error(setting, noise, n, studies=studies))

    return _by_seeds("noise", cell, list(NOISES), SETTINGS)


def coverage_table(studies: int) -> str:
    """Return the coverage of the 95 % interval of the mean."""
    settings = (SETTINGS[0], SETTINGS[3])
    return _by_seeds(
        "noise", lambda one, noise, n: _percent(coverage(one, noise, n, studies=studies)), list(NOISES), settings
    )


def power_table(studies: int) -> str:
    """Return the power of the judge, and in brackets that of a plain t-test."""

    def cell(setting: Setting, distance: float, n: int) -> str:
        own, plain = power(setting, distance, n, studies=studies)
        return f"{100 * own:.0f} ({100 * plain:.0f})"

    return _by_seeds("distance, sd", cell, (1.0, 2.0, 3.0), SETTINGS)


def sequential_table(studies: int) -> str:
    """Return the errors of the sequential test, looking after every seed."""
    rows = []
    for setting in SETTINGS:
        for noise in NOISES:
            found = error(setting, noise, EARLY, sequential=True, studies=max(500, studies // 10))
            rows.append([setting.kind.replace("_", " "), noise, *map(_percent, found)])
    looks = [f"looking at seeds {FIRST} to {EARLY}: {word}" for word in (SUPPORTED, REFUTED)]
    return table(["kind", "noise", *looks], rows)


def family_table(studies: int) -> str:
    """Return the error of whole families."""
    rows = []
    for claims in (2, 3, 6):
        for noise in list(NOISES)[:3]:
            found = [family_error(claims, noise, n, studies=studies) for n in SEEDS]
            rows.append([str(claims), noise, *(f"{_percent(own)} ({_percent(plain)})" for own, plain in found)])
    return table(["claims", "noise", *(f"n = {n}" for n in SEEDS)], rows)


# Heading and text of each table, and what makes it from a number of studies.
TABLES: tuple[tuple[str, Callable[[int], str]], ...] = (
    (
        "**False SUPPORTED / false REFUTED at the boundary**, in per cent of the studies; 2.5 a side is what is promised, of "
        "the typical seed. A cell is the worst of up to 40: over boundaries, over which arms are the odd ones (treatment, "
        "reference, middle arm, one that the claim does not name, two at once), and over the noise mirrored.",
        error_table,
    ),
    (
        "**Power**: how often a true claim is SUPPORTED, in per cent, by the distance of the truth from the margin in sd of the "
        'difference (an "equivalent" pair at that distance inside it, at most equal), and in brackets a plain t-test of the '
        "mean at 2.5 %; normal noise.",
        lambda studies: power_table(max(200, studies // 4)),
    ),
    (
        "**Coverage of the 95 % interval of the mean**, in per cent; the lowest over the same.",
        lambda studies: coverage_table(max(200, studies // 4)),
    ),
    ("**Any false word under looking** (`--until-decided`), in per cent.", sequential_table),
    (
        "**Any false SUPPORTED in a family** of claims that share a reference arm, all at the boundary, in per cent; in "
        "brackets what it would be without Holm's correction.",
        lambda studies: family_table(max(200, studies // 4)),
    ),
)


def report(studies: int) -> str:
    """Return all tables as Markdown."""
    error = 196 * math.sqrt(SIDE * (1 - SIDE) / studies)
    first = (
        f"{studies:,} studies a cell in the table of errors (simulation error at 2.5 %: {error:.1f} points), a quarter of that "
        "for power, coverage and families, a tenth (500 at least) for looking."
    )
    return "\n\n".join([first, *(f"{text}\n\n{make(studies)}" for text, make in TABLES)])


def write_into(path: Path, text: str, begin: str = BEGIN) -> None:
    """Put the tables between the two marks of a Markdown file. Errors: ValueError where the marks are missing."""
    before, mark, rest = path.read_text(encoding="utf-8").partition(begin)
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise ValueError(f"{path} lacks the lines {begin} and {END}: add them where the tables belong")
    write_text(path, f"{before}{begin}\n\n{text}\n\n{END}{after}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--studies", type=int, default=20_000, metavar="N")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables into this Markdown file")
    options = parser.parse_args()
    made = report(options.studies)
    if options.write is None:
        print(made)
    else:
        write_into(options.write, made)
