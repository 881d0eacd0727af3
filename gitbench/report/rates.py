"""The learning rates of a study's arms: what they were chosen from, by what, and whether a comparison depends on them.

The numbers are validation likelihoods of tuning runs (`gitbench.study.rates`), nats per token, as the plan holds them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gitbench.formats import digits, plural, signed
from gitbench.judge.effects import claim_weights
from gitbench.plan import ArmRate, Plan
from gitbench.report.tables import NONE, Cell
from gitbench.spec import Claim


@dataclass(frozen=True, kw_only=True)
class ClaimAtRates:
    """The difference that a claim is about, at each common factor and at each arm's own; `depends`: its sign does."""

    claim: Claim
    cells: tuple[str, ...]
    own: str
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
        return cls(
            said=said,
            short="Each arm at learning rates of its own, chosen on the validation likelihood.",
            grid=rates.grid,
            arms=tuple((arm.arm, _cells(arm, rates.grid)) for arm in rates.arms),
            claims=tuple(_at_rates(claim, plan) for claim in plan.claims),
        )

    @property
    def dependent(self) -> tuple[str, ...]:
        """The claims whose difference has another sign at other rates."""
        return tuple(each.claim.name for each in self.claims if each.depends)


def _cells(arm: ArmRate, grid: Sequence[float]) -> tuple[Cell, ...]:
    means = [(factor, arm.val_nll(factor)) for factor in grid]
    return tuple(
        Cell(text="diverged" if mean is None else f"{mean:.3f}", bold=factor == arm.factor) for factor, mean in means
    )


def _at_rates(claim: Claim, plan: Plan) -> ClaimAtRates:
    """Return the differences of a claim in validation likelihood: as the claim weighs its arms, less is better."""
    arms, weights = {arm.arm: arm for arm in plan.tuned}, claim_weights(claim)

    def difference(factor: float | None) -> float | None:
        means = {name: arms[name].val_nll(factor or arms[name].factor) for name in weights}
        known = {name: mean for name, mean in means.items() if mean is not None}
        return sum(weights[name] * mean for name, mean in known.items()) if len(known) == len(means) else None

    own, common = difference(None), [difference(factor) for factor in (plan.rates.grid if plan.rates else ())]
    known = [each for each in (own, *common) if each is not None]
    places = max(3, digits(known))
    texts = [NONE if each is None else signed(each, places) for each in (own, *common)]
    return ClaimAtRates(
        claim=claim, own=texts[0], cells=tuple(texts[1:]), depends=min(known) < 0 < max(known) if known else False
    )
