"""Put the judge to the test on synthetic studies whose truth is known. Makes the tables of `docs/judge.md`.

    python docs/tools/simulate.py [--studies 20000] [--write docs/judge.md]        (5 minutes)

A study is the scores of the arms that a claim rests on, by replicate: noise of a kind around true means that put the
claim exactly at its boundary (how often is the judge wrong?) or at a distance from it (how often does it decide?). The
scores are reduced by `statistics.slopes` and differences, tested by `statistics.p_values`, corrected by `statistics.holm`
and given their word by `statistics.decide`: the functions that judge real studies. `tests/judge/test_judge_simulation.py`
runs a small version.

To add a column: a noise in `NOISES`; a table: one function in `TABLES`.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gitbench.files import write_text
from gitbench.judge.power import power_one_sided, power_tost
from gitbench.judge.sequential import EARLY, FIRST
from gitbench.judge.statistics import ALPHA, decide, holm, p_values, slopes, t_interval
from gitbench.judge.verdict import REFUTED, SUPPORTED

SEEDS = (3, 5, 8, 16)
PLACES = (0.0, 1.0, 2.0)  # of a trend's arms
BEGIN, END = "<!-- made by docs/tools/simulate.py -->", "<!-- end -->"
Noise = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def _exponential(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.exponential(size=shape) - 1.0


# The noise of one run around its arm's mean: mean 0, standard deviation 1. Skewness of the exponential: 2.
NOISES: dict[str, Noise] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "t, 3 df": lambda rng, shape: rng.standard_t(3, shape) / math.sqrt(3),
    "skewed": _exponential,
}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A kind of claim as it is simulated; `weights` (arms,) reduce a replicate's scores to a difference of sd 1."""

    name: str
    kind: str
    weights: tuple[float, ...]
    margin: float = 1.0  # in standard deviations of the difference


def _unit(weights: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(each) / math.hypot(*weights) for each in weights)


_PAIR = _unit((1, -1))
SETTINGS = (
    Setting(name="better", kind="better", weights=_PAIR),
    Setting(name="not better", kind="not_better", weights=_PAIR),
    Setting(name="equivalent, margin 1 sd", kind="equivalent", weights=_PAIR),
    Setting(name="equivalent, margin 3 sd", kind="equivalent", weights=_PAIR, margin=3.0),
    Setting(name="interaction", kind="interaction", weights=_unit((1, -1, -1, 1))),
    Setting(name="trend", kind="trend", weights=_unit(slopes(np.eye(len(PLACES)), PLACES).tolist())),
)
ALONE = "skewed, one arm alone varies"  # then the differences themselves are skewed
COLUMNS = (*NOISES, ALONE)


def draw(setting: Setting, noise: str, studies: int, n: int, rng: np.random.Generator, turn: int = 1) -> np.ndarray:
    """Return the differences of (studies, n) replicates around a true mean of 0, sd 1; `turn` = -1 mirrors the noise."""
    if noise == ALONE:
        return turn * _exponential(rng, (studies, n))
    scores = turn * NOISES[noise](rng, (studies, n, len(setting.weights)))
    return scores @ np.array(setting.weights)


def error(
    setting: Setting, noise: str, n: int, word: str, *, sequential: bool = False, studies: int = 2000, seed: int = 0
) -> float:
    """Return how often `word` is given where the truth is the boundary: the worst of its edges and of the noise mirrored.

    `sequential`: looks after every seed from the third to the nth, and is wrong where any look is.
    """
    edges = (1.0, -1.0) if setting.kind == "equivalent" else (1.0,)
    turns = (1,) if noise in ("normal", "t, 3 df") else (1, -1)
    rates: list[float] = []
    for edge in edges:
        for turn in turns:
            rng = np.random.default_rng([seed, n, len(rates)])
            data = draw(setting, noise, studies, n, rng, turn) + edge * setting.margin
            rates.append(float(_given(setting, data, word, sequential).mean()))
    return max(rates)


def _given(setting: Setting, data: np.ndarray, word: str, sequential: bool) -> np.ndarray:
    """Return for each study whether the word is given: at its end, or at any look of the sequential test."""
    n = data.shape[1]
    looks = range(FIRST, n + 1) if sequential else (n,)
    given = np.zeros(len(data), bool)
    for size in looks:
        left = np.flatnonzero(~given)
        given[left] = decide(*p_values(setting.kind, data[left, :size], setting.margin, sequential=sequential)) == word
    return given


def coverage(setting: Setting, noise: str, n: int, *, studies: int = 2000, seed: int = 0) -> float:
    """Return how often the 95 % interval of a verdict holds the true mean."""
    data = draw(setting, noise, studies, n, np.random.default_rng([seed, n]))
    found = [t_interval(row) for row in data]
    return sum(each.low <= 0.0 <= each.high for each in found) / studies  # type: ignore[operator]


