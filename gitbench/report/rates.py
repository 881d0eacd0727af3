"""The learning rates of a study's arms: what they were chosen from, by what, and whether a comparison depends on them.

The numbers are validation likelihoods of tuning runs (`gitbench.study.rates`), nats per token, as the plan holds them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gitbench.formats import plural, signed
from gitbench.judge.effects import claim_weights
from gitbench.judge.likelihood import by_likelihood
from gitbench.metric_info import orientation
from gitbench.plan import ArmRate, Plan
from gitbench.report.tables import NONE, Cell
from gitbench.spec import Claim

_SIDES = {  # what a claim's difference is called: above its margin, within it, below it
    "interaction": ("greater", "within", "smaller"),
    "trend": ("its way", "within", "the other way"),
}


@dataclass(frozen=True, kw_only=True)
class ClaimAtRates:
    """What a claim is about in validation likelihood, with all arms at one factor, and with each at its own.

    A cell says on which side of the claim's margin the difference lies, and what share it is of what the base arm learned
    at those rates; `depends`: the side is not the same everywhere.
    """

    claim: Claim
    cells: tuple[str, ...]
    own: str
    margin: str
    depends: bool


@dataclass(frozen=True, kw_only=True)
class LearningRates:
    """What a report says of learning rates: one sentence or two, and tables where the arms have rates of their own."""

    said: str
    short: str = ""  # for a caption; "": nothing to say
    grid: tuple[float, ...] = ()
    arms: tuple[tuple[str, tuple[Cell, ...]], ...] = ()  # (arm, mean likelihood at each factor, the chosen one bold)
    claims: tuple[ClaimAtRates, ...] = ()

    @classmethod
    def of(cls, plan: Plan, title: Callable[[str], str]) -> LearningRates:
        """Take it from a plan; `title` is what people call an arm."""
        rates, common = plan.rates, "All arms were trained at the profile's rates"
        if rates is None:
            return cls(said=f"{common}: the profile has no grid to choose from.")
        if plan.cfg_options and not rates.arms:
            return cls(said=f"{common}: runs that --cfg-options change are not tuned.")
        if not rates.arms:
            return cls(said=f"{common} (--rates shared).", short="All arms at the profile's rates (--rates shared).")
        seeds = len({trial.seed for arm in rates.arms for trial in arm.trials})
        grid = ", ".join(f"{factor:g}" for factor in rates.grid)
        said = (
            f"Each arm was trained at learning rates of its own: of {grid} times the profile's (encoder {rates.lr_encoder:g}, "
            f"decoder {rates.lr_decoder:g}) those with the best validation likelihood, mean of {plural(seeds, 'tuning seed')} "
            "that no study has. They were chosen before the study's runs, and no test image was looked at."
        )
        if ends := [title(arm.arm) for arm in rates.arms if rates.at_an_end(arm)]:
            said += f" The grid ends at the rates of {', '.join(ends)}: beyond it there may be better ones."
            if concerned := [claim.name for claim in plan.claims if at_grid_end(plan, claim)]:
                said += f" That concerns {', '.join(concerned)}."
        return cls(
            said=said,
            short="Each arm at learning rates of its own, chosen on the validation likelihood.",
            grid=rates.grid,
            arms=tuple((arm.arm, _cells(arm, rates.grid)) for arm in rates.arms),
            claims=tuple(_at_rates(claim, plan) for claim in plan.claims),
        )

    @property
    def dependent(self) -> tuple[str, ...]:
        """The claims whose difference is on another side of the margin at other rates."""
        return tuple(each.claim.name for each in self.claims if each.depends)


def at_grid_end(plan: Plan, claim: Claim) -> list[str]:
    """Return the arms that a claim compares whose learning rates are the grid's smallest or largest."""
    rates = plan.rates
    return [arm.arm for arm in rates.arms if arm.arm in claim_weights(claim) and rates.at_an_end(arm)] if rates else []


def _cells(arm: ArmRate, grid: Sequence[float]) -> tuple[Cell, ...]:
    means = [(factor, arm.val_nll(factor)) for factor in grid]
    return tuple(
        Cell(text="diverged" if mean is None else f"{mean:.3f}", bold=factor == arm.factor) for factor, mean in means
    )


def _at_rates(claim: Claim, plan: Plan) -> ClaimAtRates:
    """Return where a claim's difference lies, as the judge weighs it by likelihood (of a trend: from first to last arm)."""
    turned, factors = by_likelihood(claim), plan.rates.grid if plan.rates else ()
    found = [_side(turned, plan, factor) for factor in (None, *factors)]
    own, *cells = (text for _, text in found)
    sides = {side for side, _ in found if side}
    margin = f"{100 * turned.margin:g} %"
    return ClaimAtRates(claim=claim, cells=tuple(cells), own=own, margin=margin, depends=len(sides) > 1)


def _side(claim: Claim, plan: Plan, factor: float | None) -> tuple[str, str]:
    """Return the side of the margin at a factor (None: each arm's own), and the cell; "" where there is none."""
    arms, floor = {arm.arm: arm for arm in plan.tuned}, next(arm.name for arm in plan.arms if arm.role == "floor")
    weights, learned = claim_weights(claim), {floor: 1.0, plan.base: -1.0}
    trials = {
        name: [each.val_nll for each in arms[name].trials if each.factor == (factor or arms[name].factor)]
        for name in (*weights, *learned)
    }
    if not all(trials.values()) or any(None in each for each in trials.values()):
        return "", NONE
    difference, base = orientation(claim) * _sum(weights, trials), _sum(learned, trials)
    if base.mean() <= 0:
        return "", "the base arm learned nothing"
    share = float(difference.mean() / base.mean())
    above, within, below = _SIDES.get(claim.kind, ("better", "within", "worse"))
    side = above if share > claim.margin else below if share < -claim.margin else within
    text = f"{side}, {signed(100 * share, 0)} %"
    if len(base) > 1 and base.min() > 0:
        ends = [signed(100 * each, 0) for each in sorted(difference / base)]
        text += f" ({ends[0]} to {ends[-1]})"
    return side, text


def _sum(weights: Mapping[str, float], trials: Mapping[str, Sequence[float | None]]) -> np.ndarray:
    """Return a weighted sum of arms, a value a tuning seed."""
    return np.sum([weight * np.array(trials[arm], dtype=float) for arm, weight in weights.items()], axis=0)
