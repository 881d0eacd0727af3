"""A verdict: what the runs of a study say about one claim, as a value."""

from __future__ import annotations

from dataclasses import dataclass

from gitbench.spec import Claim

SUPPORTED, REFUTED, INCONCLUSIVE = "SUPPORTED", "REFUTED", "INCONCLUSIVE"
INCOMPLETE = "INCOMPLETE"  # runs are missing
NOT_TESTABLE = "NOT TESTABLE AT THIS SCALE"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the runs say about one claim. Differences are in the metric's own unit and sign (`gitbench.judge.statistics`)."""

    claim: Claim
    word: str
    reason: str  # why this word, one clause
    treatment: str  # label of the arm
    reference: str
    treatment_mean: float | None = None
    reference_mean: float | None = None
    difference: float | None = None
    differences: tuple[float, ...] = ()  # by replicate
    interval: tuple[float, float] | None = None  # two-sided 95 %
    bounds: tuple[float, float] | None = None  # one-sided 95 % each; these decide
    margin: float | None = None  # in the metric's unit
    floor: float | None = None
    ceiling: float | None = None
    n: int = 0
    p: float | None = None  # of the test that would support the claim, unadjusted
    p_holm: float | None = None  # the same, adjusted over the claims of the ablation; below 5 %: SUPPORTED
    p_refute: float | None = None  # of the test that would refute it, unadjusted
    p_refute_holm: float | None = None
    family_size: int = 1  # claims that were adjusted together
    p_sign_flip: float | None = None  # exact check of the same hypothesis (one-sided), without normality
    sign_flip_needs: int | None = None  # replicates below which the exact test cannot reach 5 %
    further_seeds: int | None = None  # INCONCLUSIVE only; None there means more than 1000
    further_seconds: float | None = None  # what they take on the machine of the runs, as many at a time as it runs
    notes: tuple[str, ...] = ()
    sequential: bool = False  # bounds, interval and p are those that stay valid when seeds are added after looking
    looks: int = 0  # how often the study was looked at while seeds were added