def power(setting: Setting, distance: float, n: int, *, studies: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Return (measured, in theory) power to support a claim that is `distance` sd inside its boundary; normal noise.

    "Equivalent" is asked at a true difference of 0 with that margin.
    """
    rng = np.random.default_rng([seed, n])
    data = draw(setting, "normal", studies, n, rng)
    if setting.kind == "equivalent":
        margin, shift, theory = distance, 0.0, power_tost(0.0, distance, 1.0, n, ALPHA)
    else:
        margin, theory = setting.margin, power_one_sided(distance, 1.0, n, ALPHA)
        shift = margin + (-distance if setting.kind == "not_better" else distance)
    found = decide(*p_values(setting.kind, data + shift, margin))
    return float((found == SUPPORTED).mean()), theory


def family_error(claims: int, noise: str, n: int, *, studies: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Return how often any of `claims` claims "better", all at the boundary with one reference arm, is SUPPORTED.

    As the judge does it, with Holm's correction, and without.
    """
    rng = np.random.default_rng([seed, n])
    scores = NOISES[noise](rng, (studies, n, claims + 1))
    support = np.stack([p_values("better", scores[..., at] - scores[..., -1], 0.0)[0] for at in range(claims)], axis=1)
    return float((holm(support) < ALPHA).any(1).mean()), float((support < ALPHA).any(1).mean())


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def error_table(word: str, studies: int) -> str:
    """Return the table of errors at the boundary, kinds and noises by seeds."""
    rows = []
    for setting in SETTINGS:
        for noise in COLUMNS:
            found = [error(setting, noise, n, word, studies=studies) for n in SEEDS]
            rows.append([setting.name, noise, *map(_percent, found)])
    return _table(["kind", "noise", *(f"n = {n}" for n in SEEDS)], rows)


def coverage_table(studies: int) -> str:
    """Return the coverage of the 95 % t interval."""
    rows = []
    for setting in (SETTINGS[0], *SETTINGS[4:]):
        for noise in COLUMNS:
            rows.append([setting.name, noise, *(_percent(coverage(setting, noise, n, studies=studies)) for n in SEEDS)])
    return _table(["kind", "noise", *(f"n = {n}" for n in SEEDS)], rows)


def power_table(studies: int) -> str:
    """Return measured power beside theory."""
    rows = []
    for setting in (*SETTINGS[:3], *SETTINGS[4:]):
        for distance in (1.0, 2.0):
            found = [power(setting, distance, n, studies=studies) for n in SEEDS]
            cells = [f"{_percent(measured)} ({_percent(theory)})" for measured, theory in found]
            rows.append([setting.kind.replace("_", " "), f"{distance:g} sd", *cells])
    return _table(["kind", "distance", *(f"n = {n}" for n in SEEDS)], rows)


def sequential_table(studies: int) -> str:
    """Return the errors of the sequential test, looking after every seed."""
    rows = []
    for setting in SETTINGS:
        for noise in COLUMNS:
            found = [
                error(setting, noise, EARLY, word, sequential=True, studies=max(200, studies // 4))
                for word in (SUPPORTED, REFUTED)
            ]
            rows.append([setting.name, noise, *map(_percent, found)])
    looks = [f"looking at seeds {FIRST} to {EARLY}: {word}" for word in (SUPPORTED, REFUTED)]
    return _table(["kind", "noise", *looks], rows)


def family_table(studies: int) -> str:
    """Return the error of whole families."""
    rows = []
    for claims in (2, 3, 6):
        for noise in NOISES:
            found = [family_error(claims, noise, n, studies=max(200, studies // 4)) for n in SEEDS]
            cells = [f"{_percent(corrected)} ({_percent(plain)})" for corrected, plain in found]
            rows.append([str(claims), noise, *cells])
    return _table(["claims", "noise", *(f"n = {n}" for n in SEEDS)], rows)


# Heading and text of each table, and what makes it from a number of studies.
TABLES: tuple[tuple[str, Callable[[int], str]], ...] = (
    (
        "**False SUPPORTED at the boundary**, in per cent of the studies; 5 is what is promised.",
        lambda studies: error_table(SUPPORTED, studies),
    ),
    ("**False REFUTED at the boundary**, in per cent.", lambda studies: error_table(REFUTED, studies)),
    ("**Coverage of the 95 % interval**, in per cent.", lambda studies: coverage_table(max(200, studies // 4))),
    (
        "**Power**, in per cent, and in brackets what theory gives (normal noise). The distance is that of the truth from "
        'the margin; for "equivalent" it is the margin, and the truth is 0.',
        power_table,
    ),
    ("**Any false word under looking** (`--until-decided`), in per cent.", sequential_table),
    (
        "**Any false SUPPORTED in a family** of claims that share a reference arm, all at the boundary, in per cent; in "
        "brackets what it would be without Holm's correction.",
        family_table,
    ),
)


def report(studies: int) -> str:
    """Return all tables as Markdown."""
    error = 196 * math.sqrt(ALPHA * (1 - ALPHA) / studies)
    first = (
        f"{studies:,} studies a cell in the tables of errors and power (simulation error at 5 %: {error:.1f} points); "
    )
    first += "a quarter of that for coverage, looking and families."
    return "\n\n".join([first, *(f"{text}\n\n{table(studies)}" for text, table in TABLES)])


def write_into(path: Path, text: str) -> None:
    """Put the tables between the two marks of a Markdown file. Errors: ValueError where the marks are missing."""
    before, mark, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise ValueError(f"{path} lacks the lines {BEGIN} and {END}: add them where the tables belong")
    write_text(path, f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


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
