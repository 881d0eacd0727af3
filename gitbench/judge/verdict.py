"""A verdict: what the runs of a study say about one claim, as a value. Two words: of the difference, and of the claim."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gitbench.spec import Claim


@dataclass(frozen=True, kw_only=True)
class ImageError:
    """What the choice of test images adds to the covariance of two weighted sums of arms, and how many images there are."""

    count: int
    covariance: tuple[tuple[float, float], tuple[float, float]]


SUPPORTED, REFUTED, INCONCLUSIVE = "SUPPORTED", "REFUTED", "INCONCLUSIVE"
INCOMPLETE = "INCOMPLETE"  # runs are missing
NOT_TESTABLE = "NOT TESTABLE AT THIS SCALE"

# What is seen of a difference, m being the margin; each is what its 95 % interval lies in.
BETTER = "BETTER"  # above m
BETTER_BELOW = "BETTER BUT BELOW THE MARGIN"  # between 0 and m
BETTER_OPEN = "BETTER, PERHAPS BELOW THE MARGIN"  # above 0
EQUIVALENT = "EQUIVALENT"  # between -m and m
NOT_BETTER = "NOT BETTER BY THE MARGIN"  # below m
NOT_WORSE = "NOT WORSE BY THE MARGIN"  # above -m
WORSE_OPEN = "WORSE, PERHAPS BELOW THE MARGIN"  # below 0
WORSE_BELOW = "WORSE BUT BELOW THE MARGIN"  # between -m and 0
WORSE = "WORSE"  # below -m
OPEN = "UNDECIDED"

# What the word by the test likelihood is to that by the claim's own metric.
AGREE = "agree"  # both SUPPORTED, or both REFUTED
CONTRADICT = "contradict"  # one SUPPORTED, one REFUTED
ONE_DECIDES = "one decides"  # the other is open, or cannot be tested
NEITHER = "neither decides"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of a trend, from an arm to the next, or a positive control: in the metric's unit, with a 95 % interval."""

    treatment: str
    reference: str
    difference: float
    interval: tuple[float, float] | None


@dataclass(frozen=True, kw_only=True)
class Collapse:
    """How many seeds of an arm learned less than half of what its typical seed learned, and how many may (95 %)."""

    arm: str
    seeds: tuple[int, ...]  # the replicates that did
    n: int
    low: float  # one-sided 95 % bounds of the rate
    high: float


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the runs say about one claim. Differences are in the metric's own unit and sign (`gitbench.judge.effects`)."""

    claim: Claim
    word: str
    reason: str  # why this word, one clause
    treatment: str  # label of the arm
    reference: str
    arms: tuple[str, ...] = ()  # those that it rests on: the claim's, the base and the blind floor
    finding: str = ""  # what is seen of the difference; "" where nothing could be tested
    mean_finding: str = (
        ""  # the same of the mean alone, and of the typical seed alone: where they differ, a claim is open
    )
    typical_finding: str = ""
    difference: float | None = None  # mean over seeds
    differences: tuple[float, ...] = ()  # by replicate
    replicates: tuple[int, ...] = ()
    typical: float | None = None  # their median, the typical seed's difference
    typical_interval: tuple[float, float] | None = None  # its 95 % interval, for other seeds and images: decides too
    ahead: int = 0  # seeds in which the treatment is the better one (of a trend: goes in its direction)
    ahead_interval: tuple[float, float] | None = None  # exact 95 % interval of P(treatment ahead)
    interval: tuple[float, float] | None = None  # 95 % interval of the mean, for other seeds and images: decides
    plain_interval: tuple[float, float] | None = None  # Student's, for other seeds alone, variance as found
    share: float | None = None  # the difference as a share of what the base arm learned
    share_interval: tuple[float, float] | None = (
        None  # 95 %, the noise of base and blind floor included; decides about m
    )
    margin: float | None = None  # in the metric's unit
    learned: float | None = None  # the base arm's mean less the blind floor's, more is better
    floor: float | None = None
    ceiling: float | None = None
    n: int = 0
    images: int | None = None  # test images that the interval allows for; None: it holds for these alone
    image_errors: Mapping[str, ImageError] = field(default_factory=dict)  # by the name of an effect: to judge again
    image_share: float | None = None  # of the variance of the mean that is due to the choice of images
    raised: float = 1.0  # standard deviation used / as found (moderated)
    p: float | None = None  # to support the claim, unadjusted; one-sided, below 2.5 % counts
    p_holm: float | None = None  # adjusted over the claims of the ablation; below 2.5 %: SUPPORTED
    p_refute: float | None = None
    p_refute_holm: float | None = None
    family_size: int = 1  # claims that were adjusted together
    hangs_on: tuple[int, ...] = ()  # replicates without any one of which the word would not be reached
    control: Step | None = None  # the positive control's gain
    steps: tuple[Step, ...] = ()  # of a trend
    collapses: tuple[Collapse, ...] = ()  # an arm each
    further_seeds: int | None = None  # INCONCLUSIVE only; None there means more than 1000
    further_seconds: float | None = None  # what they take on the machine of the runs, as many at a time as it runs
    notes: tuple[str, ...] = ()
    sequential: bool = False  # interval and p are those that stay valid when seeds are added after looking
    looks: int = 0  # how often the study was looked at while seeds were added
    # of the same claim by the test likelihood; None where the claim is about that, or runs are missing
    likelihood: Verdict | None = None

    @property
    def agreement(self) -> str:
        """What the word by the test likelihood is to this one: AGREE, CONTRADICT, ...; "" where there is none."""
        if self.likelihood is None:
            return ""
        decided = [word for word in (self.word, self.likelihood.word) if word in (SUPPORTED, REFUTED)]
        if len(decided) < 2:
            return ONE_DECIDES if decided else NEITHER
        return AGREE if decided[0] == decided[1] else CONTRADICT
