"""How often the gate's quality tier is wrong, how many seeds it takes, and what it finds: tables of `docs/gate_calibration.md`.

    python docs/tools/gate_power.py [--studies 20000] [--reference gate/cpu-x86_64/git/quality.json]      (4 minutes)

A study is the seeds of a reference and those of a change, drawn with the standard deviations of the recorded reference and
its correlations between the metrics, and a true difference in units of the margin. `gitbench.gate.noninferiority` judges
it look by look, as in a check. "Alone": one metric is worse; "all": every one of them is. "Pairs": how a seed of the change
correlates with the same seed of the reference, which shares its initial values and order of data.

What was found: a change is red by chance, and the more often the worse it is, between no difference and a whole margin: at half
a margin in 14 % of checks, in 8 % where pairs correlate by 0.9. What is found with 90 % is largest without correlation: 0.94
margins of NLL, hence `FOUND`. Metrics whose seeds all vary by 0.65 margins turn 0.2 to 0.3 % of harmless checks red, by 0.7
0.7 to 0.9 %, by 0.75 1.8 %: hence `LARGEST_SD`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gitbench.files import read_json
from gitbench.gate.noninferiority import Rule
from gitbench.gate.quality import LARGEST_SD
from gitbench.gate.quality_study import DESIGN
from gitbench.gate.reference import FOLDER
from gitbench.metric_info import display_name

PASSED, WORSE, NOT_SHOWN = 0, 1, 2
DIFFERENCES = (0.0, -0.25, -0.5, -1.0, -1.5, -2.0, -4.0)
KNOWN = DESIGN.reference_seeds
PAIRED = (0.0, 0.5, 0.9)  # correlation of a seed of the change with the same seed of the reference
Noise = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]

# Noise of mean 0 and sd 1 of the values of a metric.
NOISES: Mapping[str, Noise] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "t, 3 df": lambda rng, shape: rng.standard_t(3, shape) / np.sqrt(3),
    "5 % of seeds collapse by 4 sd": lambda rng, shape: (
        (rng.standard_normal(shape) - 4 * (rng.random(shape) < 0.05) + 0.2) / np.sqrt(1 + 16 * 0.05 * 0.95)
    ),
}


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What studies are drawn from: noise, the sd of each metric in margins, their correlation, and that of pairs."""

    sds: np.ndarray
    between: np.ndarray  # (metrics, metrics)
    paired: float = 0.0
    noise: str = "normal"

    def draw(self, rng: np.random.Generator, studies: int, seeds: int) -> np.ndarray:
        """Return values (studies, metrics, seeds) in margins, of mean 0."""
        mixed = np.linalg.cholesky(self.between + 1e-9 * np.eye(len(self.sds)))
        drawn = NOISES[self.noise](rng, (studies, len(self.sds), seeds))
        return np.asarray(self.sds[:, None] * (mixed @ drawn))

    def pairs(self, rng: np.random.Generator, studies: int, seeds: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the values of references, and of `seeds` of changes whose true difference is 0."""
        reference, other = self.draw(rng, studies, KNOWN), self.draw(rng, studies, seeds)
        return reference, self.paired * reference[..., :seeds] + np.sqrt(1 - self.paired**2) * other


def judged(rule: Rule, change: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how each study ends, and the seeds it took; arrays are (studies, metrics, seeds), in margins."""
    ends, taken = np.full(len(change), NOT_SHOWN), np.full(len(change), rule.most)
    undecided = np.ones(len(change), dtype=bool)
    for seeds in rule.looks:
        seen = change[..., :seeds]
        bad = undecided & rule.worse(seen, reference).any(-1)
        good = undecided & ~bad & rule.as_good(seen, reference).all(-1)
        ends[bad], ends[good] = WORSE, PASSED
        taken[bad | good] = seeds
        undecided &= ~(bad | good)
    return ends, taken


def row(kind: Kind, where: Sequence[int], studies: int, rule: Rule) -> list[str]:
    """Return, for every difference in the metrics `where`, the share that is red and the mean number of seeds."""
    cells = []
    for difference in DIFFERENCES:
        reference, change = kind.pairs(np.random.default_rng(1), studies, rule.most)
        change[:, list(where)] += difference
        ends, taken = judged(rule, change, reference)
        cells.append(f"{100 * (ends != PASSED).mean():.2f} % ({taken.mean():.1f})")
    return cells


def found(kind: Kind, where: Sequence[int], power: float, studies: int, rule: Rule) -> float:
    """Return the smallest difference, in margins, that is red with this power."""
    reference, change = kind.pairs(np.random.default_rng(2), studies, rule.most)
    low, high = 0.0, 3.0
    for _ in range(12):
        middle = (low + high) / 2
        moved = change.copy()
        moved[:, list(where)] -= middle
        reached = (judged(rule, moved, reference)[0] != PASSED).mean() >= power
        low, high = (low, middle) if reached else (middle, high)
    return high


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def main(path: Path, studies: int, rule: Rule) -> None:
    """Print the tables."""
    metrics = read_json(path)["values"]["metrics"]
    names, values = list(metrics), np.array([metrics[name]["values"] for name in metrics])
    margins = np.array([metrics[name]["margin"] for name in metrics])
    sds, between = values.std(1, ddof=1) / margins, np.corrcoef(values)
    print(_line(["metric", "mean", "blind", "margin", "sd of a seed", "sd in margins"]) + "\n" + "|---" * 6 + "|")
    for name, each, sd in zip(names, values, sds, strict=True):
        cells = (each.mean(), metrics[name]["floor"], metrics[name]["margin"], each.std(ddof=1), sd)
        print(_line([display_name(name), *(f"{cell:.3g}" for cell in cells)]))

    everywhere, worst = list(range(len(names))), int(np.argmax(sds))
    kinds = {f"{noise}, pairs {paired:g}": Kind(sds=sds, between=between, paired=paired, noise=noise)
             for noise in NOISES for paired in PAIRED}  # fmt: skip
    kinds[f"normal, every sd {LARGEST_SD:g} margins"] = Kind(sds=np.full(len(names), LARGEST_SD), between=between)
    head = ["noise, correlation of pairs", "worse", *(f"d = {difference:g}" for difference in DIFFERENCES)]
    print("\nRed (mean number of seeds), by the true difference in margins\n")
    print(_line(head) + "\n" + "|---" * len(head) + "|")
    for name, kind in kinds.items():
        for label, where in (("all", everywhere), (f"{display_name(names[worst])} alone", [worst])):
            print(_line([name, label, *row(kind, where, studies, rule)]), flush=True)

    reference = np.broadcast_to((values - values.mean(1, keepdims=True)) / margins[:, None], (studies, *values.shape))
    own = Kind(sds=sds, between=between)
    ends, taken = judged(rule, own.draw(np.random.default_rng(3), studies, rule.most), reference)
    print(
        f"\nBeside this very reference, d = 0, pairs 0: red {100 * (ends != PASSED).mean():.2f} % ({taken.mean():.1f})\n"
    )

    head = ["metric alone", "pairs", "found with 90 %", "with 95 %", "in margins"]
    print(_line(head) + "\n" + "|---" * len(head) + "|")
    for place, name in enumerate(names):
        for paired in PAIRED:
            kind = Kind(sds=sds, between=between, paired=paired)
            powers = [found(kind, [place], power, studies, rule) for power in (0.9, 0.95)]
            cells = [f"{paired:g}", *(f"{each * margins[place]:.3g}" for each in powers)]
            print(_line([display_name(name), *cells, ", ".join(f"{each:.2f}" for each in powers)]), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--studies", type=int, default=20_000)
    parser.add_argument("--reference", type=Path, default=Path(FOLDER) / "cpu-x86_64" / "git" / "quality.json")
    arguments = parser.parse_args()
    main(arguments.reference, arguments.studies, Rule())
